"""What a source's activation does to LD at every site by itself: exactly, and to first order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saebench.models.language_model import LanguageModel
from saebench.patching import PatchedReadout, Placement, capture
from saebench.patching.attribution import ld_gradients
from saebench.patching.pairs import Pairs, Passage
from saebench.patching.readout import Way
from saebench.patching.subsets import subset_differences
from saebench.site import Site

Tick = Callable[[str], None]


class Scan(NamedTuple):
    """Per prompt and site: LD with the source's activation in place minus LD, and whether the answer changed."""

    clean: Float[np.ndarray, "n"]
    change: Float[np.ndarray, "n n_sites"]
    flipped: Bool[np.ndarray, "n n_sites"]


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

    @cached_property
    def distinct(self) -> tuple[Pairs, Int[Tensor, "n"]]:
        """The base prompts without repetition, since attributes share them, and which of them each row has."""
        first: dict[tuple[int, ...], int] = {}
        rows, kept = [], []
        answers = zip(self.pairs.answer.tolist(), self.pairs.distractor.tolist(), strict=True)
        for i, (pair, passage) in enumerate(zip(answers, self.pairs.base, strict=True)):
            key = (*pair, *passage.tokens)
            if key not in first:
                first[key] = len(kept)
                kept.append(i)
            rows.append(first[key])
        return self.pairs.take(np.array(kept)), torch.tensor(rows)

    @classmethod
    def of(
        cls, model: LanguageModel, pairs: Pairs, sites: Sequence[Site], ways: dict[str, Way] | None = None
    ) -> "Patcher":
        """Reads the activations, one pass over the base prompts and one over the sources."""
        wholes = dict.fromkeys(site.whole for site in sites)

        def read(passages: Sequence[Passage]) -> dict[Site, Tensor]:
            places = {site: place(site, passages) for site in wholes}
            return capture(model, [p.tokens for p in passages], places)

        known = {} if ways is None else ways
        return cls(model, pairs, tuple(sites), read(pairs.base), read(pairs.source), known)

    def take(self, rows: np.ndarray) -> "Patcher":
        """The same for some of the rows."""
        at = torch.from_numpy(np.asarray(rows)).to(self.model.device)
        base, source = ({s: acts[at] for s, acts in side.items()} for side in (self.base, self.source))
        return Patcher(self.model, self.pairs.take(rows), self.sites, base, source, self.ways)

    def scan(self, sites: Sequence[Site], tick: Tick = lambda _: None) -> Scan:
        """Every site's patch by itself; heads and whole of a hook point and position share a readout."""
        number, rows = {site: i for i, site in enumerate(sites)}, self.distinct[1]
        parts: dict[Site, list[Site]] = {}
        for site in sites:
            parts.setdefault(site.whole, []).append(site)
        # the last one runs the fewest blocks, and the clean run is the same everywhere
        final = list(parts)[-1]
        before = self._readout([final]).run({None: self.base[final]}, rows=rows)[None]
        clean = before.ld.double().numpy(force=True)
        change = np.zeros((len(self.pairs), len(sites)))
        flipped = np.zeros(change.shape, dtype=bool)
        for i, (whole, here) in enumerate(parts.items(), 1):
            readout = self._readout([whole])
            done = readout.run({site: self._edit(site) for site in here}, rows=rows)
            readout.forget()
            for site, run in done.items():
                change[:, number[site]] = run.ld.double().numpy(force=True) - clean
                flipped[:, number[site]] = (run.top != before.top).numpy(force=True)
            tick(f"{whole} ({i} of {len(parts)})")
        return Scan(clean, change, flipped)

    def attribute(self, sites: Sequence[Site]) -> Float[np.ndarray, "n n_sites"]:
        """`(a_s − a_b) · ∇_a LD` for every site, from one backward pass."""
        wholes = dict.fromkeys(site.whole for site in sites)
        pairs, rows = self.distinct
        places = {site: place(site, pairs.base) for site in wholes}
        tokens = [p.tokens for p in pairs.base]
        gradient = ld_gradients(self.model, tokens, places, pairs.answer, pairs.distractor)
        columns = []
        for site in sites:
            terms = (self.source[site.whole] - self.base[site.whole]) * gradient[site.whole][rows]
            columns.append(terms[:, self._span(site)].sum(1).double().numpy(force=True))
        return np.stack(columns, axis=1)

    def joint(self, sets: Sequence[Sequence[Site]]) -> Float[np.ndarray, "k n"]:
        """LD with the source's activations in place at all sites of a set, for each of several sets."""
        if "plain" in self.ways.values():
            return np.stack([self._one_joint(sites) for sites in sets])
        within = {site: (site.whole, self._span(site)) for site in {s for sites in sets for s in sites}}
        wholes = sorted({whole for whole, _ in within.values()}, key=Site.sort_key)
        taken = {
            site: torch.zeros(len(sets), self.source[site].shape[1], dtype=torch.bool) for site in wholes
        }
        for number, sites in enumerate(sets):
            for whole, span in map(within.__getitem__, sites):
                taken[whole][number, span] = True
        found = subset_differences(
            self.model,
            [p.tokens for p in self.pairs.base],
            [place(site, self.pairs.base) for site in wholes],
            [self.source[site] for site in wholes],
            list(taken.values()),
            self.pairs.answer,
            self.pairs.distractor,
        )
        return found.double().numpy(force=True)

    @torch.no_grad()
    def _one_joint(self, sites: Sequence[Site]) -> Float[np.ndarray, "n"]:
        """The same for one set, as edits of a dictionary are run."""
        readout = self._readout(sites)
        acts = torch.cat([self.source[site.whole][:, self._span(site)] for site in sites], dim=1)
        found = readout.difference(acts, self.distinct[1])
        readout.forget()
        return found.double().numpy(force=True)

    def _edit(self, site: Site) -> Float[Tensor, "n d_in"]:
        """The hook point's clean activation with the site's part from the source."""
        edited, span = self.base[site.whole].clone(), self._span(site)
        edited[:, span] = self.source[site.whole][:, span]
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
        pairs = self.distinct[0]
        places = [place(site, pairs.base) for site in sites]
        tokens = [p.tokens for p in pairs.base]
        made = PatchedReadout(self.model, tokens, places, pairs.answer, pairs.distractor, way=way)
        for kind in unseen:
            self.ways[kind] = made.way
        return made


def place(site: Site, passages: Sequence[Passage]) -> Placement:
    """A site's token in every prompt."""
    return Placement(site.hook, torch.tensor([p.positions[site.position] for p in passages]), site.head)
