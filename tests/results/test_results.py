"""The committed results are data, and tested as data."""

import json
from pathlib import Path

import pytest
from documents import headings
from jsonschema import Draft202012Validator
from paths import DEMO, RESULTS, ROOT

from saebench.records import store
from saebench.reporting import leaderboard
from saebench.reporting.text import MISSING
from saebench.studies import readme

PATHS = store.find(RESULTS)


def test_there_are_results_of_every_demo_sae_and_of_controls():
    names = {(r.task.name, r.dictionary.name) for r in (store.load(p).result for p in PATHS)}
    for sae in (DEMO / "saes").iterdir():
        assert ("ioi", f"demo:{sae.name}") in names
    for control in ("supervised", "identity", "mean", "no-edit", "source-patch"):
        assert ("ioi", f"control:{control}") in names


@pytest.mark.parametrize("path", PATHS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_committed_result_is_valid_and_complete(path: Path):
    schema = json.loads((RESULTS / "schema.json").read_text(encoding="utf-8"))
    document = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    Draft202012Validator(schema).validate(document)
    for name, axis in document["axes"].items():
        assert axis["normalized"] is not None or axis["reason"], name
        assert axis["normalized"] is None or axis["ci"] is not None, name
    for score in document["scores"]:
        assert score["value"] is not None or score["reason"], score
        assert score["value"] is None or score["ci"] or score["reason"], score


def test_every_committed_score_has_a_section_in_the_methods():
    emitted = {s.name for p in PATHS for s in store.load(p).result.scores}
    assert emitted - headings() == set()


def test_no_score_has_a_name_that_readers_of_csv_take_for_nothing():
    results = [store.load(p).result for p in PATHS]
    named = {s.name for r in results if r.axis_versions["interpretability"] > 2 for s in r.scores}
    assert named & MISSING == set()


def test_nothing_is_damaged_and_the_leaderboard_is_current():
    assert store.verify(RESULTS) == []
    assert leaderboard.check(RESULTS) == []


def test_what_the_controls_must_score_they_do():
    found = {r.dictionary.name: r for r in (store.load(p).result for p in PATHS) if r.task.name == "ioi"}

    def value(name: str, score: str) -> float | None:
        return next(s.value for s in found[name].scores if s.name == score and s.edit is None)

    assert value("control:identity", "sufficiency") == pytest.approx(1, abs=1e-3)
    assert value("control:identity", "necessity") == pytest.approx(1, abs=1e-3)
    assert value("control:mean", "sufficiency") == pytest.approx(0, abs=1e-3)


def test_the_ceiling_of_ioi_writes_and_edits_both_names():
    [path] = RESULTS.glob("demo/control=supervised@*/ioi--*.json")
    result = store.load(path).result
    edits = {
        s.attribute: s.value for s in result.scores if (s.name, s.edit) == ("edit_fidelity", "supervised")
    }
    # S: .29 with class means, since a name meets 12 of 29 partners
    assert edits["io"] > 0.99 and edits["s"] > 0.7
    for axis in ("interpretability", "oversplitting"):
        assert result.axes[axis].value >= 0.98


def test_the_results_in_the_readme_are_the_committed_ones():
    text = (ROOT / "README.md").read_text("utf-8")
    assert readme.rewrite(text, RESULTS) == text, "write it again: make leaderboard"
