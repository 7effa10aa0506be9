"""The committed curves show what is said of them; their tools are right."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from paths import RESULTS
from scipy import stats

from saebench.studies import curves
from saebench.studies.calibration import Level
from saebench.studies.curves import CURVES
from saebench.studies.figures import FIGURES, draw
from saebench.studies.rows import over_seeds, paired
from saebench.studies.scene import explained, generator, top

SYNTHETIC = RESULTS / "synthetic"


def curve(name: str) -> pd.DataFrame:
    return pd.read_csv(SYNTHETIC / f"{name}.csv")


def test_too_small_a_k_is_paid_for_in_mixed_features():
    found = curve("hedging").query("start == 'truth'").groupby(["rho", "k"]).mean(numeric_only=True)
    strong = found.loc[(0.4, 2)]
    assert strong.explained_variance > strong.truth_explained_variance + 0.1
    for rho in (0.0, 0.2, 0.4):
        assert found.loc[(rho, 2)].hedging > found.loc[(rho, 8)].hedging
    at_eight = [found.loc[(rho, 8)].hedging for rho in (0.0, 0.2, 0.4)]
    assert at_eight == sorted(at_eight)


def test_the_weak_group_is_occluded_by_the_optimum_that_is_found():
    frame = curve("occlusion")
    found = frame.groupby(["ratio", "start"])[["strong", "weak"]].mean()
    assert found.loc[(1.0, "random")].weak >= 0.9 and found.loc[(4.0, "random")].weak <= 0.6
    at_four = frame.query("ratio == 4").groupby("start").weak
    assert at_four.max()["random"] < at_four.min()["truth"]
    random = found.xs("random", level="start")
    # at a ratio of 1 neither group is the strong one
    assert (random.strong.loc[1.5:] >= 0.95).all()


def test_matryoshka_absorbs_least_at_equal_l0():
    rows = curve("absorption_paired").set_index(["child_given_parent", "difference"])
    for given in (0.6, 0.8):
        assert rows.loc[(given, "batchtopk - matryoshka")].low > 0
        assert rows.loc[(given, "standard - matryoshka")].low > 0.1
        assert rows.loc[(given,)].n.min() == 12
    frame = curve("absorption").query("start == 'random'")
    l0 = frame.groupby(["child_given_parent", "architecture"]).l0.mean()
    for _, mean in l0.groupby(level=0):
        assert mean.max() / mean.min() < 1.1


def test_variance_explained_is_not_recovery():
    rows = curve("zipf").query("start == 'random'")
    assert len(rows) == 3
    assert rows.explained_variance_low.min() > 0.9 and rows.matched_cosine.max() < 0.6
    assert (rows.matched_cosine_calibrated < rows.matched_cosine).all()
    assert (rows.matched_cosine < rows.matched_cosine_frequent).all()
    assert rows.frequent_features.between(0.2, 0.3).all()


def test_topk_splits_the_sign_less_the_more_latents_are_on():
    rows = curve("splitting").query("architecture == 'topk' and start == 'random'")
    one, four, sixteen = rows.groupby("wanted_l0").n90.mean()
    assert one > 40 and 10 < four < 20 and sixteen <= 4


def test_l1_splits_the_sign_too_by_its_objective():
    """Contrary to what was expected; from the truth it comes out the same."""
    rows = curve("splitting").query("architecture == 'standard' and wanted_l0 == 4")
    found = rows.groupby("start")[["n90", "objective"]].mean()
    assert found.n90.min() > 20
    assert found.objective["truth"] == pytest.approx(found.objective["random"], rel=1e-3)
    noise = curve("splitting_noise").query("architecture == 'standard'").groupby("noise").n90
    assert noise.max()[0.1] <= 2 and noise.min()[0.5] > 3


@pytest.mark.parametrize("name", [n for n in FIGURES if (SYNTHETIC / f"{n}.csv").exists()])
def test_figures_are_drawn_from_the_committed_numbers(name, tmp_path):
    (tmp_path / f"{name}.csv").write_bytes((SYNTHETIC / f"{name}.csv").read_bytes())
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
    rows = [
        dict(x=1, seed=s, architecture=a, y=s + shift)
        for s in range(3)
        for a, shift in (("one", 0.0), ("two", 0.5))
    ]
    (row,) = paired(pd.DataFrame(rows), "x", "y", "one")
    assert row["mean"] == 0.5 and row["low"] == row["high"] == 0.5


@pytest.mark.parametrize("name", ("hedging", "composition", "splitting"))
def test_curves_can_be_made_again(name, monkeypatch):
    """The columns of a first row, trained for a moment, are those of the committed table."""
    plain = curves.fit
    monkeypatch.setattr(curves, "fit", lambda made, recipe: plain(made, replace(recipe, samples=1024)))
    monkeypatch.setattr(curves, "levels", lambda made, recipe, wanted: [Level(w, 1.0, w) for w in wanted])
    row = next(CURVES[name]())
    assert list(row) == list(curve(name).columns)


def test_generators_take_other_parameters():
    assert generator("occlusion", ratio=3.0).activations.mean_firing_magnitudes[0] == 3
