"""Forward passes of many texts in which a prefix that several of them share runs once.

Causal attention keeps what stands before a token as it is, so every text goes on from the keys and values
of its prefix. docs/methods.md §2.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache

from saebench.models.language_model import LanguageModel
from saebench.models.memory import Budget, Cost, Scratch
from saebench.patching.overhead import spare_tokens
from saebench.patching.placement import Hook, hooked
from saebench.patching.prefix_cache import KeysValues, new_pairs, prefix_cache
from saebench.patching.prefixes import Text, shared_prefixes
from saebench.patching.rounding import UNFIT, allowed, difference
from saebench.patching.swap import replaced

Work = Callable[[Int[Tensor, "m"], Int[Tensor, "m t"], int, list[KeysValues]], None]
"""What is done with a batch: numbers of the texts, their tokens from a start on, the start, what lies before."""


@dataclass
class Trunk:
    """What distinct texts leave behind in the first blocks of a model; shorter ones are padded at the end."""

    index: dict[Text, int]
    pairs: list[KeysValues] = field(default_factory=list)
    """Keys and values `[texts heads t d_head]` of each block."""
    residual: Float[Tensor, "texts t d_model"] | None = None
    """The residual stream in front of one block, where it was asked for."""

    def before(self, prefixes: Sequence[Text]) -> list[KeysValues]:
        """Keys and values of texts of one length."""
        stop, at = len(prefixes[0]), self.places(prefixes)
        return [(keys[at, :, :stop], values[at, :, :stop]) for keys, values in self.pairs]

    def places(self, texts: Sequence[Text]) -> Int[Tensor, "m"]:
        """Where texts are in the stored values; 0 for those that are not."""
        return torch.tensor([self.index.get(text, 0) for text in texts])

    def put(self, rows: Tensor, start: int, pairs: Sequence[KeysValues], residual: Tensor | None) -> None:
        """Stores what some of the texts left behind from token `start` on."""
        longest = max(map(len, self.index))

        def room(like: Tensor, dim: int) -> Tensor:
            shape = [len(self.index), *like.shape[1:]]
            return like.new_zeros([longest if i == dim else size for i, size in enumerate(shape)])

        if not self.pairs:
            self.pairs = [(room(keys, 2), room(values, 2)) for keys, values in pairs]
        rows = rows.to(pairs[0][0].device)
        for kept, new in zip(self.pairs, pairs, strict=True):
            for into, value in zip(kept, new, strict=True):
                into[rows, :, start : start + value.shape[2]] = value
        if residual is not None:
            if self.residual is None:
                self.residual = room(residual, 1)
            self.residual[rows, start : start + residual.shape[1]] = residual


def forward(
    model: LanguageModel,
    tokens: Int[Tensor, "m t"],
    start: int,
    before: Sequence[KeysValues | None],
    blocks: int,
    hooks: Sequence[Hook],
    scratch: Scratch,
    keep: bool = False,
) -> tuple[Tensor, Cache | None]:
    """The first `blocks` blocks on texts whose tokens before `start` left `before` behind.

    Returns the residual stream behind them (behind the last norm if they are all) and, where it was
    needed, the cache.
    """
    bridge, cache, options = model.bridge, None, {}
    if start or keep:
        prefixes = [*before, *[None] * (model.n_layers - len(before))]
        cache = prefix_cache(start, prefixes, scratch, keep)
        options = {"past_key_values": cache, "use_cache": True}
    # past the last block nothing is to be stopped
    stop = blocks if blocks < model.n_layers else None
    with hooked(model, hooks), replaced([bridge.unembed], lambda hidden: hidden):
        return bridge(tokens.to(model.device), stop_at_layer=stop, **options), cache


def grow_trunk(
    model: LanguageModel, texts: Sequence[Text], blocks: int, budget: Budget, at: int | None = None
) -> Trunk:
    """Keys and values of distinct texts in the first `blocks` blocks; the residual stream before block `at`."""
    trunk = Trunk({text: i for i, text in enumerate(texts)})
    starts = cuts(model, texts, [len(text) for text in texts], blocks)
    below = trunk_below(model, texts, starts, blocks, budget, at)
    scratch = Scratch()

    def work(rows: Tensor, tokens: Tensor, start: int, before: list[KeysValues]) -> None:
        found: list[Tensor] = []
        hooks: list[Hook] = []
        if at is not None:
            hooks.append((f"blocks.{at}.hook_in", lambda tensor, hook: found.append(tensor.clone())))
        _, cache = forward(model, tokens, start, before, blocks, hooks, scratch, keep=True)
        assert cache is not None
        trunk.put(rows, start, new_pairs(cache), found[0] if found else None)
        if start:
            prefix = [texts[i][:start] for i in rows.tolist()]
            residual = None if below.residual is None else below.residual[below.places(prefix), :start]
            trunk.put(rows, 0, before, residual)

    each_batch(model, texts, starts, below, blocks, budget, work)
    return trunk


def trunk_below(
    model: LanguageModel,
    texts: Sequence[Text],
    starts: Sequence[int],
    blocks: int,
    budget: Budget,
    at: int | None = None,
) -> Trunk:
    """The trunk that texts go on from at their cuts."""
    prefixes = sorted({text[:start] for text, start in zip(texts, starts, strict=True) if start})
    return grow_trunk(model, prefixes, blocks, budget, at) if prefixes else Trunk({})


def each_batch(
    model: LanguageModel,
    texts: Sequence[Text],
    starts: Sequence[int],
    trunk: Trunk,
    blocks: int,
    budget: Budget,
    work: Work,
) -> None:
    """Calls `work` on batches of all texts from their cuts on, with what the trunk holds of the blocks."""
    width = sum(pair[0].shape[1] * pair[0].shape[3] for pair in trunk.pairs[:blocks]) * 2
    for start, length, rows in _batches(texts, starts, spare_tokens(model, blocks)):

        def some(block: slice, _: int, rows: Tensor = rows, start: int = start, length: int = length) -> None:
            part = rows[block]
            tokens = torch.zeros(len(part), length - start, dtype=torch.long)
            for row, i in zip(tokens, part.tolist(), strict=True):
                row[: len(texts[i]) - start] = torch.tensor(texts[i][start:])
            before: list[KeysValues] = []
            if start:
                kept = Trunk(trunk.index, trunk.pairs[:blocks])
                before = kept.before([texts[i][:start] for i in part.tolist()])
            work(part, tokens, start, before)

        cost = full_pass(model, length - start)
        budget.in_blocks(len(rows), cost._replace(bytes=cost.bytes + 4 * width * start), some)


def _batches(
    texts: Sequence[Text], starts: Sequence[int], spare: float
) -> Iterator[tuple[int, int, Int[Tensor, "m"]]]:
    """Start, longest length and numbers of the texts that run together.

    Texts of one start and several lengths do where running what is padding takes less time than a pass
    of its own.
    """
    kinds: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, (text, start) in enumerate(zip(texts, starts, strict=True)):
        kinds[start, len(text)].append(i)
    members: list[int] = []
    begin = end = 0
    for (start, length), some in sorted(kinds.items()):
        padding = len(members) * (length - end)
        if members and (start != begin or padding > spare):
            yield begin, end, torch.tensor(members)
            members = []
        members, begin, end = members + some, start, length
    if members:
        yield begin, end, torch.tensor(members)


def cuts(model: LanguageModel, texts: Sequence[Text], limits: Sequence[int], blocks: int) -> list[int]:
    """Where to cut each text, none of them where the model's passes cannot go on from a prefix."""
    if not shares(model, max(texts, key=len, default=())):
        return [0] * len(texts)
    return shared_prefixes(texts, limits, spare_tokens(model, blocks))


@torch.no_grad()
def shares(model: LanguageModel, text: Text) -> bool:
    """Whether a text that goes on from its first half ends where it does in one pass; tried once a model."""
    known = model.memo.get("shares")
    if known is None and len(text) > 1:
        known = model.memo["shares"] = _goes_on(model, text)
    return bool(known)


def _goes_on(model: LanguageModel, text: Text) -> bool:
    tokens, half, every = torch.tensor([text]), len(text) // 2, model.n_layers
    whole, _ = forward(model, tokens, 0, [], every, [], Scratch())
    try:
        _, cache = forward(model, tokens[:, :half], 0, [], every, [], Scratch(), keep=True)
        assert cache is not None
        rest, _ = forward(model, tokens[:, half:], half, new_pairs(cache), every, [], Scratch())
    except UNFIT:
        return False
    return difference(whole[:, -1], rest[:, -1]) <= allowed(whole[:, -1], model.dtype)


def keys_values_bytes(model: LanguageModel, blocks: int) -> int:
    """Memory of one token's keys and values in that many blocks."""
    heads = model.heads("blocks.0.attn.hook_k") or 1
    return 2 * model.dtype.itemsize * heads * model.bridge.cfg.d_head * blocks


def full_pass(model: LanguageModel, length: int, unembedded: int = 1) -> Cost:
    """What a full forward pass of one prompt takes, with that many of its tokens unembedded."""
    cfg = model.bridge.cfg
    token = 2 * (cfg.d_mlp or 4 * cfg.d_model) + 8 * cfg.d_model + 3 * cfg.n_heads * length
    return Cost(4 * (length * token + 2 * unembedded * model.d_vocab), length)
