"""Any subset of some places patched: the joint effect of many sets of sites, each near one that is known."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saebench.models.language_model import LanguageModel
from saebench.patching.placement import Hook, Placement, check
from saebench.patching.prefix_cache import new_pairs
from saebench.patching.suffix import SuffixPass, canonical
from saebench.patching.whole_runs import WholeRuns

Columns = Sequence[Bool[Tensor, "_"]]
"""A set: the columns of every place that it puts in place."""


class _Known(NamedTuple):
    """A set and the run in which it is in place."""

    columns: Columns
    runs: WholeRuns


class Subsets:
    """LD of prompts with parts of some places' values in place, for sets that are asked for one after another.

    `places` are whole hook points, `values` what a set may put there. What is not in a set follows from what
    is. A set is run from the first block and token at which it differs from one whose run is known:
    a long list of sites with one of them left out costs what patching that one costs.

    Raises:
        SiteError: if the model lacks a hook point, or a position lies outside its prompt.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokens: Sequence[Sequence[int]],
        places: Sequence[Placement],
        values: Sequence[Float[Tensor, "n _"]],
        answer: Int[Tensor, "n"],
        distractor: Int[Tensor, "n"],
        runs: WholeRuns,
    ) -> None:
        check(model, tokens, places)
        self.model, self.tokens, self.values = model, tokens, values
        self.places = [canonical(place, model.n_layers) for place in places]
        self._pair = torch.stack([answer, distractor], 1).to(model.device)
        none = [torch.zeros(value.shape[1], dtype=torch.bool) for value in values]
        self._clean = self._near = self._latest = _Known(none, runs)

    @torch.no_grad()
    def differences(
        self, taken: Sequence[Bool[Tensor, "k _"]], near: Columns | None = None
    ) -> Float[Tensor, "k n"]:
        """LD of every prompt for each of k sets; `taken[i]` are the columns of place i that each of them takes.

        `near` is a set that they differ little from; the clean run, if there is none.
        """
        self._approach(self._clean.columns if near is None else near)
        return self._run(taken)

    def _approach(self, columns: Columns) -> None:
        """Makes the run of a set the one that others start from."""
        for known in (self._near, self._latest, self._clean):
            if not _apart(known.columns, columns):
                self._near = known
                return
        if len(_apart(self._clean.columns, columns)) < len(_apart(self._near.columns, columns)):
            self._near = self._clean
        self._run([part[None] for part in columns])
        self._near = self._latest

    def _run(self, taken: Sequence[Bool[Tensor, "k _"]]) -> Float[Tensor, "k n"]:
        """From the known run on; the run of a single set is kept, since others may start there."""
        near, k = self._near, len(taken[0])
        others = _apart(near.columns, taken) or [len(self.places) - 1]
        suffix = SuffixPass(
            self.model, self.tokens, [self.places[i] for i in others], self.model.budget, near.runs
        )
        later = [i for i, place in enumerate(self.places) if place.layer >= suffix.layer]
        used = [_Used.of(self.places[i], self.values[i], taken[i]) for i in later if bool(taken[i].any())]
        into = near.runs.from_block(suffix.layer) if k == 1 else None
        out = torch.empty(k, len(self.tokens), device=self.model.device)
        for at in suffix.parts(torch.arange(len(self.tokens)), k):

            def work(block: slice, _: int, at: Tensor = at) -> None:
                rows = at[block]
                start = int(suffix.first[rows].min())
                hooks = [] if into is None else into.recorders(rows, start, suffix.layer)
                hooks += [hook for one in used for hook in one.writers(rows, start)]
                wanted = self._pair[rows.to(self._pair.device)].repeat(k, 1)
                both, cache = suffix.patched(
                    rows,
                    k,
                    hooks,
                    suffix.unembedding(wanted),
                    [one.place for one in used],
                    keep=into is not None,
                )
                if into is not None:
                    into.put_pairs(rows, start, suffix.layer, new_pairs(cache))
                found = both.float()
                out[:, rows.to(out.device)] = (found[:, 0] - found[:, 1]).unflatten(0, (k, len(rows)))

            self.model.budget.in_blocks(len(at), suffix.cost(at), work, each=k)
        if into is not None:
            self._latest = _Known([part[0] for part in taken], into)
        return out


def _apart(columns: Columns, taken: Sequence[Bool[Tensor, "*k _"]]) -> list[int]:
    """Places at which a set is not what another, or any of several others, is."""
    return [i for i, (one, some) in enumerate(zip(columns, taken, strict=True)) if bool((some != one).any())]


class _Used(NamedTuple):
    """A place of which some of the sets take something."""

    place: Placement
    value: Float[Tensor, "n d_in"]
    sets: Int[Tensor, "s"]
    mask: Bool[Tensor, "s d_in"]
    """What each of those takes."""

    @classmethod
    def of(cls, place: Placement, value: Tensor, taken: Bool[Tensor, "k d_in"]) -> "_Used":
        sets = taken.any(1).nonzero()[:, 0]
        return cls(place, value, sets, taken[sets].to(value.device))

    def writers(self, rows: Int[Tensor, "m"], start: int) -> list[Hook]:
        """A hook that puts in place what each set takes, in the rows of those sets; see `placement.writer`.

        In a pass of prompts `rows` from token `start` on. What stands before it is in the run already.
        """
        reached = (self.place.positions[rows] >= start).nonzero()[:, 0]
        if not len(reached):
            return []
        device, s, m = self.value.device, len(self.sets), len(reached)
        at = (self.sets[:, None] * len(rows) + reached).flatten().to(device)
        where = (self.place.positions[rows[reached]] - start).repeat(s).to(device)
        value = self.value[rows[reached].to(device)]

        def write(tensor: Tensor, hook: Any) -> Tensor:
            shape = tensor.shape[2:]
            old = tensor[at, where].reshape(s, m, *shape)
            new = value.to(tensor.dtype).reshape(1, m, *shape)
            tensor[at, where] = torch.where(self.mask.reshape(s, 1, *shape), new, old).flatten(0, 1)
            return tensor

        return [(self.place.hook, write)]
