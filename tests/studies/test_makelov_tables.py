"""What figures need beyond the axes: the same numbers as the axes where both have them; what is committed, drawn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from command import run
from paths import RESULTS, ROOT

from saebench.axes import MEASURES
from saebench.axes.control import few_latents
from saebench.dictionaries.supervised import SupervisedDictionary
from saebench.errors import ResultError
from saebench.records.outcomes import Key
from saebench.reporting import makelov_tables
from saebench.scoring import score
from saebench.scoring.estimates import Estimate
from saebench.scoring.settings import EDIT_SIZES
from saebench.studies.makelov import latents, together
from saebench.studies.makelov.stage import Stage

ROLES = ("io", "s", "pos")


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage.of("demo", None, "tiny", sets=together.SETS)


@pytest.fixture(scope="module")
def topk(stage):
    (found,) = stage.subjects(["demo:topk"])
    return found[1]


@pytest.mark.parametrize("name", ["s+pos", "io+s+pos"])
def test_sources_change_all_that_is_asked_for_and_nothing_else(stage, name):
    test, roles = stage.bench.section.test, name.split("+")
    acts, labels = test.source_acts[name], test.source_labels[name]
    changed = labels != test.labels
    assert changed[:, [ROLES.index(role) for role in roles]].all() and changed.sum() == len(test) * len(roles)
    assert acts.shape == test.acts.shape
    # the pair of names lies in the same split: no source is a prompt of another one
    n = len(stage.bench.section.attributes[0].values)
    pairs = [{tuple(sorted(p)) for p in labels[:, :2].tolist()} for labels in (test.labels, labels)]
    fitted = {tuple(sorted(p)) for p in stage.bench.section.fit.labels[:, :2].tolist()}
    assert n == 12 and not pairs[1] & fitted and pairs[1] <= pairs[0]


def test_an_edit_of_one_attribute_is_that_of_control(stage, topk):
    bench = replace(stage.bench, measures={name: MEASURES[name] for name in ("control", "joint")})
    out = bench.measure(topk.dictionary)
    for kind in ("agnostic", "aware"):
        for k in EDIT_SIZES:
            for name in ("ld", "success", "n_changed", "removed_weight"):
                one, other = (out[Key(axis, name, "io", kind, k)] for axis in ("control", "joint"))
                assert np.allclose(one, other, atol=1e-4), (kind, k, name)


def test_the_supervised_dictionary_edits_all_attributes_at_size_one(stage):
    (found,) = stage.subjects(["control:supervised"])
    edits = few_latents(found[1], "io+s+pos", ROLES, stage.bench, (1,))
    ceiling, test = stage.bench.ceiling, stage.bench.section.test
    assert isinstance(ceiling, SupervisedDictionary)
    old, new = (ceiling.atoms_of(labels) for labels in (test.labels, test.source_labels["io+s+pos"]))
    wanted = test.acts + ceiling.W_dec[new].sum(1) - ceiling.W_dec[old].sum(1)
    assert torch.allclose(edits["aware"][1].acts, wanted, atol=1e-4)
    assert (edits["aware"][1].n_changed == 6).all()
    rows = {(r["attributes"], r["edit"], r["k"]): r for r in together.rows(stage, ["control:supervised"])}
    whole = rows["io+s+pos", "supervised", 0]
    for edit, k in (("aware", 1), ("full", 0)):
        assert rows["io+s+pos", edit, k]["ld_moved"] == pytest.approx(whole["ld_moved"], abs=1e-3)
    assert rows["io+s+pos", "none", 0]["success"] < 0.5 < rows["io+s+pos", "source", 0]["success"]


def test_what_the_axis_stores_too_is_the_same(stage, topk, monkeypatch):
    bench = replace(stage.bench, measures={"interpretability": MEASURES["interpretability"]})
    scored = [e for e in score(bench.measure(topk.dictionary)).entries if e.attribute is None]
    entries = {(e.name, e.k): e.value for e in scored if isinstance(e.value, Estimate)}
    monkeypatch.setattr(latents, "GRID", (0.4, 0.8))
    for row in latents.thresholds(stage, ["demo:topk"]):
        name = {"keep": "kept_ld", "remove": "removed_ld"}[row["edit"]]
        wanted = entries[name, round(100 * row["t"])]
        assert row["ld_recovered"] == pytest.approx(float(wanted), abs=1e-6)
        assert row["ld_recovered_low"] == pytest.approx(wanted.interval()[0], abs=1e-6)
    shares = {row["predicate"]: row["share"] for row in latents.interpretations(stage, ["demo:topk"])}
    assert sum(shares.values()) == pytest.approx(1.0) and latents.TOKEN not in shares
    explained = float(entries["explained_latents@0.8", None])
    assert shares[latents.NOTHING] == pytest.approx(1 - explained)


def test_weights_are_those_of_the_edit_magnitude(stage):
    (found,) = stage.subjects(["control:pca:14"])
    subject = found[1]
    (row,) = latents.negative_weights(stage, ["control:pca:14"])
    explained = subject.test.by_latents
    codes = subject.dictionary.encode(stage.bench.section.test.acts).codes
    every = (codes[:, :, None] * subject.dictionary.W_dec * explained[:, None]).sum(2)
    every = every / explained.square().sum(1, keepdim=True)
    assert torch.allclose(every.sum(1), torch.ones(len(every)), atol=1e-4)
    # components are orthogonal: each writes towards the whole
    assert row["share"] == pytest.approx(float((every < 0).float().mean()), abs=1e-3) and row["share"] < 0.01


def test_committed_tables_are_drawn_and_stand_in_the_map(capsys, tmp_path):
    folder = RESULTS / "makelov"
    code, said, err = run(capsys, "paper", "makelov", str(folder), "--out", str(tmp_path))
    assert code == 0, err
    drawn = {line.rpartition("--")[2].removesuffix(".png") for line in said.splitlines()}
    text = (ROOT / "docs" / "makelov.md").read_text("utf-8")
    paths = makelov_tables.tables_in([folder])
    assert drawn == {makelov_tables.TABLES[path.stem][0] for path in paths} and len(paths) > 1
    assert all(f"`{name}`" in text for name, _ in makelov_tables.TABLES.values())
    assert makelov_tables.draw(paths) == {p.name: p.read_bytes() for p in tmp_path.iterdir()}


def test_a_table_that_lacks_its_columns_is_one_paragraph(tmp_path):
    (tmp_path / "occlusion.csv").write_text("model,seed\ndemo,0\n")
    with pytest.raises(ResultError, match=r"occlusion.csv cannot be drawn \(KeyError"):
        makelov_tables.draw(makelov_tables.tables_in([tmp_path]))
