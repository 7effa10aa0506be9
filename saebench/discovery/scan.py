"""What a source's activation does to LD at every site by itself: exactly, and to first order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saebench.models.language_model import LanguageModel
from saebench.patching import PatchedReadout, Placement, capture
from saebench.patching.attribution import ld_gradients
from saebench.patching.overhead import worth_together
from saebench.patching.pairs import Pairs, Passage
from saebench.patching.readout import Way
from saebench.patching.subsets import Subsets
from saebench.patching.whole_runs import WholeRuns
from saebench.site import Site

Tick = Callable[[str], None]
AHEAD = 16
"""Sets that are tried in one pass at most, where starting a pass is what takes its time."""


class Scan(NamedTuple):
    """Per prompt and site: LD with the source's activation in place minus LD, and whether the answer changed."""

    clean: Float[np.ndarray, "n"]
    change: Float[np.ndarray, "n n_sites"]
    flipped: Bool[np.ndarray, "n n_sites"]


@dataclass(frozen=True)
class Prompts:
    """The base prompts without repetition, since attributes share them, and their clean run."""

    model: LanguageModel
    pairs: Pairs

    @classmethod
    def of(cls, model: LanguageModel, pairs: Pairs) -> tuple["Prompts", Int[Tensor, "n"]]:
        """Also which of the prompts each row of `pairs` has."""
        first: dict[tuple[int, ...], int] = {}
        rows, kept = [], []
        answers = zip(pairs.answer.tolist(), pairs.distractor.tolist(), strict=True)
        for i, (pair, passage) in enumerate(zip(answers, pairs.base, strict=True)):
            key = (*pair, *passage.tokens)
            if key not in first:
                first[key] = len(kept)
                kept.append(i)
            rows.append(first[key])
        return cls(model, pairs.take(np.array(kept))), torch.tensor(rows)

    @property
    def tokens(self) -> list[list[int]]:
        return [passage.tokens for passage in self.pairs.base]

    @cached_property
    def runs(self) -> WholeRuns | None:
        """Their clean run, which the passes of all sites start from; None where memory cannot hold it."""
        runs = WholeRuns.of(self.model, self.tokens)
        if not self.model.budget.may_keep(runs.nbytes):
            return None
        self.model.budget.holders.add(runs)
        return runs


@dataclass(frozen=True)
class Patcher:
    """Activations of base and source prompts at some hook points and positions, and passes that exchange them."""

    model: LanguageModel
    pairs: Pairs
    sites: tuple[Site, ...]
    base: dict[Site, Float[Tensor, "n d_in"]]
    source: dict[Site, Float[Tensor, "n d_in"]]
    """By whole hook point and position; heads are slices of these."""
    ways: dict[str, Way]
    """Which pass fits the model at each kind of hook point, as far as it is known; filled while running."""
    prompts: Prompts
    prompt: Int[Tensor, "n"]
    """Which of the prompts each row has."""

    @classmethod
    def of(
        cls, model: LanguageModel, pairs: Pairs, sites: Sequence[Site], ways: dict[str, Way] | None = None
    ) -> "Patcher":
        """Reads the activations, one pass over the base prompts and one over the sources."""
        wholes = dict.fromkeys(site.whole for site in sites)

        def read(passages: Sequence[Passage]) -> dict[Site, Tensor]:
            places = {site: place(site, passages) for site in wholes}
            return capture(model, [p.tokens for p in passages], places)

        known, (prompts, prompt) = ({} if ways is None else ways), Prompts.of(model, pairs)
        return cls(model, pairs, tuple(sites), read(pairs.base), read(pairs.source), known, prompts, prompt)

    def take(self, rows: np.ndarray) -> "Patcher":
        """The same for some of the rows."""
        at = torch.from_numpy(np.asarray(rows))
        there = at.to(self.model.device)
        base, source = ({s: acts[there] for s, acts in side.items()} for side in (self.base, self.source))
        return replace(self, pairs=self.pairs.take(rows), base=base, source=source, prompt=self.prompt[at])

    def scan(
        self,
        sites: Sequence[Site],
        wanted: Bool[np.ndarray, "n n_sites"] | None = None,
        answers: bool = True,
        tick: Tick = lambda _: None,
    ) -> Scan:
        """Every site's patch by itself; heads and whole of a hook point and position share a readout.

        Only what is `wanted` is run; the rest of the scan is 0. Without `answers` nothing is said of them:
        two tokens are unembedded instead of all.
        """
        number = {site: i for i, site in enumerate(sites)}
        parts: dict[Site, list[Site]] = {}
        for site in sites:
            parts.setdefault(site.whole, []).append(site)
        # the last one runs the fewest blocks, and the clean run is the same everywhere
        final = list(parts)[-1]
        ld, top = self._run(final, self.base[final], np.arange(len(self.pairs)), answers)
        change = np.zeros((len(self.pairs), len(sites)))
        flipped = np.zeros(change.shape, dtype=bool)
        for i, (whole, here) in enumerate(parts.items(), 1):
            columns = np.array([number[site] for site in here])
            asked = self._differs(whole)[:, None] & (True if wanted is None else wanted[:, columns])
            at, rows = np.nonzero(np.broadcast_to(asked, (len(asked), len(here))).T)
            if len(rows):
                edits = [self._edit(site, rows[at == k]) for k, site in enumerate(here)]
                changed, answer = self._run(whole, torch.cat(edits), rows, answers)
                change[rows, columns[at]] = changed - ld[rows]
                flipped[rows, columns[at]] = answer != top[rows]
            tick(f"{whole} ({i} of {len(parts)})")
        return Scan(ld, change, flipped)

    def _run(
        self, whole: Site, edited: Float[Tensor, "b d_in"], rows: Int[np.ndarray, "b"], answers: bool
    ) -> tuple[Float[np.ndarray, "b"], Int[np.ndarray, "b"]]:
        """LD and answer of some rows with an edit each; without `answers`, all of them are 0."""
        readout, prompt = self._readout([whole]), self.prompt[torch.from_numpy(rows)]
        if answers:
            done = readout.run({None: edited}, rows=prompt)[None]
            ld, top = done.ld, done.top.numpy(force=True)
        else:
            with torch.no_grad():
                ld, top = readout.difference(edited, prompt), np.zeros(len(rows), dtype=int)
        readout.forget()
        return ld.double().numpy(force=True), top

    def _differs(self, site: Site) -> Bool[np.ndarray, "n"]:
        """Where the source's activation can be another: not while all tokens up to the site's are the same."""
        ends = (
            (b, s, b.positions[site.position])
            for b, s in zip(self.pairs.base, self.pairs.source, strict=True)
        )
        return np.array(
            [
                s.positions[site.position] != end or s.tokens[: end + 1] != b.tokens[: end + 1]
                for b, s, end in ends
            ]
        )

    def attribute(self, sites: Sequence[Site]) -> Float[np.ndarray, "n n_sites"]:
        """`(a_s − a_b) · ∇_a LD` for every site, from one backward pass."""
        wholes = dict.fromkeys(site.whole for site in sites)
        pairs, rows = self.prompts.pairs, self.prompt
        places = {site: place(site, pairs.base) for site in wholes}
        gradient = ld_gradients(self.model, self.prompts.tokens, places, pairs.answer, pairs.distractor)
        columns = []
        for site in sites:
            terms = (self.source[site.whole] - self.base[site.whole]) * gradient[site.whole][rows]
            columns.append(terms[:, self._span(site)].sum(1).double().numpy(force=True))
        return np.stack(columns, axis=1)

    @property
    def ahead(self) -> int:
        """Sets that take hardly longer in one pass than one after the other."""
        tokens = sum(len(passage.tokens) for passage in self.pairs.base)
        return worth_together(self.model, tokens, AHEAD)

    def joint(self, sets: Sequence[Sequence[Site]], near: Sequence[Site] = ()) -> Float[np.ndarray, "k n"]:
        """LD with the source's activations in place at all sites of a set, for each of several sets.

        `near` is a set from which they differ little: what they share is run once.
        """
        if "plain" in self.ways.values() or self.prompts.runs is None:
            return np.stack([self._one_joint(sites) for sites in sets])
        taken = [torch.stack(columns) for columns in zip(*map(self._columns, sets), strict=True)]
        return self._subsets.differences(taken, self._columns(near)).double().numpy(force=True)

    @cached_property
    def _subsets(self) -> Subsets:
        runs, pairs = self.prompts.runs, self.pairs
        assert runs is not None, "asked by `joint`"
        return Subsets(
            self.model,
            [p.tokens for p in pairs.base],
            [place(site, pairs.base) for site in self.source],
            list(self.source.values()),
            pairs.answer,
            pairs.distractor,
            runs.take(self.prompt),
        )

    def _columns(self, sites: Sequence[Site]) -> list[Bool[Tensor, "_"]]:
        """What a set takes of every whole hook point and position."""
        taken = {whole: torch.zeros(acts.shape[1], dtype=torch.bool) for whole, acts in self.source.items()}
        for site in sites:
            taken[site.whole][self._span(site)] = True
        return list(taken.values())

    @torch.no_grad()
    def _one_joint(self, sites: Sequence[Site]) -> Float[np.ndarray, "n"]:
        """The same for one set, as edits of a dictionary are run."""
        readout = self._readout(sites)
        acts = torch.cat([self.source[site.whole][:, self._span(site)] for site in sites], dim=1)
        found = readout.difference(acts, self.prompt)
        readout.forget()
        return found.double().numpy(force=True)

    def _edit(self, site: Site, rows: Int[np.ndarray, "m"]) -> Float[Tensor, "m d_in"]:
        """The hook point's clean activation with the site's part from the source."""
        at, span = torch.from_numpy(rows).to(self.model.device), self._span(site)
        edited = self.base[site.whole][at]
        edited[:, span] = self.source[site.whole][at, span]
        return edited

    def _span(self, site: Site) -> slice:
        if site.head is None:
            return slice(None)
        width = self.model.d_in(site.hook, site.head)
        return slice(site.head * width, (site.head + 1) * width)

    def _readout(self, sites: Sequence[Site]) -> PatchedReadout:
        """Checked against the plain pass where a kind of hook point is met for the first time."""
        kinds = {site.kind for site in sites}
        unseen = kinds - self.ways.keys()
        way: Way | None = None
        if not unseen:
            way = "plain" if "plain" in {self.ways[kind] for kind in kinds} else "suffix"
        pairs = self.prompts.pairs
        places = [place(site, pairs.base) for site in sites]
        made = PatchedReadout(
            self.model,
            self.prompts.tokens,
            places,
            pairs.answer,
            pairs.distractor,
            way=way,
            runs=self.prompts.runs,
        )
        for kind in unseen:
            self.ways[kind] = made.way
        return made


def place(site: Site, passages: Sequence[Passage]) -> Placement:
    """A site's token in every prompt."""
    return Placement(site.hook, torch.tensor([p.positions[site.position] for p in passages]), site.head)
