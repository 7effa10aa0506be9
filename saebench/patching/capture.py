"""Clean activations at any number of sites, read in one pass over the prompts."""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.cache.tensors import cached
from saebench.errors import SiteError
from saebench.models.language_model import LanguageModel
from saebench.models.memory import Budget, Scratch
from saebench.patching.placement import Placement, check, reader
from saebench.patching.prefix_cache import KeysValues
from saebench.patching.prefixes import Text
from saebench.patching.sharing import cuts, each_batch, forward, keys_values_bytes, trunk_below

K = TypeVar("K", bound=Hashable)
_Key = tuple[Text, tuple[int, ...]]
"""A prompt up to its last place, and where its places are."""


def remembered(
    model: LanguageModel, tokens: Sequence[Sequence[int]], places: Mapping[K, Placement]
) -> dict[K, Float[Tensor, "n d_in"]]:
    """`capture`, kept in the cache: a task's own activations are the same in every process."""
    where = [(place.hook, place.positions.tolist(), place.head) for place in places.values()]
    texts = [list(text) for text in tokens]

    def make() -> dict[str, Tensor]:
        return {str(i): acts for i, acts in enumerate(capture(model, tokens, places).values())}

    found = cached("activations", [model.made_from, texts, where], make, model.device)
    return {key: found[str(i)] for i, key in enumerate(places)}


@torch.no_grad()
def capture(
    model: LanguageModel,
    tokens: Sequence[Sequence[int]],
    places: Mapping[K, Placement],
    *,
    budget: Budget | None = None,
) -> dict[K, Float[Tensor, "n d_in"]]:
    """Activations at every place, prompts of equal length together.

    Nothing is run that cannot be seen there: no block behind the last place, no token behind it, no
    prompt twice, and a prefix that several prompts share before their first place once. Activations are
    float32 whatever the model computes in: what is measured on them sums over thousands.

    Raises:
        SiteError: if the model lacks a hook point, or a position lies outside its prompt.
    """
    check(model, tokens, list(places.values()))
    if not len(tokens):
        return {key: torch.empty(0, model.d_in(place.hook, place.head)) for key, place in places.items()}
    budget = budget or model.budget
    positions = torch.stack([place.positions for place in places.values()], dim=1)
    distinct = _distinct(tokens, positions)
    blocks = max(map(blocks_before, places.values()))
    each = int(positions.max()) * keys_values_bytes(model, blocks)
    keys, rows = list(distinct), torch.arange(len(distinct))
    parts: list[list[Tensor]] = []
    # neighbours in order share most; what they share takes an eighth of the memory
    for chunk in rows.split(max(1, budget.bytes // 8 // max(1, each))):
        some = [keys[i] for i in chunk.tolist()]
        parts.append(_read(model, some, list(places.values()), blocks, budget))
    back = torch.empty(len(tokens), dtype=torch.long)
    for number, same in enumerate(distinct.values()):
        back[same] = number
    values = [torch.cat(some) for some in zip(*parts, strict=True)]
    return {key: value[back.to(value.device)] for key, value in zip(places, values, strict=True)}


def _read(
    model: LanguageModel, prompts: Sequence[_Key], places: Sequence[Placement], blocks: int, budget: Budget
) -> list[Float[Tensor, "m d_in"]]:
    """Activations of some distinct prompts at every place."""
    texts, at = [text for text, _ in prompts], torch.tensor([where for _, where in prompts])
    starts = cuts(model, texts, at.amin(1).tolist(), blocks)
    trunk, scratch = trunk_below(model, texts, starts, blocks, budget), Scratch()
    out = [torch.empty(len(texts), model.d_in(p.hook, p.head), device=model.device) for p in places]

    def work(rows: Tensor, batch: Tensor, start: int, before: list[KeysValues]) -> None:
        seen: list[list[Tensor]] = [[] for _ in places]
        hooks = [
            reader(place, (at[rows, number] - start).to(model.device), seen[number])
            for number, place in enumerate(places)
        ]
        forward(model, batch, start, before, blocks, hooks, scratch)
        for place, value, into in zip(places, seen, out, strict=True):
            if not value:
                raise SiteError(
                    f"{model.name} has {place.hook} and never computes it. Expected a hook point of its"
                    " forward pass."
                )
            into[rows.to(model.device)] = value[0].float()

    each_batch(model, texts, starts, trunk, blocks, budget, work)
    return out


def remembered_beside(
    model: LanguageModel, tokens: Sequence[Sequence[int]], places: Sequence[Placement]
) -> Float[Tensor, "n d_in"]:
    """Activations at several places, side by side in their order, kept in the cache."""
    found = remembered(model, tokens, dict(enumerate(places)))
    return torch.cat([found[i] for i in range(len(places))], dim=1)


def blocks_before(place: Placement) -> int:
    """How many blocks have to run, the last perhaps in part, before the place is computed."""
    return place.layer + (not place.hook.endswith("hook_resid_pre"))


def _distinct(tokens: Sequence[Sequence[int]], positions: Int[Tensor, "n places"]) -> dict[_Key, list[int]]:
    """What has to be run, in order, and which prompts each is."""
    rows: dict[_Key, list[int]] = defaultdict(list)
    for i, (prompt, at) in enumerate(zip(tokens, positions.tolist(), strict=True)):
        rows[tuple(prompt[: max(at) + 1]), tuple(at)].append(i)
    return {key: rows[key] for key in sorted(rows)}


def by_length(tokens: Sequence[Sequence[int]]) -> dict[int, Tensor]:
    """Indices of the prompts of each length, shortest first."""
    groups: dict[int, list[int]] = defaultdict(list)
    for i, prompt in enumerate(tokens):
        groups[len(prompt)].append(i)
    return {length: torch.tensor(groups[length]) for length in sorted(groups)}
