"""The part of a forward pass that an edit can change, and nothing else. METHODS §7.

Causal attention keeps everything before the first edited token, and every layer before the first
edited one, as it was in the clean run. A patched pass therefore starts at that layer with the clean
residual stream of the remaining tokens, attends to the clean keys and values of the tokens before,
and unembeds the last token alone. It runs the model's own modules, so that every hook point, every
architecture and every gradient works as in a full pass.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from saebench.model import LanguageModel
from saebench.patching.capture import full_pass
from saebench.patching.memory import Budget, Cost, Scratch
from saebench.patching.placement import Hook, Placement, hooked, writers

# Places of a block that come before its attention output; behind it the last block is pruned.
BEFORE_OUTPUT = ("hook_resid_pre", "hook_q", "hook_k", "hook_v")


class CleanRun(NamedTuple):
    """What the clean run of a few prompts leaves behind for every later edit of them."""

    tokens: Int[Tensor, "m t"]
    """The tokens from the first edited one on."""
    residual: Float[Tensor, "m t d_model"]
    """Their residual stream in front of the first edited block."""
    prefix: list[tuple[Tensor, Tensor]]
    """Keys and values `[m heads p d_head]` of the tokens before, for each block from there on."""
    tuples: bool
    """Whether the model's blocks return tuples."""

    def of(self, index: Int[Tensor, "k"]) -> "CleanRun":
        """The run of some of the prompts; of all of them in order without a copy."""
        if torch.equal(index, torch.arange(len(self.tokens))):
            return self
        index = index.to(self.tokens.device)
        pairs = [(keys[index], values[index]) for keys, values in self.prefix]
        return CleanRun(self.tokens[index], self.residual[index], pairs, self.tuples)

    @property
    def nbytes(self) -> int:
        return sum(t.nbytes for t in (self.residual, *(t for pair in self.prefix for t in pair)))


class SuffixPass:
    """Patched passes of prompts `tokens` that start where the first edit does."""

    def __init__(
        self,
        model: LanguageModel,
        tokens: Sequence[Sequence[int]],
        places: Sequence[Placement],
        budget: Budget,
    ) -> None:
        self.model, self.tokens, self.budget = model, tokens, budget
        self.places = [_canonical(place, model.n_layers) for place in places]
        self.widths = [model.d_in(place.hook, place.head) for place in places]
        self.layer = min(place.layer for place in self.places)
        self.start = torch.stack([place.positions for place in self.places]).amin(0)
        self.groups = self._make_groups()
        self._where = torch.empty(len(tokens), 2, dtype=torch.long)  # group, index in it
        for number, group in enumerate(self.groups):
            self._where[group, 0] = number
            self._where[group, 1] = torch.arange(len(group))
        unembed = model.bridge.unembed.original_component
        self._weight, bias = unembed.weight, unembed.bias
        # TransformerLens adds a bias of zeros, which costs a pass over all logits
        self._bias = bias if bias is not None and bool(bias.any()) else None
        self._scratch = Scratch()
        self._kept: dict[int, CleanRun] = {}
        self._latest: tuple[int, CleanRun] | None = None

    def logits(
        self,
        edited: Float[Tensor, "em d_in"],
        rows: Int[Tensor, "m"],
        scratch: Scratch | None = None,
    ) -> Float[Tensor, "em vocab"]:
        """Logits at the last token of prompts `rows`, all of one of `groups`.

        `edited` holds any number of edits of all of them, one edit after the other. With
        `scratch` the logits last until the next call.
        """

        def unembed(hidden: Float[Tensor, "em t d_model"]) -> Float[Tensor, "em 1 vocab"]:
            last = hidden[:, -1]  # two dimensions: torch multiplies a slice of three row by row
            if scratch is None or torch.is_grad_enabled():
                return nn.functional.linear(last, self._weight, self._bias)[:, None]
            out = scratch.take("logits", (len(last), len(self._weight)), last)
            torch.mm(last, self._weight.T, out=out)
            return (out if self._bias is None else out.add_(self._bias))[:, None]

        return self._run(edited, rows, unembed)

    def token_logits(
        self,
        edited: Float[Tensor, "em d_in"],
        rows: Int[Tensor, "m"],
        wanted: Int[Tensor, "em k"],
    ) -> Float[Tensor, "em k"]:
        """The logits of a few tokens per row; only their rows of the unembedding are multiplied."""

        def unembed(hidden: Float[Tensor, "em t d_model"]) -> Float[Tensor, "em 1 k"]:
            logits = torch.einsum("bd,bkd->bk", hidden[:, -1], self._weight[wanted])
            return (logits if self._bias is None else logits + self._bias[wanted])[:, None]

        return self._run(edited, rows, unembed)

    def _run(self, edited: Tensor, rows: Tensor, unembed: Callable[..., Tensor]) -> Tensor:
        from saebench.patching.prefix_cache import prefix_cache

        bridge, times = self.model.bridge, len(edited) // len(rows)
        run = self._clean(int(self._where[rows[0], 0])).of(self._where[rows, 1])
        start, skipped = int(self.start[rows[0]]), list(bridge.blocks)[: self.layer]

        def inject(tensor: Tensor, hook: Any) -> Tensor:
            return run.residual.repeat(times, 1, 1)

        hooks: list[Hook] = [(f"blocks.{self.layer}.hook_in", inject)]
        hooks += writers(self.places, rows.repeat(times), edited, self.widths, start)
        if run.tokens.shape[1] > 1:
            hooks += self._pruning()
        with (
            hooked(self.model, hooks),
            _skipping(skipped, run.tuples),
            _replaced([bridge.unembed], unembed),
        ):
            return bridge(
                run.tokens.repeat(times, 1),
                past_key_values=prefix_cache(
                    start, [None] * self.layer + run.prefix, self._scratch
                ),
                use_cache=True,
                logits_to_keep=1,
            )[:, -1]

    def cost(self, row: int) -> Cost:
        """What one edit of prompt `row` takes."""
        cfg, length = self.model.bridge.cfg, len(self.tokens[row])
        run = length - int(self.start[row])
        token = 2 * (cfg.d_mlp or 4 * cfg.d_model) + 8 * cfg.d_model + 3 * cfg.n_heads * length
        keys_values = 2 * cfg.d_model * length
        return Cost(4 * (run * token + keys_values + 3 * self.model.d_vocab), run)

    def forget(self) -> None:
        """Drops the clean runs that are kept between calls."""
        self._kept.clear()
        self._latest = None

    def _make_groups(self) -> list[Int[Tensor, "m"]]:
        """Prompts of the same length whose first edited token has the same index.

        A group's clean run takes at most an eighth of the budget, so that groups are not too
        large to be kept or dropped one by one.
        """
        keys: dict[tuple[int, int], list[int]] = {}
        for i, prompt in enumerate(self.tokens):
            keys.setdefault((len(prompt), int(self.start[i])), []).append(i)
        groups = []
        for (length, start), rows in sorted(keys.items()):
            cfg = self.model.bridge.cfg
            layers = cfg.n_layers - self.layer
            each = self.model.dtype.itemsize * cfg.d_model * (length - start + 2 * layers * start)
            size = max(1, min(self.budget.limit, self.budget.bytes // 8 // each))
            groups += torch.tensor(rows).split(size)
        return groups

    def _pruning(self) -> list[Hook]:
        """Hooks that drop every token but the last behind the last block's attention.

        The block adds what is left to all of its tokens; only the last, where it is right, is
        unembedded.
        """
        last = self.model.n_layers - 1
        names = [f"blocks.{last}.attn.hook_z", f"blocks.{last}.mlp.hook_in"]
        late = any(
            place.layer == last and not place.hook.endswith(BEFORE_OUTPUT) for place in self.places
        )
        if late or any(name not in self.model.points for name in names):
            return []

        def narrow(tensor: Tensor, hook: Any) -> Tensor:
            return tensor[:, -1:]

        return [(name, narrow) for name in names]

    def _clean(self, number: int) -> CleanRun:
        """The clean run of a group, kept between calls while the budget lasts."""
        if number in self._kept:
            return self._kept[number]
        if self._latest and self._latest[0] == number:
            return self._latest[1]
        run = self._run_clean(self.groups[number])
        if run.nbytes + sum(kept.nbytes for kept in self._kept.values()) <= self.budget.bytes // 4:
            self._kept[number] = run
        else:
            self._latest = (number, run)
        return run

    @torch.no_grad()
    def _run_clean(self, group: Int[Tensor, "m"]) -> CleanRun:
        start, device = int(self.start[group[0]]), self.model.device
        tokens = torch.tensor([self.tokens[i] for i in group.tolist()], device=device)
        parts: list[CleanRun] = []

        def work(block: slice, _: int) -> None:
            parts.append(self._run_clean_block(tokens[block], start))

        cost = full_pass(self.model, tokens.shape[1])
        cache = 8 * self.model.n_layers * self.model.d_model * tokens.shape[1]
        self.budget.in_blocks(len(group), cost._replace(bytes=cost.bytes + cache), work)
        if len(parts) == 1:
            return parts[0]
        return CleanRun(
            torch.cat([part.tokens for part in parts]),
            torch.cat([part.residual for part in parts]),
            [
                (torch.cat([k for k, _ in pairs]), torch.cat([v for _, v in pairs]))
                for pairs in zip(*(part.prefix for part in parts), strict=True)
            ],
            parts[0].tuples,
        )

    def _run_clean_block(self, tokens: Int[Tensor, "m length"], start: int) -> CleanRun:
        from transformers import DynamicCache

        bridge, found, kinds = self.model.bridge, [], []
        cache = DynamicCache()
        handle = bridge.blocks[0].register_forward_hook(
            lambda block, args, output: kinds.append(isinstance(output, tuple))
        )
        read = (f"blocks.{self.layer}.hook_in", lambda t, hook: found.append(t[:, start:].clone()))
        try:
            with hooked(self.model, [read]), _replaced([bridge.unembed], lambda hidden: hidden):
                bridge(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        finally:
            handle.remove()
        layers: list[Any] = cache.layers[self.layer :]
        # copies, since a slice would keep the whole run alive
        prefix = [
            (layer.keys[:, :, :start].clone(), layer.values[:, :, :start].clone())
            for layer in layers
        ]
        return CleanRun(tokens[:, start:], found[0], prefix, kinds[0])


def _canonical(place: Placement, n_layers: int) -> Placement:
    """The end of a block is the start of the next, which spares the block itself."""
    if place.hook.endswith("hook_resid_post") and place.layer + 1 < n_layers:
        return place._replace(hook=f"blocks.{place.layer + 1}.hook_resid_pre")
    return place


@contextlib.contextmanager
def _replaced(modules: Sequence[nn.Module], forward: Callable[..., Any]) -> Iterator[None]:
    """Gives modules another forward pass for a while; the modules stay where they are.

    Set in the instance's dictionary, since bridge components pass attributes on to what they wrap.
    """
    for module in modules:
        module.__dict__["forward"] = forward
    try:
        yield
    finally:
        for module in modules:
            del module.__dict__["forward"]


def _skipping(blocks: Sequence[nn.Module], tuples: bool) -> contextlib.AbstractContextManager[None]:
    """Makes blocks hand their input on. They keep their places in the list of blocks, because
    some models choose a block's mask by its index."""

    def skip(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        return (hidden_states,) if tuples else hidden_states

    return _replaced(blocks, skip)
