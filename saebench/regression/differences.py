"""Differences of scores between two groups of dictionaries, and what may be said of each.

docs/methods.md §2. Standard errors come from paired bootstrap draws; SAE seeds are a second level of
resampling, whose variance both sides share; p-values are corrected by Holm over the scores that have
a say.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats as scipy_stats

from saebench.regression.tolerances import Tolerance, Tolerances
from saebench.scoring.base import Direction, Entry, Scored
from saebench.scoring.estimates import LEVEL, Estimate, Maybe, Undefined, holm

POWER = 0.8
FEWEST_UNITS = 10
"""Below this many independent units a bootstrap standard error is too small to convict anyone."""

Status = Literal["worse", "lost", "tolerated", "same", "better", "gained", "undefined", "shown"]
FAILURES: tuple[Status, ...] = ("worse", "lost")


@dataclass(frozen=True)
class Difference:
    """One score of two results, candidate − baseline, on the same prompts."""

    label: str
    """`axis` for a headline, else `axis/name[/attribute][/edit][/k]`."""
    direction: Direction
    candidate: float | None
    baseline: float | None
    difference: float | None = None
    ci: tuple[float, float] | None = None
    """95 % interval of the difference, not corrected for the number of scores."""
    error: float | None = None
    """Standard error of the difference."""
    effect: float | None = None
    """Difference in standard deviations between the units that it was resampled over (Cohen's d_z)."""
    p: float | None = None
    """Two-sided p of "no difference"."""
    p_holm: float | None = None
    """The same after Holm's correction; None if the score has no say in the verdict."""
    detectable: float | None = None
    """Smallest loss that would have been called a regression with 80 % power."""
    tolerance: Tolerance | None = None
    status: Status = "shown"
    reason: str | None = None

    @property
    def loss(self) -> float:
        """How much worse the candidate is; negative if it is better."""
        change = self.difference or 0.0
        return change if self.direction == "lower" else -change


class _Row(NamedTuple):
    label: str
    direction: Direction
    tolerance: Tolerance | None
    candidate: Maybe
    baseline: Maybe


def differences(
    candidates: Sequence[Scored], baselines: Sequence[Scored], tolerances: Tolerances
) -> tuple[tuple[Difference, ...], tuple[Difference, ...]]:
    """Judged and merely shown differences of two groups of scored dictionaries, one per seed.

    All estimates must share their resamples, which `score` with one seed on the same prompts
    guarantees.
    """
    rows = _rows(candidates, baselines, tolerances)
    family = sum(r.tolerance is not None and _comparable(r) for r in rows)
    # with several SAE seeds, the seeds are the sample: few of them, so Student's t
    seeds = len(candidates) + len(baselines) - 2
    law = scipy_stats.t(seeds) if seeds else scipy_stats.norm()
    measured = [_measure(row, law, family) for row in rows]
    tested = [d for d in measured if d.tolerance is not None and d.p is not None]
    adjusted = holm(np.array([d.p for d in tested], dtype=np.float64)).adjusted
    judged = [_judge(d, float(p)) for d, p in zip(tested, adjusted, strict=True)]
    final = {d.label: d for d in (*measured, *judged)}
    return (
        tuple(d for d in final.values() if d.tolerance is not None),
        tuple(d for d in final.values() if d.tolerance is None),
    )


def _rows(candidates: Sequence[Scored], baselines: Sequence[Scored], tolerances: Tolerances) -> list[_Row]:
    sides = [[_numbers(s) for s in side] for side in (candidates, baselines)]
    axes = dict.fromkeys(axis for s in (*candidates, *baselines) for axis in s.axes)
    directions: dict[str, Direction] = dict.fromkeys(axes, "higher")
    for scored in (*candidates, *baselines):
        directions.update({_label(e): e.direction for e in scored.entries})
    rows = []
    for label, direction in directions.items():
        of_axis = tolerances.headlines.get(label)
        tolerance = of_axis if label in axes else tolerances.of_score(label)
        candidate, baseline = _over_seeds(*([n.get(label) for n in side] for side in sides))
        rows.append(_Row(label, direction, None if direction == "none" else tolerance, candidate, baseline))
    return rows


def _label(entry: Entry) -> str:
    parts = (entry.axis, entry.name, entry.attribute, entry.edit, entry.k)
    return "/".join(str(part) for part in parts if part is not None)


def _numbers(scored: Scored) -> dict[str, Maybe]:
    """Every number of a dictionary by label; a headline counts as normalised, as it is shown."""
    headlines = {axis: headline.normalized for axis, headline in scored.axes.items()}
    return {**{_label(e): e.value for e in scored.entries}, **headlines}


def _over_seeds(a: Sequence[Maybe | None], b: Sequence[Maybe | None]) -> tuple[Maybe, Maybe]:
    """Means over the SAE seeds of two sides, with seeds as a second level of resampling.

    What a seed adds is drawn from the deviations of both sides' seeds from their own mean, scaled by
    √(S / (S − 1)) since S deviations have (S − 1)/S of the variance between them. So both sides share
    one variance, and a side of one seed borrows it: its draws alone know nothing of other seeds.
    Without several seeds on either side there is no second level.
    """
    sides = [_all_defined(side) for side in (a, b)]
    deviations = []
    for side in sides:
        if not isinstance(side, Undefined) and len(side) > 1:
            draws = np.stack([e.draws for e in side], axis=1)
            scale = math.sqrt(len(side) / (len(side) - 1))
            deviations.append(scale * (draws - draws.mean(axis=1, keepdims=True)))
    pool = np.concatenate(deviations, axis=1) if deviations else None
    one, two = (
        side if isinstance(side, Undefined) else _with_seeds(side, pool, i) for i, side in enumerate(sides)
    )
    return one, two


def _all_defined(values: Sequence[Maybe | None]) -> list[Estimate] | Undefined:
    """The estimates of a side, or why one of its seeds has none."""
    estimates = []
    for value in values:
        if not isinstance(value, Estimate):
            return value or Undefined("not measured")
        estimates.append(value)
    return estimates


def _with_seeds(side: list[Estimate], pool: np.ndarray | None, number: int) -> Estimate:
    """The mean of a side; each of its seeds deviates as a seed of the pool drawn at random does."""
    value = np.asarray(np.mean([e.value for e in side]))
    units = min((e.units for e in side if e.units is not None), default=None)
    if pool is None:
        return side[0]
    centre = np.mean([e.draws for e in side], axis=0)
    n_draws, n_pool = pool.shape
    # the same picks for every score of a side, other picks for the other side
    rng = np.random.default_rng([number, n_pool])
    picks = rng.integers(n_pool, size=(n_draws, len(side)))
    return Estimate(value, centre + np.take_along_axis(pool, picks, axis=1).mean(axis=1), units=units)


def _comparable(row: _Row) -> bool:
    a, b = row.candidate, row.baseline
    return isinstance(a, Estimate) and isinstance(b, Estimate) and not _few(a - b)


def _few(change: Estimate) -> bool:
    return change.units is not None and change.units < FEWEST_UNITS


def _measure(row: _Row, law, family: int) -> Difference:
    a, b = row.candidate, row.baseline
    plain = Difference(
        row.label,
        row.direction,
        float(a) if isinstance(a, Estimate) else None,
        float(b) if isinstance(b, Estimate) else None,
        tolerance=row.tolerance,
    )
    if not isinstance(a, Estimate) or not isinstance(b, Estimate):
        status, reason = _one_sided(a, b, row)
        return replace(plain, status=status, reason=reason)
    change = a - b
    error = change.standard_error
    value = float(change)
    if _few(change):
        reason = f"{change.units} units are too few to judge; at least {FEWEST_UNITS} are needed"
        return replace(plain, difference=value, status="undefined", reason=reason)
    if error == 0:
        # equal for every resample: the same outcomes, or a number without sampling error
        p, half, effect = float(value == 0), 0.0, None
    else:
        p = float(2 * law.sf(abs(value) / error))
        half = float(law.ppf(0.5 + LEVEL / 2)) * error
        effect = None if change.units is None else value / (error * math.sqrt(change.units))
    return replace(
        plain,
        difference=value,
        ci=(value - half, value + half),
        error=error,
        effect=effect,
        p=p,
        detectable=_detectable(error, law, family, row.tolerance),
    )


def _detectable(error: float, law, family: int, tolerance: Tolerance | None) -> float | None:
    """Loss called a regression with 80 % power when Holm is at its strictest, α / family."""
    if tolerance is None or error == 0:
        return None
    bar = max(tolerance.size, float(law.isf((1 - LEVEL) / 2 / family)) * error)
    return bar + float(law.ppf(POWER)) * error


def _one_sided(a: Maybe, b: Maybe, row: _Row) -> tuple[Status, str]:
    """A score that only one side has. Losing it fails only if the baseline credibly had it."""
    if isinstance(b, Undefined):
        return ("undefined", a.reason) if isinstance(a, Undefined) else ("gained", f"baseline: {b.reason}")
    assert isinstance(a, Undefined)
    tolerance = row.tolerance if row.direction == "higher" else None
    lost = tolerance is not None and b.interval()[0] > tolerance.size
    return ("lost" if lost else "undefined"), f"candidate: {a.reason}"


def _judge(d: Difference, p_holm: float) -> Difference:
    credible = p_holm <= 1 - LEVEL
    assert d.tolerance is not None
    status: Status = "same"
    if credible and d.loss > 0:
        status = "worse" if d.loss > d.tolerance.size else "tolerated"
    elif credible and d.loss < 0:
        status = "better"
    return replace(d, p_holm=p_holm, status=status)
