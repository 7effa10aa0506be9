"""No cheat tops the ordering of a small world: neither those made by hand nor one that a search finds."""

import pytest
import torch
from worlds import Planted, bench_of, measure, two_groups

from saebench.audit import climb, measuring
from saebench.audit.stand import Stand
from saebench.audit.thresholds import ORDERING_MARGIN
from saebench.dictionary import Dictionary
from saebench.scoring import score
from saebench.scoring.estimates import Estimate
from saebench.studies.audit.boards import ordered_by

BEST = "an SAE that is half right"


class Small(Stand):
    """A board with one SAE, whose rows lie at a cosine of .8 to the true directions."""

    def __init__(self) -> None:
        section, rows, bias = two_groups(n=300, noise=0.2)
        noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(3))
        noise = 0.7 * noise * (rows.norm(dim=1) / noise.norm(dim=1))[:, None]
        self.bench, self.sae = bench_of(section), Planted(rows + noise, bias)


@pytest.fixture(scope="module")
def stand() -> Small:
    return Small()


def mean(dictionary: Dictionary, stand: Small) -> float:
    """The mean headline of the axes that order boards; an undefined one counts 0."""
    axes = tuple(ordered_by())
    found = score(measure(dictionary, stand.bench, axes), n_resamples=50).axes
    values = [found[axis].normalized for axis in axes]
    return sum(float(v) for v in values if isinstance(v, Estimate)) / len(axes)


def test_no_cheat_is_above_an_sae_that_is_half_right(stand: Small):
    best = mean(stand.sae, stand)
    jobs = measuring.gamed(BEST, lambda _: stand.sae)
    reached = {job.name: mean(job.make(stand), stand) for job in jobs}
    assert 0.5 < best < 0.9 and len(reached) == 7
    assert max(reached.values()) <= best + ORDERING_MARGIN, reached
    # two are made from the SAE: one keeps its function and all it is good for, the other splits it
    assert reached.pop("always-on latent") == pytest.approx(best, abs=0.005)
    assert max(reached.values()) < best - 0.05


@pytest.mark.parametrize("steps", [15, pytest.param(climb.STEPS, marks=pytest.mark.slow)])
def test_a_search_that_sees_the_ordering_stays_below_it_too(stand: Small, steps: int):
    first = climb.start(stand.acts, 48, "hill climb")
    last = climb.climb(first, stand.acts, lambda made: mean(made, stand), steps)
    low, high, best = (mean(made, stand) for made in (first, last, stand.sae))
    print(f"{steps} steps: {low:.3f} → {high:.3f}, the SAE {best:.3f}")
    assert low < high < best - 0.05
