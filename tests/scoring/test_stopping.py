"""Stopping: planned intervals cover, intervals that are looked at again and again do not; who is credibly out."""

import numpy as np
import pytest

from saebench.scoring.estimates import Bootstrap
from saebench.scoring.stopping import credibly_better, mean_draws, out, units_for
from saebench.studies.stopping import EFFECTS, ENTITIES, NAMES, coverage, intervals, partners, weights


@pytest.mark.parametrize(
    ("design", "n_resamples"), [(NAMES, 250), (ENTITIES, 1000)], ids=["names", "entities"]
)
def test_planned_intervals_cover_and_those_looked_at_again_and_again_do_not(design, n_resamples):
    rows = [coverage(design, effect, n_resamples=n_resamples, looks=16) for effect in EFFECTS]
    assert all(row.planned >= 0.94 for row in rows), rows
    assert all(row.looked_at < row.planned for row in rows), rows
    # chance makes them stop where the spread looks small: most of all where outcomes are skewed
    assert rows[-1].looked_at < 0.92
    # and mostly it is as narrow as was asked for
    assert all(row.narrow_planned > 0.7 for row in rows)


def test_the_simulated_resamples_are_those_of_the_bootstrap():
    n, size = 20, 200
    ours = weights(NAMES, n, size, np.random.default_rng(3))
    cells = np.stack([np.repeat(np.arange(n), NAMES.partners), partners(NAMES, n).reshape(-1)], axis=1)
    boot = Bootstrap(np.arange(len(cells)), cells, n_resamples=size, seed=3)
    values = np.random.default_rng(0).random(len(cells))
    theirs, mine = boot.mean(values).interval(), intervals(values[None], ours)
    assert theirs == pytest.approx((mine.low[0], mine.high[0]), abs=1e-12)


def test_a_plan_asks_for_no_less_than_the_width_takes():
    assert units_for(0.1, 0.1, 50) == units_for(0.05, 0.1, 50) == 50
    # half the width takes four times as many, and room for chance in the pilot's spread
    assert 4 * 50 < units_for(0.2, 0.1, 50) < 6.5 * 50
    assert units_for(0.2, 0.1, 2000) / 2000 == pytest.approx(4, rel=0.06)


def drawn(rng, values, spread=0.1, n_resamples=500):
    """Estimates and draws of dictionaries on the same prompts: what they share does not part them."""
    m, shared = len(values), rng.normal(0, spread, 1 + n_resamples)
    own = rng.normal(0, spread / 5, (1 + n_resamples, m)) + shared[:, None]
    return np.asarray(values) + own[0], np.asarray(values) + own[0] + own[1:]


def test_nobody_is_called_better_by_chance_more_than_one_time_in_twenty():
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(200):
        values, draws = drawn(rng, [0.5] * 10)
        # two looks at the same dictionaries
        wrong += credibly_better(values, draws, 100, looks=2).any()
    # the second look is left out: half of 5 % is this one's share
    assert wrong <= 200 * 0.025 + 2.6 * np.sqrt(200 * 0.025)


def test_pairs_are_told_apart_although_their_own_intervals_overlap():
    values, draws = drawn(np.random.default_rng(4), [0.8, 0.8, 0.6, 0.3])
    better = credibly_better(values, draws, 100)
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    assert low[0] < high[2] and better[0, 2] and better[1, 2] and not better[0, 1]
    assert not better.diagonal().any() and not (better & better.T).any()
    assert out(better, 2).tolist() == [False, False, True, True]
    assert out(better, 3).tolist() == [False, False, False, True]
    # few units widen it
    assert credibly_better(values, draws, 3).sum() < better.sum()


def test_equals_and_undefined_draws_are_nobodys_betters():
    values, draws = drawn(np.random.default_rng(2), [0.9, 0.2, 0.2])
    values[2], draws[:, 2] = values[1], draws[:, 1]
    draws[:7, 1] = np.nan
    better = credibly_better(values, draws, 100)
    assert better[0, 1:].all() and not better[1, 2] and not better[2, 1]


def test_a_mean_of_headlines_needs_all_of_them():
    draws = {"control": np.array([0.0, 1.0]), "occlusion": np.array([1.0, 1.0])}
    assert mean_draws(("control", "occlusion"), draws).tolist() == [0.5, 1.0]
    assert mean_draws(("control", "approximation"), draws) is None
