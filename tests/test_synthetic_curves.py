"""The committed curves show what is said of them; their tools are right."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from saebench.synthetic.figures import FIGURES, draw
from saebench.synthetic.phenomena import CURVES, explained, generator, top
from saebench.synthetic.seeds import over_seeds, paired

RESULTS = Path(__file__).parents[1] / "results" / "synthetic"


def curve(name: str) -> pd.DataFrame:
    return pd.read_csv(RESULTS / f"{name}.csv")


def test_too_small_a_k_is_paid_for_in_mixed_features():
    found = curve("hedging").groupby(["rho", "k"]).mean()
    strong = found.loc[(0.4, 2)]
    assert strong.explained_variance > strong.truth_explained_variance + 0.1
    for rho in (0.0, 0.2, 0.4):
        assert found.loc[(rho, 2)].hedging > found.loc[(rho, 8)].hedging
    at_eight = [found.loc[(rho, 8)].hedging for rho in (0.0, 0.2, 0.4)]
    assert at_eight == sorted(at_eight)


def test_the_weak_group_is_occluded_by_the_optimum_that_is_found():
    frame = curve("occlusion").set_index(["ratio", "start"])
    assert frame.loc[(1.0, "random")].weak >= 0.9 and frame.loc[(4.0, "random")].weak <= 0.6
    assert frame.loc[(4.0, "random")].weak_high < frame.loc[(4.0, "truth")].weak_low
    assert (frame.xs("random", level="start").strong.iloc[1:] >= 0.95).all()


def test_matryoshka_absorbs_least_at_equal_l0():
    rows = curve("absorption_paired").set_index(["child_given_parent", "difference"])
    assert rows.loc[(0.8, "batchtopk - matryoshka")].low > 0 and rows.loc[(0.8,)].n.min() >= 6
    for given in (0.6, 0.8):
        assert rows.loc[(given, "standard - matryoshka")].low > 0.3
    frame = curve("absorption")
    l0 = frame[frame.child_given_parent >= 0.6].groupby(["child_given_parent", "architecture"]).l0
    for _, mean in l0.mean().groupby(level=0):
        assert mean.max() / mean.min() < 1.1


def test_variance_explained_is_not_recovery():
    row = curve("zipf").iloc[0]
    assert row.explained_variance_low > 0.9 and row.matched_cosine < 0.6
    assert row.matched_cosine_calibrated < row.matched_cosine < row.matched_cosine_frequent
    assert 0.2 < row.frequent_features < 0.3


@pytest.mark.parametrize("name", [n for n in FIGURES if (RESULTS / f"{n}.csv").exists()])
def test_figures_are_drawn_from_the_committed_numbers(name, tmp_path):
    (tmp_path / f"{name}.csv").write_bytes((RESULTS / f"{name}.csv").read_bytes())
    path = draw(name, tmp_path)
    assert path and path.stat().st_size > 5000
    assert name in CURVES


def test_refitting_the_bias_costs_nothing_and_helps_nothing_else():
    x = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    hat = x + 0.5 * torch.randn(200, 5, generator=torch.Generator().manual_seed(1))
    assert explained(x, hat + 7) == pytest.approx(explained(x, hat), abs=1e-5)
    assert explained(x, x + 3) == pytest.approx(1) and explained(x, x * 0) == pytest.approx(0)
    kept = top(torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 0.0]]), 2)
    assert kept.tolist() == [[3, 0, 2], [0, 5, 0]]


def test_differences_over_seeds():
    values = np.array([0.1, 0.3, 0.2, 0.4])
    found = over_seeds(values)
    assert found is not None
    low, high = stats.ttest_1samp(values, 0).confidence_interval()
    assert found.low == pytest.approx(low) and found.high == pytest.approx(high)
    assert over_seeds(values[:1]) is None
    rows = [dict(x=1, seed=s, architecture=a, y=s + shift)
            for s in range(3) for a, shift in (("one", 0.0), ("two", 0.5))]  # fmt: skip
    (row,) = paired(pd.DataFrame(rows), "x", "y", "one")
    assert row["mean"] == 0.5 and row["low"] == row["high"] == 0.5


def test_generators_take_other_parameters():
    assert generator("occlusion", ratio=3.0).activations.mean_firing_magnitudes[0] == 3
