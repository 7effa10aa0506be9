"""What figures need beyond the axes: the same numbers as the axes where both have them; what is committed, drawn."""

from dataclasses import replace

import pytest
import torch
from command import run
from paths import RESULTS, ROOT

from saebench.axes import MEASURES
from saebench.dictionaries.supervised import SupervisedDictionary
from saebench.edits.few_latents import aware
from saebench.errors import ResultError
from saebench.reporting import makelov_tables
from saebench.scoring import score
from saebench.scoring.estimates import Estimate
from saebench.studies.makelov import latents, together
from saebench.studies.makelov.stage import Stage

ROLES = ("io", "s", "pos")


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage.of("demo", None, "tiny")


@pytest.fixture(scope="module")
def topk(stage):
    (found,) = stage.subjects(["demo:topk"])
    return found[1]


@pytest.mark.parametrize("roles", [("s", "pos"), ROLES])
def test_sources_change_all_that_is_asked_for_and_nothing_else(stage, roles):
    test, source = stage.bench.section.test, together.source_of(stage, roles)
    changed = source.labels != test.labels
    assert changed[:, [ROLES.index(role) for role in roles]].all() and changed.sum() == len(test) * len(roles)
    assert source.acts.shape == test.acts.shape
    # the pair of names lies in the same split: no source is a prompt of another one
    n = len(stage.bench.section.attributes[0].values)
    pairs = [{tuple(sorted(p)) for p in labels[:, :2].tolist()} for labels in (test.labels, source.labels)]
    fitted = {tuple(sorted(p)) for p in stage.bench.section.fit.labels[:, :2].tolist()}
    assert n == 12 and not pairs[1] & fitted and pairs[1] <= pairs[0]


def test_an_edit_of_one_attribute_is_that_of_the_axis(stage, topk):
    test, at = stage.bench.section.test, 0
    source = together.source_of(stage, ("io",))
    mine = together.made(topk, ("io",), stage, source)
    f1 = topk.table(stage.bench.properties["io"], "select").f1
    codes = topk.test.codes, topk.source("io").codes
    labels = test.labels[:, at], test.source_labels["io"][:, at]
    for e, edit in aware(test.acts, *codes, topk.dictionary.W_dec, f1, *labels).items():
        assert torch.allclose(edit.acts, mine["aware", e].acts, atol=1e-6)
        assert (edit.n_changed == mine["aware", e].n_changed).all()


def test_the_supervised_dictionary_edits_all_attributes_at_size_one(stage):
    source = together.source_of(stage, ROLES)
    ceiling = stage.bench.ceiling
    assert isinstance(ceiling, SupervisedDictionary)
    (found,) = stage.subjects(["control:supervised"])
    edits = together.made(found[1], ROLES, stage, source)
    mean = ceiling.b_dec + ceiling.W_dec[ceiling.atoms_of(source.labels)].sum(1)
    old = ceiling.b_dec + ceiling.W_dec[ceiling.atoms_of(stage.bench.section.test.labels)].sum(1)
    wanted = stage.bench.section.test.acts + mean - old
    assert torch.allclose(edits["aware", 1].acts, wanted, atol=1e-4)
    assert torch.allclose(edits["full", 0].acts, wanted, atol=1e-4)
    assert (edits["aware", 1].n_changed == 6).all()


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
