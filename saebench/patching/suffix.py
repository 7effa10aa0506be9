"""The part of a forward pass that an edit can change, and nothing else. docs/methods.md §2.

Causal attention keeps everything before the first edited token, and every layer before the first
edited one, as it was in the clean run. A patched pass therefore starts at that layer with the clean
residual stream of the remaining tokens, attends to the clean keys and values of the tokens before,
and unembeds the last token alone. It runs the model's own modules, so that every hook point, every
architecture and every gradient works as in a full pass.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import Cache

from saebench.models.language_model import LanguageModel
from saebench.models.memory import Budget, Cost, Scratch
from saebench.patching.capture import blocks_before
from saebench.patching.clean import CleanRun, CleanRuns
from saebench.patching.overhead import spare_tokens
from saebench.patching.placement import Hook, Placement, hooked, reader, writers
from saebench.patching.prefix_cache import KeysValues, prefix_cache
from saebench.patching.sharing import forward
from saebench.patching.swap import replaced, skipped
from saebench.patching.whole_runs import WholeRuns

# Places of a block that come before its attention output; behind it the last block is pruned.
BEFORE_OUTPUT = ("hook_resid_pre", "hook_q", "hook_k", "hook_v")
Unembed = Callable[[Tensor], Tensor]


class SuffixPass:
    """Patched passes of prompts `tokens` that start where the first edit does.

    With `runs` they go on from those of the same prompts; without, clean runs are made as far as needed.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokens: Sequence[Sequence[int]],
        places: Sequence[Placement],
        budget: Budget,
        runs: WholeRuns | None = None,
    ) -> None:
        self.model = model
        self.places = [canonical(place, model.n_layers) for place in places]
        self.widths = [model.d_in(place.hook, place.head) for place in places]
        self.layer = min(place.layer for place in self.places)
        self.first = torch.stack([place.positions for place in self.places]).amin(0)
        self.runs = (
            CleanRuns(model, tokens, self.layer, self.first, budget) if runs is None else runs.at(self.layer)
        )
        unembed = model.bridge.unembed.original_component
        self._weight, bias = unembed.weight, unembed.bias
        # TransformerLens adds a bias of zeros, which costs a pass over all logits
        self._bias = bias if bias is not None and bool(bias.any()) else None
        self._scratch = Scratch()

    def logits(
        self, edited: Float[Tensor, "em d_in"], rows: Int[Tensor, "m"], scratch: Scratch | None = None
    ) -> Float[Tensor, "em vocab"]:
        """Logits at the last token of prompts `rows`, all of one of `parts`.

        `edited` holds any number of edits of all of them, one edit after the other. With
        `scratch` the logits last until the next call.
        """

        def unembed(last: Float[Tensor, "em d_model"]) -> Float[Tensor, "em vocab"]:
            if scratch is None or torch.is_grad_enabled():
                return nn.functional.linear(last, self._weight, self._bias)
            out = scratch.take("logits", (len(last), len(self._weight)), last)
            torch.mm(last, self._weight.T, out=out)
            return out if self._bias is None else out.add_(self._bias)

        return self._run(edited, rows, unembed)

    def token_logits(
        self, edited: Float[Tensor, "em d_in"], rows: Int[Tensor, "m"], wanted: Int[Tensor, "em k"]
    ) -> Float[Tensor, "em k"]:
        """The logits of a few tokens per row; only their rows of the unembedding are multiplied."""

        return self._run(edited, rows, self.unembedding(wanted))

    def unembedding(self, wanted: Int[Tensor, "em k"]) -> Unembed:
        """What turns the last norm's output into the logits of a few tokens per row."""

        def unembed(last: Float[Tensor, "em d_model"]) -> Float[Tensor, "em k"]:
            logits = torch.einsum("bd,bkd->bk", last, self._weight[wanted])
            return logits if self._bias is None else logits + self._bias[wanted]

        return unembed

    def parts(self, rows: Int[Tensor, "b"], edits: int = 1) -> Iterator[Int[Tensor, "k"]]:
        """Splits `rows`, each edited `edits` times, into passes; yields indices into `rows`.

        Prompts of one length whose first edited token is the same make a pass without waste.
        Such passes are merged where running what is padding takes less time than a pass of its
        own: for a small model, or few rows.
        """
        spare = spare_tokens(self.model, self.model.n_layers - self.layer)
        first, length = self.first[rows], self.runs.length[rows]
        keys = torch.stack([self.runs.chunk[rows], length, first], dim=1)
        kinds, kind, counts = keys.unique(dim=0, return_inverse=True, return_counts=True)
        members: list[int] = []
        size = start = stop = chunk = 0  # of the pass that is being put together
        for number, (in_chunk, end, begin) in enumerate(kinds.tolist()):
            count = int(counts[number]) * edits
            lowest = min(start, begin) if members else begin  # lengths rise, so `end` is highest
            padded = (size + count) * (end - lowest)
            apart = size * (stop - start) + count * (end - begin)
            if members and (in_chunk != chunk or padded > apart + spare):
                yield torch.isin(kind, torch.tensor(members)).nonzero()[:, 0]
                members, size, lowest = [], 0, begin
            members.append(number)
            size, start, stop, chunk = size + count, lowest, end, in_chunk
        yield torch.isin(kind, torch.tensor(members)).nonzero()[:, 0]

    def cost(self, rows: Int[Tensor, "m"]) -> Cost:
        """What one edit of one of the prompts takes, in a pass of all of them."""
        cfg, length = self.model.bridge.cfg, int(self.runs.length[rows].max())
        run = length - int(self.first[rows].min())
        token = 2 * (cfg.d_mlp or 4 * cfg.d_model) + 8 * cfg.d_model + 3 * cfg.n_heads * length
        keys_values = 2 * cfg.d_model * length
        return Cost(4 * (run * token + keys_values + 3 * self.model.d_vocab), run)

    def forget(self) -> None:
        """Drops the clean runs that are kept between calls."""
        self.runs.forget()

    def read(self, rows: Int[Tensor, "m"]) -> Float[Tensor, "m d_in"]:
        """Clean activations at the places of prompts `rows`, all of one of `parts`, side by side."""
        start, run, prefix = self._clean(rows)
        values: list[list[Tensor]] = [[] for _ in self.places]
        hooks = [self._injected(run.residual)]
        for place, into in zip(self.places, values, strict=True):
            hooks.append(reader(place, (place.positions[rows] - start).to(run.tokens.device), into))
        blocks = max(map(blocks_before, self.places))
        with skipped(list(self.model.bridge.blocks)[: self.layer], run.tuples):
            forward(self.model, run.tokens, start, prefix, blocks, hooks, self._scratch)
        return torch.cat([value[0] for value in values], dim=1).float()

    def _clean(self, rows: Tensor) -> tuple[int, CleanRun, list[KeysValues | None]]:
        """The first token of a pass, the clean run from there on, and keys and values before it, block by block."""
        start, stop = int(self.first[rows].min()), int(self.runs.length[rows].max())
        run = self.runs.of(rows, start, stop)
        before = run.prefix or [None] * (self.model.n_layers - self.layer)
        return start, run, [*[None] * self.layer, *before]

    def _injected(self, residual: Float[Tensor, "m t d_model"], times: int = 1) -> Hook:
        """A hook that hands the clean residual stream to the first edited block."""
        return f"blocks.{self.layer}.hook_in", lambda tensor, hook: residual.repeat(times, 1, 1)

    def _run(self, edited: Tensor, rows: Tensor, unembed: Unembed) -> Tensor:
        times, start = len(edited) // len(rows), int(self.first[rows].min())
        hooks = writers(self.places, rows.repeat(times), edited, self.widths, start)
        return self.patched(rows, times, hooks, unembed, self.places)[0]

    def patched(
        self,
        rows: Int[Tensor, "m"],
        times: int,
        hooks: Sequence[Hook],
        unembed: Unembed,
        written: Sequence[Placement],
        keep: bool = False,
    ) -> tuple[Tensor, Cache]:
        """What `unembed` makes of the last tokens of a pass with hooks, of prompts `rows` several times over.

        `written` are all places that the hooks write to. `keep` leaves the pass's own keys and values in the cache.
        """
        bridge, (start, run, before) = self.model.bridge, self._clean(rows)
        cache = prefix_cache(start, before, self._scratch, keep)
        last = _LastToken((self.runs.length[rows] - 1 - start).repeat(times), run.tokens)
        # what reads the stream in front of a block does so before anything is written there
        every = [self._injected(run.residual, times), *hooks]
        if run.tokens.shape[1] > 1:
            every += self._pruning(last, written)
        with (
            hooked(self.model, every),
            skipped(list(bridge.blocks)[: self.layer], run.tuples),
            replaced([bridge.unembed], lambda hidden: unembed(last(hidden)[:, 0])[:, None]),
        ):
            tokens = run.tokens.repeat(times, 1)
            return bridge(tokens, past_key_values=cache, use_cache=True)[:, 0], cache

    def _pruning(self, last: "_LastToken", written: Sequence[Placement]) -> list[Hook]:
        """Hooks that drop every token but the last behind the last block's attention.

        The block adds what is left to all of its tokens; only the last, where it is right, is
        unembedded.
        """
        final = self.model.n_layers - 1
        names = [f"blocks.{final}.attn.hook_z", f"blocks.{final}.mlp.hook_in"]
        late = any(place.layer == final and not place.hook.endswith(BEFORE_OUTPUT) for place in written)
        if late or any(name not in self.model.points for name in names):
            return []
        return [(name, lambda tensor, hook: last(tensor)) for name in names]


class _LastToken:
    """Picks every row's last token out of all that run: `[b, t, …]` → `[b, 1, …]`."""

    def __init__(self, index: Int[Tensor, "b"], tokens: Int[Tensor, "m t"]) -> None:
        # asked before the index moves to the device, which would have to be waited for
        self.padded = bool((index != tokens.shape[1] - 1).any())
        self.index = index.to(tokens.device)

    def __call__(self, tensor: Tensor) -> Tensor:
        if not self.padded or tensor.shape[1] == 1:
            last = tensor[:, -1:]
            # of strided rows torch makes a product a row; in float32 that is as fast, in bfloat16 every one of
            # them gets a copy of the weights
            return last if tensor.dtype == torch.float32 else last.contiguous()
        rows = torch.arange(len(tensor), device=tensor.device)
        return tensor[rows, self.index][:, None]


def canonical(place: Placement, n_layers: int) -> Placement:
    """The end of a block is the start of the next, which spares the block itself."""
    if place.hook.endswith("hook_resid_post") and place.layer + 1 < n_layers:
        return place._replace(hook=f"blocks.{place.layer + 1}.hook_resid_pre")
    return place
