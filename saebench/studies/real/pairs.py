"""Why a rotation that is learned on few cities fails on others: too few pairs, or is it the cities?

`python -m saebench.studies.real.pairs --out results/smollm2-135m` trains DAS of one rank at two sites of RAVEL
on the pairs of an evaluation, one source for every prompt and attribute; with a source drawn anew at every
step from all of `fit`; and so on half of its cities. `pairs.csv` holds what each does on pairs of its training, on
other sources of the same prompts, and on the cities of `select`. Nothing is measured on `test`.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saebench.cross_section import CrossSection, Split
from saebench.edits.das import leads, orthonormal, start, swap
from saebench.edits.pairs import Batch, Pairs, train
from saebench.kinds.base import Settings
from saebench.kinds.entities.sections import build
from saebench.models.devices import exact, few_threads
from saebench.models.loading import load_model
from saebench.scoring.control import average
from saebench.scoring.estimates import Bootstrap
from saebench.scoring.settings import PAIRS, ROTATIONS
from saebench.site import Site
from saebench.spec import load_task
from saebench.studies.real.cities import share

SITES = ("blocks.18.hook_resid_pre@entity", "blocks.24.hook_resid_pre@end")
"""Where the facts are at the city, and where they are the answer."""


class Arm(NamedTuple):
    """How a rotation is trained."""

    name: str
    fresh: bool
    """Whether a source is drawn anew at every step; else every prompt keeps its one source an attribute."""
    cities: float = 1.0
    """Share of the cities of `fit` whose prompts and sources are used."""


ARMS = (
    Arm("one source a prompt", False),
    Arm("every source", True),
    Arm("every source, half of the cities", True, 0.5),
)


class Sources:
    """Sources of a split's prompts: each one's own, or that of any other prompt that asks for the same attribute.

    Of the latter those serve whose value of the edited attribute is another than the prompt's.
    """

    def __init__(
        self, section: CrossSection, split: Split, cities: Bool[Tensor, "n_cities"] | None = None
    ) -> None:
        assert split.query is not None, "only prompts that ask for different attributes make pairs"
        names = [a.name for a in section.attributes]
        self.split, self.query, self.labels = split, split.query.cpu(), split.labels.cpu()
        self.given = torch.stack([split.source_labels[n][:, at].cpu() for at, n in enumerate(names)], 1)
        self.expected = torch.stack([split.expected[name].cpu() for name in names], 1)
        self.acts = torch.stack([split.source_acts[name] for name in names], 1)
        units = torch.stack([split.source_units[name][:, 0].cpu() for name in names], 1)
        every = torch.ones(1 + int(max(units.max(), split.cluster.max())), dtype=torch.bool)
        cities = every if cities is None else cities
        self.used, self.usable = cities[split.cluster.cpu()], cities[units]

    def draw(self, rows: Tensor, attribute: Tensor, generator: torch.Generator) -> Int[Tensor, "b"]:
        """For every prompt and edited attribute the prompt whose source it takes; all equally likely."""
        same = self.query[rows][:, None] == self.query
        other = self.labels[rows, attribute][:, None] != self.given[:, attribute].T
        allowed = same & other & self.usable[:, attribute].T
        return torch.multinomial(allowed.float(), 1, generator=generator)[:, 0]

    def wanted(self, rows: Tensor, attribute: Tensor, source: Tensor) -> Int[Tensor, "b"]:
        """The source's value where the edited attribute is asked for, else the prompt's own answer."""
        # who asks for the attribute has a source that was asked for it too: what that one's prompt wants
        asked = self.query[rows] == attribute
        return self.expected[torch.where(asked, source, rows), attribute]


class DrawnPairs(Pairs):
    """Pairs of some cities' prompts, with the prompt whose source each takes left in `source`."""

    def __init__(self, section: CrossSection, sources: Sources, seed: int, fresh: bool) -> None:
        super().__init__(section, sources.split, seed)
        self.sources, self.fresh = sources, fresh
        used = [group[sources.used[group]] for group in self.groups]
        self.groups = [group for group in used if len(group)]
        self.weights = torch.tensor([float(len(group)) for group in self.groups])
        self.source = torch.empty(0, dtype=torch.long)

    def draw(self, size: int = PAIRS.batch) -> Batch:
        rows, attribute, wanted = super().draw(size)
        self.source = rows
        if self.fresh:
            self.source = self.sources.draw(rows, attribute, self.generator)
            wanted = self.sources.wanted(rows, attribute, self.source)
        return Batch(rows, attribute, wanted)


def learn(
    section: CrossSection, sources: Sources, arm: Arm, rank: int, seed: int, steps: int
) -> Float[Tensor, "n_attributes r d_in"]:
    """Rotations as DAS trains them, after the last step: nothing is chosen."""
    fit, pairs = section.fit, DrawnPairs(section, sources, seed, arm.fresh)
    free = start(leads(section, seed), rank, seed).requires_grad_()

    def edit(batch: Batch, step: int) -> Tensor:
        base = fit.acts[batch.rows]
        change = sources.acts[pairs.source, batch.attribute] - base
        rows = orthonormal(free)[batch.attribute]
        return base + torch.einsum("brd,br->bd", rows, torch.einsum("brd,bd->br", rows, change))

    train([free], edit, pairs, fit, steps, ROTATIONS.rate)
    return orthonormal(free.detach())


def hits(
    section: CrossSection, split: Split, rotations: Tensor, sources: Sources, fresh: bool, seed: int
) -> dict[str, Bool[np.ndarray, "n"]]:
    """Which prompts give the wanted answer after each attribute's swap."""
    every, generator = torch.arange(len(split)), torch.Generator().manual_seed(seed)
    found = {}
    for at, attribute in enumerate(section.attributes):
        edited = torch.full_like(every, at)
        source = sources.draw(every, edited, generator) if fresh else every
        run = split.readout.run({"": swap(split.acts, sources.acts[source, at], rotations[at])})[""]
        wanted = sources.wanted(every, edited, source)
        found[attribute.name] = (run.top.cpu() == wanted).numpy()
    return found


def summaries(split: Split, right: dict[str, np.ndarray], used: np.ndarray) -> Iterator[dict[str, Any]]:
    """Disentangle, cause and isolate of every attribute and their means, over cities."""
    boot = Bootstrap(split.cluster.numpy(force=True)[used])
    asks = {name: split.asks(at).numpy(force=True)[used] for at, name in enumerate(right)}
    cause = {name: share(boot, hit[used], asks[name]) for name, hit in right.items()}
    isolate = {name: share(boot, hit[used], ~asks[name]) for name, hit in right.items()}
    for listed in (*([name] for name in right), list(right)):
        row: dict[str, Any] = {"attribute": listed[0] if len(listed) == 1 else "all"}
        both = [average([by[name] for name in listed]) for by in (cause, isolate)]
        for label, value in zip(
            ("disentangle", "cause", "isolate"), ((both[0] + both[1]) / 2, *both), strict=True
        ):
            low, high = value.interval()
            row |= {label: float(value), f"{label}_low": low, f"{label}_high": high}
        yield row | {"n": int(used.sum())}


def measure(section: CrossSection, rank: int, seed: int, steps: int) -> Iterator[dict[str, Any]]:
    """Every arm on what it was trained on, on other sources of the same prompts, and on other cities."""
    n_cities = 1 + int(max(section.fit.cluster.max(), *(u.max() for u in section.fit.source_units.values())))
    for arm in ARMS:
        kept = torch.rand(n_cities, generator=torch.Generator().manual_seed(seed)) <= arm.cities
        sources = Sources(section, section.fit, kept if arm.cities < 1 else None)
        rotations = learn(section, sources, arm, rank, seed, steps)
        asked = {
            "their own pairs": (section.fit, sources, arm.fresh),
            "other sources, same prompts": (section.fit, sources, True),
            "other cities (select)": (section.select, Sources(section, section.select), False),
        }
        for number, (told, (split, its, fresh)) in enumerate(asked.items()):
            right = hits(section, split, rotations, its, fresh, seed + number)
            for row in summaries(split, right, its.used.numpy(force=True)):
                yield {"arm": arm.name, "measured_on": told, **row}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--sites", nargs="*", default=SITES)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--budget", default="standard")
    parser.add_argument("--rank", type=int, default=72)
    parser.add_argument("--steps", type=int, default=PAIRS.steps)
    parser.add_argument("--out", type=Path, default=Path("results/smollm2-135m"))
    chosen = parser.parse_args()
    model, rows = load_model(chosen.model, device=chosen.device, dtype=chosen.dtype), []
    chosen.out.mkdir(parents=True, exist_ok=True)
    with exact(model.device), few_threads(model.d_model):
        for site in chosen.sites:
            settings = Settings(chosen.budget, 0)
            section = build(load_task("ravel"), model, Site.parse(site), settings).section
            for row in measure(section, chosen.rank, 0, chosen.steps):
                rows.append({"site": site, **row})
                print(
                    {k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True
                )
                # an arm takes minutes: what is measured is kept
                pd.DataFrame(rows).to_csv(chosen.out / "pairs.csv", index=False, float_format="%.5f")


if __name__ == "__main__":
    main()
