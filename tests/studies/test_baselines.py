"""Baselines at equal L0: the penalties are searched, noted where there are none, and runs resume."""

from dataclasses import replace
from math import exp

import pandas as pd
import pytest
import torch
from paths import RESULTS

from saebench.evaluation.api import make_arena
from saebench.evaluation.options import Options
from saebench.spec import load_task
from saebench.studies import baselines
from saebench.studies.audit.plan import FAMILIES, Run
from saebench.studies.audit.train import file_of, save
from saebench.studies.baselines import ARCHITECTURES, SHARES, Family, calibrate, key, plan, run
from saebench.studies.calibration import Level, levels, mean_l0, search
from saebench.synthetic.registry import make_generator
from saebench.synthetic.training import Recipe
from saebench.synthetic.training import fit as plain_fit

SYNTHETIC = RESULTS / "synthetic"


class Falling:
    """L0 of a penalty, and how often it was asked for."""

    def __init__(self, law):
        self.law, self.tried = law, []

    def __call__(self, penalty):
        self.tried.append(penalty)
        return self.law(penalty)


def test_search_finds_the_penalties_of_a_falling_function():
    l0_of = Falling(lambda c: 8 / c)
    found = search(l0_of, [4.0, 2.0, 8.0])
    for level, penalty in zip(found, (2.0, 4.0, 1.0), strict=True):
        assert level.reached and level.l0 == l0_of.law(level.sparsity)
        assert level.sparsity == pytest.approx(penalty, rel=0.051)
    # none is tried twice, and tries for one L0 serve the others
    assert len(l0_of.tried) == len(set(l0_of.tried)) <= 16


def test_an_l0_that_is_jumped_over_is_not_reached():
    dies = Falling(lambda c: 20 * exp(-c / 10) if c < 3 else 0.0)
    two, fifteen = search(dies, [2.0, 15.0])
    assert not two.reached and fifteen.reached
    assert two.l0 > 14, "the nearest that was seen is told"
    assert len(dies.tried) <= 16
    never = search(lambda c: 3.0, [6.0])
    assert never == [Level(6.0, never[0].sparsity, 3.0)] and not never[0].reached


@pytest.fixture(scope="module")
def family():
    return Family("splitting")


def test_a_level_that_is_another_or_cannot_be_had_is_noted_and_not_trained(family, monkeypatch):
    # true L0 1: half of it is no whole k
    rows = list(calibrate(family, "topk"))
    assert [r["share_of_true_l0"] for r in rows] == list(SHARES)
    assert [(r["sparsity"], r["note"]) for r in rows] == [
        (1, ""),
        (1, "the same sparsity as another level"),
        (2, ""),
    ]
    monkeypatch.setattr(
        baselines.calibration, "levels", lambda made, recipe, wanted: [Level(w, w, 5 * w) for w in wanted]
    )
    missed = list(calibrate(family, "standard"))
    assert all("more than a quarter" in r["note"] for r in missed)
    assert {k[2] for k in plan({family.task.name: family}, rows + missed, 2)} == {"topk"}
    assert len(plan({family.task.name: family}, rows, 2)) == 4


def test_trained_saes_have_the_l0_that_was_wanted():
    made = make_generator(load_task("synthetic/correlated"))
    recipe = Recipe("jumprelu", 20, 1.0, samples=50_000, lr=3e-3)
    (level,) = levels(made, recipe, [made.true_l0()])
    assert level.reached
    again = plain_fit(made, recipe.with_sparsity(level.sparsity))
    assert mean_l0(made, again) == pytest.approx(level.l0)
    k = levels(made, Recipe("batchtopk", 20, 1.0), [2.504])
    assert k == [Level(2.504, 2.5, 2.5)]


def test_rows_read_back_are_the_same_saes(tmp_path, family):
    blank = family.blank("jumprelu", 0.5) | {"sparsity": 1.23456789, "seed": 2, "versions": "a=1"}
    baselines.write([blank], tmp_path / "b.csv")
    (back,) = baselines.read(tmp_path / "b.csv")
    assert key(back) == key(blank) != key(blank | {"seed": 1})
    assert key(back) != key(blank | {"versions": "a=2"})


def test_a_run_resumes_and_drops_what_is_out_of_date(tmp_path, monkeypatch):
    monkeypatch.setattr(baselines, "SAMPLES", 1024)
    monkeypatch.setattr(baselines, "ARCHITECTURES", ("topk",))
    monkeypatch.setattr(
        baselines, "make_arena", lambda task: make_arena(task, options=Options(budget="tiny"))
    )
    run(tmp_path, ["splitting"], 1)
    path = tmp_path / "baselines.csv"
    first = path.read_bytes()
    frame = pd.read_csv(path, dtype=str)
    # at half of the true L0 it is the same as at the whole
    assert list(frame.sparsity) == ["1", "2"]
    assert len(pd.read_csv(tmp_path / "calibration.csv")) == 3
    assert frame[["approximation", "matched_cosine_calibrated", "l0"]].notna().to_numpy().all()

    frame.loc[0, "task_sha256"] = "another"
    frame.to_csv(path, index=False)
    made = []
    plain = baselines.fit
    monkeypatch.setattr(baselines, "fit", lambda generator, r: made.append(r) or plain(generator, r))
    run(tmp_path, ["splitting"], 1)
    assert [recipe.sparsity for recipe in made] == [1]
    assert path.read_bytes() == first


def test_saes_of_the_audit_are_not_trained_again(family, tmp_path, monkeypatch):
    recipe = family.recipe("topk", 2, seed=1)
    of_audit = Run(FAMILIES["splitting"], "topk", 2.0, 2, recipe.width, 1)
    sae = plain_fit(family.made, replace(recipe, samples=512))
    (tmp_path / "runs").mkdir()
    save({of_audit.steps: sae}, file_of(of_audit, tmp_path))
    monkeypatch.setattr(baselines, "fit", lambda *_: "trained")
    taken = baselines.found(recipe, family, 2.0, tmp_path)
    assert torch.equal(taken.W_dec, sae.W_dec)
    assert baselines.found(recipe.with_sparsity(3), family, 1.0, tmp_path) == "trained"
    assert baselines.found(recipe, family, 2.0, None) == "trained"


def test_every_architecture_that_is_compared_can_be_trained():
    assert set(ARCHITECTURES) == {"standard", "gated", "topk", "batchtopk", "jumprelu", "matryoshka"}


def test_the_committed_baselines_are_complete_and_draw_their_figures(tmp_path):
    frame = pd.read_csv(SYNTHETIC / "baselines.csv")
    level = pd.read_csv(SYNTHETIC / "calibration.csv")
    assert len(level) == 6 * 6 * 3 and level.note.notna().sum() == 3
    assert len(frame) == 3 * level.note.isna().sum()
    keys = ["task", "architecture", "share_of_true_l0"]
    assert (frame.groupby(keys).seed.nunique() == 3).all()
    families = {name.removeprefix("synthetic/") for name in frame.task}
    names = {"baselines.png", *(f"baselines_{family}.png" for family in families)}
    assert {path.name for path in SYNTHETIC.glob("baselines*.png")} == names
    # one family is drawn: nine panels as all others have
    frame.query("task == 'synthetic/occlusion'").to_csv(tmp_path / "baselines.csv", index=False)
    drawn = baselines.draw(tmp_path)
    assert [path.name for path in drawn] == ["baselines.png", "baselines_occlusion.png"]
    assert all(path.stat().st_size > 20_000 for path in drawn)


def test_reconstruction_does_not_rank_recovery_in_the_baselines():
    frame = pd.read_csv(SYNTHETIC / "baselines.csv").query("share_of_true_l0 == 1")
    mean = frame.groupby(["task", "architecture"]).mean(numeric_only=True)
    for task, better, worse in (
        ("independent", "standard", "batchtopk"),
        ("hierarchical", "matryoshka", "gated"),
    ):
        up, down = mean.loc[(f"synthetic/{task}", better)], mean.loc[(f"synthetic/{task}", worse)]
        assert up.matched_cosine_calibrated > down.matched_cosine_calibrated + 0.1
        assert up.explained_variance < down.explained_variance
