"""Estimates that carry their resamples, so that every difference and ratio is paired.

METHODS §11. The unit of resampling is the cluster. All estimates of one `Bootstrap` share its
resamples: arithmetic on them is arithmetic on paired draws, and an interval of a difference or a
ratio needs no formula of its own. Two results on the same prompts, clusters and seed share their
resamples too, which is what makes comparisons between dictionaries paired.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy import stats as scipy_stats

LEVEL = 0.95
N_RESAMPLES = 2000
_Z = float(scipy_stats.norm.ppf(0.5 + LEVEL / 2))

Interval = tuple[float, float]


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
    """For a share: the number of clusters behind it, for the Wilson interval at 0 and 1."""
    normal: bool = False
    """Interval as estimate ± 1.96 standard errors: for means over many chosen latents, whose
    percentile interval sits beside the estimate instead of around it."""

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
        return Estimate(self.value[index], np.moveaxis(np.moveaxis(self.draws, 0, -1)[index], -1, 0))

    def _with(self, other: "Estimate | float", op: Callable[[Any, Any], Any]) -> "Estimate":
        if isinstance(other, Estimate):
            value, draws = op(self.value, other.value), op(self.draws, other.draws)
            return Estimate(value, draws, normal=self.normal or other.normal)
        return Estimate(op(self.value, other), op(self.draws, other), normal=self.normal)

    def map(self, f) -> "Estimate":
        """Applies an elementwise function to the value and to every draw."""
        return Estimate(f(self.value), f(self.draws), normal=self.normal)

    def mean(self) -> "Estimate":
        """Mean over the entries of an array of estimates."""
        axes = tuple(range(1, self.draws.ndim))
        return Estimate(self.value.mean(), self.draws.mean(axis=axes), normal=self.normal)

    def chosen(self) -> "Estimate":
        """The same, marked to take its interval from the standard error (see `normal`)."""
        return Estimate(self.value, self.draws, self.share_of, normal=True)

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
            return value - half, value + half
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
    )


class Bootstrap:
    """Resamples clusters with replacement; every estimate it makes shares the resamples.

    Drawing how often each cluster occurs is the same as drawing clusters, and turns every
    resampled sum into one matrix product.
    """

    def __init__(self, cluster: Int[np.ndarray, "n"], n_resamples: int = N_RESAMPLES, seed: int = 0) -> None:
        self.names, self.index = np.unique(np.asarray(cluster), return_inverse=True)
        self.n = len(self.index)
        c = len(self.names)
        rng = np.random.default_rng(seed)
        self.counts = rng.multinomial(c, np.full(c, 1 / c), size=n_resamples).astype(np.float64)

    @property
    def n_clusters(self) -> int:
        return len(self.names)

    def total(self, values: Shaped[np.ndarray, "n *m"]) -> Estimate:
        """Σ over prompts."""
        values = np.asarray(values, dtype=np.float64)
        flat = values.reshape(len(values), -1)
        sums = np.zeros((self.n_clusters, flat.shape[1]))
        np.add.at(sums, self.index, flat)
        shape = values.shape[1:]
        used = np.flatnonzero(sums.any(1))
        few = len(used) < len(sums) // 2
        # few prompts ask for any one attribute: the others' clusters add nothing
        draws = self._by_cluster[used].T @ sums[used] if few else self.counts @ sums
        return Estimate(flat.sum(0).reshape(shape), draws.reshape(len(draws), *shape))

    @cached_property
    def _by_cluster(self) -> Float[np.ndarray, "n_clusters n_resamples"]:
        return np.ascontiguousarray(self.counts.T)

    def mean(self, values: Shaped[np.ndarray, "n"], where: np.ndarray | None = None) -> Maybe:
        """Mean over prompts, or over those that `where` marks; a share if the values are 0 or 1."""
        values = np.asarray(values, dtype=np.float64)
        where = np.ones(len(values)) if where is None else np.asarray(where, dtype=np.float64)
        if where.sum() == 0:
            return Undefined("no prompt to average over")
        chosen = values[where > 0]
        mean = self.total(values * where) / self.total(where)
        share = bool(np.isin(chosen, (0.0, 1.0)).all())
        clusters = len(np.unique(self.index[where > 0]))
        return Estimate(mean.value, mean.draws, share_of=clusters if share else None)


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


def normalized(value: Maybe, floor: Maybe, ceiling: Maybe) -> Maybe:
    """`(value − floor) / (ceiling − floor)`, never clamped (METHODS §10)."""
    if isinstance(value, Undefined):
        return value
    if isinstance(floor, Undefined):
        return floor
    if isinstance(ceiling, Undefined):
        return ceiling
    span = ceiling - floor
    return ratio(value - floor, span, "the ceiling is not credibly different from the floor")


def normalized_interval(value: Estimate, floor: Estimate, ceiling: Estimate) -> Interval:
    """Interval of the normalised value; a share that takes Wilson's interval keeps its width.

    Without this a share of 1 between a floor of 0 and a ceiling of 1 would claim no uncertainty.
    """
    low, high = ((value - floor) / (ceiling - floor)).interval()
    if value.is_stiff:
        span = float(ceiling) - float(floor)
        ends = sorted((bound - float(floor)) / span for bound in value.interval())
        low, high = min(low, ends[0]), max(high, ends[1])
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


def p_two_sided(difference: Estimate) -> float:
    """Two-sided p of "no difference", from estimate / bootstrap standard error.

    The percentile p cannot fall below 1 / n_resamples, too coarse for Holm over dozens of scores.
    """
    error = difference.standard_error
    if error == 0:
        return 1.0 if float(difference) == 0 else 0.0
    return float(2 * scipy_stats.norm.sf(abs(float(difference)) / error))


def rank_interval(
    draws: Float[np.ndarray, "n_resamples m"], descending: bool = True
) -> Int[np.ndarray, "m 2"]:
    """95 % interval of each column's rank (1 = best), so that ties look like ties."""
    signed = -draws if descending else draws
    ranks = scipy_stats.rankdata(signed, axis=1, method="average")
    low, high = np.quantile(ranks, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=0)
    return np.stack([np.floor(low), np.ceil(high)], axis=1).astype(int)
