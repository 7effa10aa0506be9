"""When enough has been scored: how many units an interval takes, and who is credibly out.

docs/methods.md §2. An interval that is looked at again and again until it is narrow is too narrow: it
stops where the spread happens to look small. Here the number of prompts follows from a pilot, once
(Stein 1945, Ann. Math. Stat. 16:243), and comparisons share their error among everything that is looked at.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats as scipy_stats

from saebench.scoring.estimates import LEVEL

ASSURANCE = 0.9
"""How often the planned interval is to be as narrow as was asked for."""


def units_for(width: float, wanted: float, units: int) -> float:
    """Independent units whose interval is as narrow as wanted, where a pilot's over `units` had that width.

    The spread is taken at its upper 90 % bound (χ²), so that chance in the pilot does not leave the
    interval too wide. With what was wanted already there, no more than the pilot's.
    """
    if width <= wanted:
        return float(units)
    freedom = max(1, units - 1)
    variance = freedom / float(scipy_stats.chi2.ppf(1 - ASSURANCE, freedom))
    return units * (width / wanted) ** 2 * variance


def credibly_better(
    values: Float[np.ndarray, "m"], draws: Float[np.ndarray, "n_resamples m"], units: int, looks: int = 1
) -> Bool[np.ndarray, "m m"]:
    """`[i, j]`: whether i is credibly better than j, over all pairs and all `looks` together.

    Differences are paired. The largest standardised difference of the resamples over all pairs gives the
    bar (Romano and Wolf 2005, Econometrica 73:1237) at 5 % over the looks, widened to Student's t on the
    independent units: with probability .95 no pair is ever called wrongly.
    """
    finite = np.isfinite(draws)
    centre = np.mean(draws, axis=0, where=finite)
    # a draw whose denominator was 0 says nothing
    centred = np.where(finite, draws - centre, 0.0)
    largest = np.zeros(len(draws))
    standard = np.full((len(values), len(values)), np.inf)
    for one in range(len(values)):
        apart = centred[:, one : one + 1] - centred
        error = apart.std(axis=0, ddof=1)
        # two that do the same on every prompt differ by nothing, whatever it is
        moved = error > 1e-12
        standard[one, moved] = error[moved]
        largest = np.maximum(largest, np.abs(apart / standard[one]).max(axis=1))
    bar = np.quantile(largest, 1 - (1 - LEVEL) / looks)
    bar = scipy_stats.t.isf(scipy_stats.norm.sf(bar), max(1, units - 1))
    return (values[:, None] - values[None, :]) / standard > bar


def out(better: Bool[np.ndarray, "m m"], keep: int) -> Bool[np.ndarray, "m"]:
    """Who is not among the best `keep`: those than whom as many are credibly better."""
    return better.sum(axis=0) >= keep


def mean_draws(by: Sequence[str], draws: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Resamples of the mean of some headlines; None where one of them is undefined."""
    found = [draws[axis] for axis in by if axis in draws]
    return np.mean(found, axis=0) if len(found) == len(by) else None
