"""Do intervals cover when prompts are added until they are narrow? Simulated, with effects that are known.

`python -m saebench.studies.stopping` writes `results/stopping/coverage.csv`: *fixed*, an interval at a number of
units that nobody chose; *planned*, what `--until-ci` does (a pilot on units of its own, then the number it
asks for); *looked at*, the percentile interval after every few units until it is narrow, which nobody should do.
"""

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from saebench.scoring.estimates import LEVEL
from saebench.scoring.stopping import units_for

OUT = Path(__file__).parents[2] / "results" / "stopping" / "coverage.csv"
EFFECTS = (0.5, 0.8, 0.95)
NARROWER = 0.65
"""The width asked for, as a share of what the pilot mostly gives."""
_TRUTH = 400_000


class Design(NamedTuple):
    """Prompts with shared units: each name gives to the next few, or each entity stands alone."""

    name: str
    ways: int
    """2: names in two roles, resampled independently as on IOI; 1: entities, as on RAVEL."""
    spread: float
    """Standard deviation of what a unit adds, in logits."""
    partners: int
    """Names that each name gives to."""
    prompts: int
    """A combination of units."""
    first: int
    """Units at which looking begins."""
    pilot: int
    most: int


NAMES = Design("names in two roles (IOI)", 2, 0.8, 4, 4, 12, 30, 240)
ENTITIES = Design("entities (RAVEL)", 1, 1.2, 1, 4, 40, 130, 1000)


class Ends(NamedTuple):
    """Intervals of many runs."""

    low: Float[np.ndarray, "n_runs"]
    high: Float[np.ndarray, "n_runs"]

    @property
    def width(self) -> Float[np.ndarray, "n_runs"]:
        return self.high - self.low


class World:
    """Runs of a design whose mean outcome is known; more units are added to those before."""

    def __init__(self, design: Design, effect: float, runs: int, rng: np.random.Generator) -> None:
        self.design, self.rng = design, rng
        normal = np.random.default_rng(0).normal(0, np.sqrt(design.ways) * design.spread, _TRUTH)
        self._shift = _shift(effect, normal)
        self.truth = float(_share(self._shift + normal).mean())
        shape = (design.ways, runs, design.most)
        self._units = rng.normal(0, design.spread, shape)

    def outcomes(self, n: int) -> Float[np.ndarray, "n_runs n_cells"]:
        """Shares of right answers by combination of the first n units."""
        logit = self._shift + self._units[0][:, :n, None]
        if self.design.ways == 2:
            logit = logit + self._units[1][:, partners(self.design, n)]
        share = _share(logit).reshape(len(logit), -1)
        return self.rng.binomial(self.design.prompts, share) / self.design.prompts


def partners(design: Design, n: int) -> Int[np.ndarray, "n partners"]:
    """Whom every name gives to."""
    return (np.arange(n)[:, None] + np.arange(1, design.partners + 1)) % n


def weights(
    design: Design, n: int, n_resamples: int, rng: np.random.Generator
) -> Float[np.ndarray, "n_resamples n_cells"]:
    """How often each combination of units occurs in each resample, as `scoring.estimates.Bootstrap` draws it."""
    times = [rng.multinomial(n, np.full(n, 1 / n), n_resamples).astype(float) for _ in range(design.ways)]
    if design.ways == 1:
        return times[0]
    return (times[0][:, :, None] * times[1][:, partners(design, n)]).reshape(n_resamples, -1)


def intervals(
    outcomes: Float[np.ndarray, "n_runs n_cells"], weight: Float[np.ndarray, "n_resamples n_cells"]
) -> Ends:
    """Percentile intervals of the mean; all runs share their resamples, which tell nothing of the outcomes."""
    draws = (outcomes @ weight.T) / weight.sum(1)
    low, high = np.quantile(draws, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=1)
    return Ends(low, high)


class Coverage(NamedTuple):
    """How often intervals held the true mean."""

    design: str
    effect: float
    wanted: float
    fixed: float
    planned: float
    looked_at: float
    units_planned: float
    units_looked_at: float
    narrow_planned: float
    """How often the planned interval was as narrow as was asked for."""


def coverage(
    design: Design, effect: float, runs: int = 1000, n_resamples: int = 400, looks: int = 40, seed: int = 1
) -> Coverage:
    """Of `runs` sweeps."""
    rng = np.random.default_rng(seed)
    world, other = (World(design, effect, runs, rng) for _ in range(2))
    grid = sorted({round(n) for n in np.geomspace(design.first, design.most, looks).tolist()})
    ends = [intervals(world.outcomes(n), weights(design, n, n_resamples, rng)) for n in grid]
    width = np.stack([e.width for e in ends])
    held = np.stack([(e.low <= world.truth) & (world.truth <= e.high) for e in ends])
    pilot = intervals(other.outcomes(design.pilot), weights(design, design.pilot, n_resamples, rng)).width
    wanted = NARROWER * float(np.median(pilot))
    asked = np.array([units_for(one, wanted, design.pilot) for one in pilot])
    planned = np.searchsorted(grid, asked).clip(max=len(grid) - 1)
    narrow = width <= wanted
    looked = np.where(narrow.any(0), narrow.argmax(0), len(grid) - 1)
    every = np.arange(runs)
    return Coverage(
        design.name,
        effect,
        wanted,
        float(held[np.searchsorted(grid, 2 * design.pilot)].mean()),
        float(held[planned, every].mean()),
        float(held[looked, every].mean()),
        float(np.median(np.take(grid, planned))),
        float(np.median(np.take(grid, looked))),
        float(narrow[planned, every].mean()),
    )


def _share(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logit))


def _shift(effect: float, noise: np.ndarray) -> float:
    """The logit whose mean share under the noise is the effect, by bisection."""
    low, high = -10.0, 10.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if _share(middle + noise).mean() < effect else (low, middle)
    return (low + high) / 2


def table(designs: Sequence[Design] = (NAMES, ENTITIES)) -> Iterator[Coverage]:
    """Every design at every effect."""
    for design in designs:
        for effect in EFFECTS:
            yield coverage(design, effect, n_resamples=1000)


def main() -> None:
    OUT.parent.mkdir(parents=True, exist_ok=True)
    with OUT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Coverage._fields)
        for row in table():
            writer.writerow([f"{x:.4g}" if isinstance(x, float) else x for x in row])
            print(row, file=sys.stderr)
    print(OUT)


if __name__ == "__main__":
    main()
