"""Estimates, intervals and corrections, against hand computation, scipy and simulated truth."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from saebench.scoring.detection import f1_and_star
from saebench.scoring.estimates import (
    Bootstrap,
    Estimate,
    Undefined,
    constant_like,
    holm,
    normalized,
    normalized_interval,
    rank_interval,
    ratio,
    stack,
    wilson,
)

Interval = tuple[float, float]


def some(seed: int = 0, n: int = 40, c: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, c, n), rng.normal(size=n)


# ---- bootstrap -------------------------------------------------------------------------------


def test_draws_are_means_of_resampled_clusters() -> None:
    """Every draw, recomputed by copying prompts cluster by cluster."""
    cluster, x = some()
    boot = Bootstrap(cluster, n_resamples=50, seed=3)
    mean, total = boot.mean(x), boot.total(x)
    assert isinstance(mean, Estimate)
    for r, counts in enumerate(boot.counts.astype(int)):
        assert counts.sum() == boot.n_units()
        names = np.unique(cluster)
        copies = [x[cluster == name] for name, k in zip(names, counts, strict=True) for _ in range(k)]
        assert mean.draws[r] == pytest.approx(np.concatenate(copies).mean())
        assert total.draws[r] == pytest.approx(np.concatenate(copies).sum())
    assert float(mean) == pytest.approx(x.mean()) and float(total) == pytest.approx(x.sum())


def test_a_mean_over_some_prompts_resamples_numerator_and_denominator() -> None:
    cluster, x = some()
    where = x > -0.5
    boot = Bootstrap(cluster, n_resamples=20)
    mean = boot.mean(x, where)
    alone = boot.total(x * where) / boot.total(where * 1.0)
    assert isinstance(mean, Estimate)
    assert float(mean) == pytest.approx(x[where].mean())
    assert np.allclose(mean.draws, alone.draws)
    assert boot.mean(x, np.zeros(40)) == Undefined("no prompt to average over")


def test_few_and_many_used_clusters_give_the_same_sums() -> None:
    cluster, x = some()
    boot = Bootstrap(cluster, n_resamples=30)
    sparse = x * (cluster == cluster[0])
    dense = boot.total(np.stack([sparse, x], axis=1))
    assert np.allclose(boot.total(sparse).draws, dense.draws[:, 0])


def test_same_seed_same_resamples_whatever_the_order_of_calls() -> None:
    cluster, x = some()
    a, b = Bootstrap(cluster, seed=1), Bootstrap(cluster, seed=1)
    b.total(x * 2)
    assert np.array_equal(a.total(x).draws, b.total(x).draws)
    assert not np.array_equal(a.total(x).draws, Bootstrap(cluster, seed=2).total(x).draws)


def test_arithmetic_acts_on_value_and_draws_alike() -> None:
    cluster, x = some()
    boot = Bootstrap(cluster, n_resamples=25)
    a, b = boot.total(x), boot.total(x**2)
    for f in (
        lambda u, v: u + v,
        lambda u, v: u - v,
        lambda u, v: u * v,
        lambda u, v: u / v,
        lambda u, v: 3 - u,
        lambda u, v: 2 * u + 1,
        lambda u, v: -u,
    ):
        made = f(a, b)
        assert made.value == pytest.approx(f(a.value, b.value))
        assert np.allclose(made.draws, f(a.draws, b.draws))


def test_indexing_and_stacking_are_inverse() -> None:
    cluster, x = some()
    boot = Bootstrap(cluster, n_resamples=25)
    both = boot.total(np.stack([x, x**2, x**3], axis=1))
    again = stack([both[i] for i in range(3)])
    assert np.array_equal(again.value, both.value) and np.array_equal(again.draws, both.draws)
    assert np.array_equal(both[1:].draws, both.draws[:, 1:])
    assert both.mean().draws == pytest.approx(both.draws.mean(1))


def test_a_paired_difference_is_narrower_than_an_unpaired_one() -> None:
    cluster, x = some(n=400, c=100)
    boot = Bootstrap(cluster)
    a, b = boot.mean(x), boot.mean(x + 0.1 * np.random.default_rng(1).normal(size=400))
    assert isinstance(a, Estimate) and isinstance(b, Estimate)
    assert (a - b).standard_error < 0.25 * np.hypot(a.standard_error, b.standard_error)
    assert (a - a).interval() == (0.0, 0.0)


# ---- edge cases ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_share_of_exactly_0_or_1_keeps_wilsons_width(value: float) -> None:
    cluster = np.repeat(np.arange(30), 5)
    boot = Bootstrap(cluster)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        share = boot.mean(np.full(150, value))
        assert isinstance(share, Estimate)
        # 30 clusters, not 150 prompts
        assert share.interval() == wilson(round(30 * value), 30)
        floor, ceiling = (constant_like(share, x) for x in (0.0, 1.0))
        assert normalized_interval(share, floor, ceiling) == pytest.approx(share.interval())


def test_one_cluster_is_defined_and_silent() -> None:
    boot = Bootstrap(np.zeros(20, dtype=int))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean = boot.mean(np.linspace(0.2, 0.9, 20))
        assert isinstance(mean, Estimate)
        assert mean.interval() == (pytest.approx(0.55), pytest.approx(0.55))
        assert mean.standard_error == pytest.approx(0)
        right = boot.mean(np.ones(20))
        assert isinstance(right, Estimate) and right.interval() == wilson(1, 1)
        half = boot.mean(np.arange(20) % 2)
        assert isinstance(half, Estimate)
        # one cluster says next to nothing about others, and must not claim to be certain
        low, high = half.interval()
        assert low < 0.1 and high > 0.9
        assert normalized_interval(half, half * 0.0, half * 0.0 + 1.0) == (low, high)


def test_a_draw_without_denominator_leaves_the_interval() -> None:
    cluster = np.arange(12)
    rare = (cluster < 2).astype(float)
    boot = Bootstrap(cluster)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean = boot.mean(np.linspace(0, 1, 12), rare)
        assert isinstance(mean, Estimate)
        assert not np.isfinite(mean.draws).all() and np.isfinite(mean.interval()).all()
        assert np.isfinite(mean.standard_error)


def test_a_ratio_over_nothing_is_undefined_with_its_reason() -> None:
    cluster, x = some(n=200, c=50)
    boot = Bootstrap(cluster)
    noise, something = boot.total(x - x.mean()), boot.total(np.ones(200))
    assert ratio(something, noise, "why") == Undefined("why")
    defined = ratio(noise, something, "why")
    assert isinstance(defined, Estimate) and float(defined) == pytest.approx(0, abs=1e-12)


def test_normalized_by_hand() -> None:
    cluster, _ = some(n=200, c=50)
    boot = Bootstrap(cluster)
    value, floor, ceiling = (constant_like(boot.total(np.ones(200)), v) for v in (0.5, 0.2, 0.8))
    found = normalized(value, floor, ceiling)
    assert isinstance(found, Estimate) and float(found) == pytest.approx(0.5)
    # lower is better: floor 3 nats, ceiling 1 nat, no flip needed
    nats = [constant_like(value, x) for x in (2.5, 3.0, 1.0)]
    kl = normalized(*nats, direction="lower")
    assert isinstance(kl, Estimate) and float(kl) == pytest.approx(0.25)
    # never clamped
    beyond = normalized(constant_like(value, 1.1), floor, ceiling)
    assert isinstance(beyond, Estimate) and float(beyond) == pytest.approx(1.5)
    assert isinstance(normalized(value, floor, floor), Undefined)
    assert normalized(Undefined("a"), floor, ceiling) == Undefined("a")


# ---- Wilson, Holm, p, ranks ------------------------------------------------------------------


@given(st.integers(0, 60), st.integers(1, 60))
def test_wilson_is_scipys(k: int, extra: int) -> None:
    n = k + extra - 1 or 1
    k = min(k, n)
    expected = scipy_stats.binomtest(k, n).proportion_ci(0.95, "wilson")
    assert wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_by_hand() -> None:
    # 10 of 10: 1 / (1 + 1.96² / 10)
    assert wilson(10, 10) == (pytest.approx(1 / (1 + 3.841459 / 10), abs=1e-6), 1.0)
    assert wilson(0, 0) == (0.0, 1.0)


def naive_holm(p: list[float], alpha: float) -> list[bool]:
    """Rejects from the smallest p on, until one exceeds alpha over the number still standing."""
    rejected = [False] * len(p)
    for place, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[i] > alpha / (len(p) - place):
            break
        rejected[i] = True
    return rejected


@given(st.lists(st.floats(0, 1), max_size=12), st.sampled_from([0.01, 0.05, 0.2]))
def test_holm_is_the_step_down_procedure(p: list[float], alpha: float) -> None:
    found = holm(np.array(p), alpha)
    # on the boundary itself the two ways of writing it may round differently
    if all(abs(x * k - alpha) > 1e-9 for x in p for k in range(1, len(p) + 1)):
        assert found.rejected.tolist() == naive_holm(p, alpha)
    assert all(a >= x for a, x in zip(found.adjusted, p, strict=True))


def test_holm_by_hand() -> None:
    found = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    assert found.adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert found.rejected.tolist() == [True, False, False, True]


def test_rank_intervals_by_hand() -> None:
    sure = np.tile([0.9, 0.1, 0.5], (100, 1))
    assert rank_interval(sure).tolist() == [[1, 1], [3, 3], [2, 2]]
    assert rank_interval(sure, descending=False).tolist() == [[3, 3], [1, 1], [2, 2]]
    tied = np.tile([0.5, 0.5, 0.1], (100, 1))
    assert rank_interval(tied).tolist() == [[1, 2], [1, 2], [3, 3]]
    swaps = np.array([[0.9, 0.8]] * 50 + [[0.8, 0.9]] * 50)
    assert rank_interval(swaps).tolist() == [[1, 2], [1, 2]]


# ---- coverage (docs/methods.md §2) --------------------------------------------------------------------

N, CLUSTERS = 500, 150


def clustered(rng: np.random.Generator, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of prompts and a standard normal number for each, correlated by `spread` ** 2."""
    cluster = rng.integers(0, CLUSTERS, N)
    shared = rng.normal(size=CLUSTERS)[cluster]
    return cluster, spread * shared + np.sqrt(1 - spread**2) * rng.normal(size=N)


def of_mean(p: float) -> Callable[[int], tuple[Interval, float]]:
    def draw(seed: int) -> tuple[Interval, float]:
        cluster, z = clustered(np.random.default_rng(seed), 0.6)
        mean = Bootstrap(cluster, seed=seed).mean((z < scipy_stats.norm.ppf(p)).astype(float))
        assert isinstance(mean, Estimate)
        return mean.interval(), p

    return draw


def of_ratio(seed: int) -> tuple[Interval, float]:
    """(mean x + 0.6) / (mean y + 2) with x and y on the same prompts."""
    rng = np.random.default_rng(seed)
    cluster, x = clustered(rng, 0.5)
    y = 0.7 * x + rng.normal(size=N)
    boot = Bootstrap(cluster, seed=seed)
    found = ratio(boot.total(x - 0.6), boot.total(y + 2), "")
    assert isinstance(found, Estimate)
    return found.interval(), -0.3


HIT, FALSE_HIT = 0.7, 0.15


def fires(rng: np.random.Generator, cluster: np.ndarray, y: np.ndarray, hit: float, miss: float):
    """A latent that fires on positives and negatives with these probabilities, by cluster ± 0.1."""
    shift = rng.uniform(-0.1, 0.1, CLUSTERS)[cluster]
    return rng.random(len(y)) < np.where(y, hit, miss) + shift


def f1_estimate(boot: Bootstrap, on: np.ndarray, y: np.ndarray) -> Estimate:
    tp, fp, fn = (boot.total(x * 1.0) for x in (on & y, on & ~y, ~on & y))
    return f1_and_star(tp, fp, fn, boot.total(np.ones_like(on, dtype=float)))[0]


def true_f1(p: float, hit: float, miss: float) -> float:
    return 2 * p * hit / (2 * p * hit + (1 - p) * miss + p * (1 - hit))


def of_chosen_f1(seed: int) -> tuple[Interval, float]:
    """The best of 20 latents on one split, scored on another."""
    rng = np.random.default_rng(seed)
    hits = rng.uniform(0.4, 0.8, 20)
    misses = rng.uniform(0.12, 0.3, 20)

    def split() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        cluster = rng.integers(0, CLUSTERS, N)
        y = rng.random(N) < 0.3
        on = [fires(rng, cluster, y, h, m) for h, m in zip(hits, misses, strict=True)]
        return cluster, y, on

    _, y, on = split()
    best = int(np.argmax([2 * (x & y).sum() / (x.sum() + y.sum()) for x in on]))
    cluster, y, on = split()
    found = f1_estimate(Bootstrap(cluster, seed=seed), on[best][:, None], y[:, None])[0]
    return found.interval(), true_f1(0.3, hits[best], misses[best])


def of_many_f1(seed: int, values: int = 20) -> tuple[Interval, float]:
    """Mean F1 over many values, each with its own latent: ± 1.96 standard errors."""
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, CLUSTERS, N)
    label = rng.integers(0, values, N)
    columns = [fires(rng, cluster, label == v, HIT, 0.1 + 0.01) for v in range(values)]
    on, y = np.stack(columns, 1), label[:, None] == np.arange(values)
    found = f1_estimate(Bootstrap(cluster, seed=seed), on, y).mean().chosen()
    return found.interval(), true_f1(1 / values, HIT, 0.11)


def coverage(draw: Callable[[int], tuple[Interval, float]], sets: int) -> float:
    inside = [low <= truth <= high for (low, high), truth in map(draw, range(sets))]
    return float(np.mean(inside))


CASES = {
    "mean, p = .5": of_mean(0.5),
    "mean, p = .85": of_mean(0.85),
    "mean, p = .97": of_mean(0.97),
    "signed ratio": of_ratio,
    "F1 of one latent chosen elsewhere": of_chosen_f1,
}


@pytest.mark.parametrize("case", CASES)
def test_intervals_cover_quick(case: str) -> None:
    assert coverage(CASES[case], 60) >= 0.85


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_intervals_cover(case: str) -> None:
    share = coverage(CASES[case], 500)
    print(f"coverage of the 95 % interval, {case}: {share:.1%}")
    assert 0.92 <= share <= 0.98


def test_means_of_f1_over_many_values_cover_quick() -> None:
    assert coverage(of_many_f1, 60) >= 0.85


@pytest.mark.slow
@pytest.mark.parametrize("values", [20, 80])
def test_means_of_f1_over_many_values_cover(values: int) -> None:
    share = coverage(lambda seed: of_many_f1(seed, values), 500)
    print(f"coverage of ± 1.96 standard errors, mean F1 over {values} values: {share:.1%}")
    assert share >= 0.92


def test_resampling_prompts_instead_of_clusters_would_not_cover() -> None:
    """The negative twin: with strong clustering, ignoring it gives intervals that are too narrow."""
    ignored, respected = [], []
    for seed in range(80):
        cluster, z = clustered(np.random.default_rng(seed), 0.95)
        for found, units in ((ignored, np.arange(N)), (respected, cluster)):
            mean = Bootstrap(units, n_resamples=500, seed=seed).mean(z)
            assert isinstance(mean, Estimate)
            low, high = mean.interval()
            found.append(low <= 0 <= high)
    assert np.mean(ignored) < 0.8 < 0.87 < np.mean(respected)
