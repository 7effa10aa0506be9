"""Estimates that carry their resamples, so that every difference and ratio is paired.

docs/methods.md §2. What is resampled is the cluster, or, where names recur across clusters, every way in
which they do. All estimates of one `Bootstrap` share its resamples: arithmetic on them is arithmetic
on paired draws, and an interval of a difference or a ratio needs no formula of its own. Two results on
the same prompts, units and seed share their resamples too, which is what makes comparisons between
dictionaries paired.
"""

import hashlib
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy import stats as scipy_stats

LEVEL = 0.95
N_RESAMPLES = 2000
_Z = float(scipy_stats.norm.ppf(0.5 + LEVEL / 2))

Interval = tuple[float, float]
Direction = Literal["higher", "lower", "none"]
"""Which way a score is better."""


@dataclass(frozen=True)
class Undefined:
    """A number that does not exist, and why. It takes the place of an `Estimate`."""

    reason: str


@dataclass(frozen=True, eq=False)
class Estimate:
    """A number (or an array of them) with its bootstrap draws.

    `value` has shape S, `draws` has shape `[n_resamples, *S]`.
    """

    value: Any
    draws: np.ndarray
    share_of: int | None = None
    """For a share: the number of units behind it, for the Wilson interval at 0 and 1."""
    normal: bool = False
    """Interval as estimate ± 1.96 standard errors: for means over many chosen latents, whose
    percentile interval sits beside the estimate instead of around it."""
    bounds: Interval | None = None
    """The range of the score, where it has one; an interval of standard errors ends there."""
    units: int | None = None
    """Independent units that it was averaged over, of the way that has fewest; None if not known."""

    def __float__(self) -> float:
        return float(self.value)

    def __add__(self, other: "Estimate | float") -> "Estimate":
        return self._with(other, np.add)

    def __sub__(self, other: "Estimate | float") -> "Estimate":
        return self._with(other, np.subtract)

    def __rsub__(self, other: float) -> "Estimate":
        return constant_like(self, other) - self

    def __mul__(self, other: "Estimate | float") -> "Estimate":
        return self._with(other, np.multiply)

    def __truediv__(self, other: "Estimate | float") -> "Estimate":
        return self._with(other, _divide)

    __radd__ = __add__
    __rmul__ = __mul__

    def __neg__(self) -> "Estimate":
        return self * -1.0

    def __getitem__(self, index: Any) -> "Estimate":
        # `...` keeps the axis of draws in front, whatever the index selects
        draws = np.moveaxis(np.moveaxis(self.draws, 0, -1)[index], -1, 0)
        return Estimate(self.value[index], draws, units=self.units)

    def _with(self, other: "Estimate | float", op: Callable[[Any, Any], Any]) -> "Estimate":
        if isinstance(other, Estimate):
            value, draws = op(self.value, other.value), op(self.draws, other.draws)
            units = min((u for u in (self.units, other.units) if u is not None), default=None)
            return Estimate(value, draws, normal=self.normal or other.normal, units=units)
        return Estimate(op(self.value, other), op(self.draws, other), normal=self.normal, units=self.units)

    def map(self, f) -> "Estimate":
        """Applies an elementwise function to the value and to every draw."""
        return Estimate(f(self.value), f(self.draws), normal=self.normal, units=self.units)

    def mean(self) -> "Estimate":
        """Mean over the entries of an array of estimates."""
        axes = tuple(range(1, self.draws.ndim))
        return Estimate(self.value.mean(), self.draws.mean(axis=axes), normal=self.normal, units=self.units)

    def chosen(self, bounds: Interval | None = None) -> "Estimate":
        """The same, marked to take its interval from the standard error (see `normal`, `bounds`)."""
        return replace(self, normal=True, bounds=bounds)

    @property
    def is_stiff(self) -> bool:
        """Whether it is a share that every resample repeats: of exactly 0 or 1, or of one cluster."""
        return self.share_of is not None and (float(self.value) in (0.0, 1.0) or self.share_of == 1)

    @property
    def standard_error(self) -> float:
        finite = self.draws[np.isfinite(self.draws)]
        return float(finite.std(ddof=1)) if len(finite) > 1 else 0.0

    def interval(self) -> Interval:
        """The 95 % interval: percentile; Wilson for shares that resampling cannot move; see `normal`."""
        value = float(self.value)
        if self.share_of is not None and self.is_stiff:
            return wilson(value * self.share_of, self.share_of)
        if self.normal:
            half = _Z * self.standard_error
            low, high = self.bounds or (-np.inf, np.inf)
            # a value beyond its range would be another mistake, and must not be hidden
            return max(value - half, min(low, value)), min(value + half, max(high, value))
        finite = self.draws[np.isfinite(self.draws)]
        if len(finite) == 0:
            return value, value
        low, high = np.quantile(finite, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
        return float(low), float(high)

    @cached_property
    def excludes_zero(self) -> bool:
        low, high = self.interval()
        return low > 0 or high < 0


Maybe = Estimate | Undefined


def _divide(a: Any, b: Any) -> Any:
    """Elementwise a / b; a draw whose denominator is 0 becomes non-finite and leaves the interval."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(a, b)


def constant_like(estimate: Estimate, value: float) -> Estimate:
    """A number without sampling error, e.g. a bound known by construction."""
    return Estimate(np.full(np.shape(estimate.value), value), np.full_like(estimate.draws, value))


def stack(estimates: Sequence[Estimate]) -> Estimate:
    """Joins scalar estimates into one array of estimates."""
    return Estimate(
        np.stack([e.value for e in estimates]),
        np.stack([e.draws for e in estimates], axis=1),
        normal=any(e.normal for e in estimates),
        units=min((e.units for e in estimates if e.units is not None), default=None),
    )


class Bootstrap:
    """Resamples independent units with replacement; every estimate it makes shares the resamples.

    Drawing how often each unit occurs is the same as drawing units, and turns every resampled sum into
    one matrix product. Where prompts share units in several ways (the name that receives, the name
    that gives), every way is resampled on its own and a prompt's weight is the product: the
    pigeonhole bootstrap (Owen 2007, Ann. Appl. Stat. 1:386). It counts what is particular to a single
    combination of units three times, so it is never too narrow, and wide where nothing recurs.
    """

    def __init__(
        self,
        cluster: Int[np.ndarray, "n"],
        units: Int[np.ndarray, "n n_ways"] | None = None,
        n_resamples: int = N_RESAMPLES,
        seed: int | Sequence[int] = 0,
    ) -> None:
        ways = np.asarray(cluster)[:, None] if units is None else np.asarray(units)
        named = [np.unique(way, return_inverse=True) for way in ways.T]
        self._names = [names for names, _ in named]
        self._ways = [way.reshape(-1) for _, way in named]
        cells, index = np.unique(np.stack(self._ways, axis=1), axis=0, return_inverse=True)
        # the combination of units that each prompt belongs to
        self.index = index.reshape(-1)
        self.n = len(self.index)
        rng = np.random.default_rng(seed)
        self._times, self.counts = [], np.ones((n_resamples, len(cells)))
        for way in cells.T:
            n_names = int(way.max(initial=-1)) + 1
            times = rng.multinomial(n_names, np.full(n_names, 1 / max(n_names, 1)), size=n_resamples)
            self._times.append(times)
            self.counts *= times[:, way]

    def with_sources(self, units: Int[np.ndarray, "n n_ways"]) -> "Bootstrap":
        """The same resamples for what depends on a prompt's source too, whose units are given.

        A unit is drawn as often as it is, in whichever role: a name that is taken out of one prompt is put
        into others. Units that a source shares with its prompt count once, and so do those of no prompt.
        """
        if not self._times:
            return self
        further = np.full((self.n, len(self._ways)), -1)
        for at, (names, own, given) in enumerate(zip(self._names, self._ways, units.T, strict=True)):
            place = np.searchsorted(names, given).clip(max=len(names) - 1)
            other = (names[place] == given) & (place != own)
            further[other, at] = place[other]
        if (further < 0).all():
            return self
        keys = np.concatenate([np.stack(self._ways, axis=1), further], axis=1)
        cells, index = np.unique(keys, axis=0, return_inverse=True)
        joint = copy(self)
        for name in ("_whole", "_by_cell", "_totals"):
            joint.__dict__.pop(name, None)
        joint.index, joint.counts = index.reshape(-1), np.ones((len(self.counts), len(cells)))
        for times, way in zip([*self._times, *self._times], cells.T, strict=True):
            joint.counts *= np.where(way < 0, 1, times[:, way])
        return joint

    @classmethod
    def by_group(cls, group: Int[np.ndarray, "n"] | None, n: int, n_groups: int) -> "Bootstrap":
        """Not resamples: draw g holds the prompts of group g alone, or all of them without groups."""
        boot = cls(np.zeros(n, dtype=int) if group is None else group, n_resamples=n_groups)
        boot.counts = np.ones((n_groups, 1)) if group is None else np.eye(n_groups)
        boot._times = []
        return boot

    def n_units(self, where: np.ndarray | None = None) -> int:
        """Independent units behind the prompts that `where` marks, of the way that has fewest."""
        marked = slice(None) if where is None else np.asarray(where) > 0
        return min(int((np.bincount(way[marked]) > 0).sum()) for way in self._ways)

    @cached_property
    def _units(self) -> int:
        return self.n_units()

    @cached_property
    def _whole(self) -> Estimate:
        return self.total(np.ones(self.n))

    @cached_property
    def _totals(self) -> dict[bytes, Estimate]:
        return {}

    def total(self, values: Shaped[np.ndarray, "n *m"]) -> Estimate:
        """Σ over prompts."""
        values = np.asarray(values, dtype=np.float64)
        if values.ndim > 1:
            return self._total(values)
        # scores share most of their columns and masks: one in five to twelve is new
        key = hashlib.blake2b(np.ascontiguousarray(values).data, digest_size=16).digest()
        if key not in self._totals:
            self._totals[key] = self._total(values)
        return self._totals[key]

    def _total(self, values: np.ndarray) -> Estimate:
        flat = values.reshape(len(values), -1)
        n_cells = self.counts.shape[1]
        # several times faster than adding rows one by one
        sums = np.stack([np.bincount(self.index, column, n_cells) for column in flat.T], axis=1)
        shape = values.shape[1:]
        used = np.flatnonzero(sums.any(1))
        few = len(used) < len(sums) // 2
        # few prompts ask for any one attribute: the others' units add nothing
        draws = self._by_cell[used].T @ sums[used] if few else self.counts @ sums
        return Estimate(flat.sum(0).reshape(shape), draws.reshape(len(draws), *shape), units=self._units)

    @cached_property
    def _by_cell(self) -> Float[np.ndarray, "n_cells n_resamples"]:
        return np.ascontiguousarray(self.counts.T)

    def mean(self, values: Shaped[np.ndarray, "n"], where: np.ndarray | None = None) -> Maybe:
        """Mean over prompts, or over those that `where` marks; a share if the values are 0 or 1."""
        values = np.asarray(values, dtype=np.float64)
        if where is None:
            chosen, units = values, self._units
            sums, whole = self.total(values), self._whole
        else:
            where = np.asarray(where, dtype=np.float64)
            chosen, units = values[where > 0], self.n_units(where)
            sums, whole = self.total(values * where), self.total(where)
        if len(chosen) == 0:
            return Undefined("no prompt to average over")
        share = bool(((chosen == 0) | (chosen == 1)).all())
        mean = sums / whole
        return Estimate(mean.value, mean.draws, share_of=units if share else None, units=units)


def wilson(successes: float, n: int) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927); successes of a cluster may be a fraction."""
    if n == 0:
        return 0.0, 1.0
    p, z2 = successes / n, _Z**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * np.sqrt(p * (1 - p) / n + z2 / (4 * n**2))
    # at 0 and n the bound is exact; rounding must not leave it at 1e-17 beside it
    low = 0.0 if successes == 0 else float(centre - half)
    high = 1.0 if successes == n else float(centre + half)
    return low, high


def ratio(numerator: Estimate, denominator: Estimate, reason: str) -> Maybe:
    """A signed ratio; undefined, with the reason, if the denominator's interval includes 0."""
    if not denominator.excludes_zero:
        return Undefined(reason)
    return numerator / denominator


def normalized(value: Maybe, floor: Maybe, ceiling: Maybe, direction: Direction = "higher") -> Maybe:
    """`(value − floor) / (ceiling − floor)`, never clamped (docs/methods.md §2).

    Undefined where the ceiling cannot be told from the floor, or is worse than it: the sign would
    turn round, and the best edit would look like the worst.
    """
    for part in (value, floor, ceiling):
        if isinstance(part, Undefined):
            return part
    assert isinstance(value, Estimate) and isinstance(floor, Estimate) and isinstance(ceiling, Estimate)
    span = ceiling - floor
    sign = {"higher": 1.0, "lower": -1.0, "none": 0.0}[direction]
    if span.excludes_zero and sign * float(span) < 0:
        return Undefined("the ceiling is worse than the floor")
    return ratio(value - floor, span, "the ceiling is not credibly different from the floor")


def normalized_interval(value: Estimate, floor: Estimate, ceiling: Estimate) -> Interval:
    """Interval of the normalised value; a share that takes Wilson's interval keeps its width.

    Without this a share of 1 between a floor of 0 and a ceiling of 1 would claim no uncertainty. Where
    the value has a range, the interval ends there.
    """
    share = (value - floor) / (ceiling - floor)
    low, high = share.interval()
    span = float(ceiling) - float(floor)

    def scaled(interval: Interval) -> list[float]:
        return sorted((bound - float(floor)) / span for bound in interval)

    if value.is_stiff:
        ends = scaled(value.interval())
        low, high = min(low, ends[0]), max(high, ends[1])
    if value.bounds is not None:
        ends = scaled(value.bounds)
        low, high = max(low, min(ends[0], float(share))), min(high, max(ends[1], float(share)))
    return low, high


class HolmResult(NamedTuple):
    adjusted: Float[np.ndarray, "m"]
    rejected: np.ndarray


def holm(p: Float[np.ndarray, "m"], alpha: float = 1 - LEVEL) -> HolmResult:
    """Holm's step-down adjustment of several p-values (Holm 1979)."""
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return HolmResult(adjusted, adjusted <= alpha)


def rank_interval(
    draws: Float[np.ndarray, "n_resamples m"],
    values: Float[np.ndarray, "m"] | None = None,
    descending: bool = True,
) -> Int[np.ndarray, "m 2"]:
    """95 % interval of each column's rank (1 = best), so that ties look like ties.

    With `values` the draws are moved to them first: draws of a score with a threshold or a maximum in
    it lie beside their estimate, each column by another amount.
    """
    if values is not None:
        draws = draws + (values - np.nanmean(draws, axis=0))
    signed = -draws if descending else draws
    ranks = scipy_stats.rankdata(signed, axis=1, method="average", nan_policy="omit")
    low, high = np.nanquantile(ranks, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=0)
    return np.stack([np.floor(low), np.ceil(high)], axis=1).astype(int)
