"""The gate on stored results: what it reads, refuses and writes, and the tolerances it goes by."""

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import simulated
from paths import ROOT
from rich.console import Console

import saebench.scoring
from saebench.errors import OptionError, ResultError
from saebench.records import store
from saebench.records.outcomes import Key, Outcomes
from saebench.records.result import Result
from saebench.regression.compare import Comparison, Verdict, compare, regress
from saebench.regression.tolerances import Tolerance, Tolerances
from saebench.reporting.text import markdown_text
from saebench.reporting.verdict import render_json, render_junit, render_markdown, render_terminal
from saebench.scoring.base import Entry, Headline, Scored
from saebench.scoring.estimates import Bootstrap


@pytest.fixture
def scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores the `control/success` column alone, as every headline."""

    def score(outcomes: Outcomes, seed: int = 0) -> Scored:
        boot = Bootstrap(outcomes.cluster["test"], seed=seed)
        n = len(outcomes.cluster["test"])
        zero, one = (boot.mean(np.full(n, x)) for x in (0.0, 1.0))
        value = boot.mean(outcomes[Key("control", "success", "io", "agnostic", 2)])
        hostile = Entry("control", "edit_success", value, n, "<b>|@x\x1b[31m", "agnostic", 2)
        return Scored({"control": Headline(value, zero, one, n)}, [hostile])

    monkeypatch.setattr(saebench.scoring, "score", score)


def saved(out: Path, result: Result, right: float = 0.9, cluster_seed: int = 0) -> Path:
    cluster = simulated.clusters(np.random.default_rng(cluster_seed))
    outcomes = Outcomes({"test": cluster})
    column = np.random.default_rng(1).permutation(500) < right * 500
    outcomes.add(Key("control", "success", "io", "agnostic", 2), column)
    return store.save(result, outcomes, out)


@pytest.mark.usefixtures("scoring")
def test_regress_reads_stored_results(tmp_path: Path) -> None:
    good = saved(tmp_path, simulated.result(0))
    bad = saved(tmp_path, simulated.result(1), right=0.7)
    passed, caught = regress(good, good), regress(bad, good)
    assert passed.passed and "No regression" in passed.sentence
    assert not caught.passed and caught.sentence.endswith("credibly worse: control.")
    assert compare(store.load(bad), store.load(good)).failures == caught.comparison.failures
    assert any("One training seed" in note for note in caught.comparison.notes)


OTHER: dict[str, Callable[[Result], dict]] = {
    "task": lambda r: {"task": r.task.model_copy(update={"name": "ravel"})},
    "task version": lambda r: {"task": r.task.model_copy(update={"version": 2})},
    "task digest": lambda r: {"task": r.task.model_copy(update={"sha256": "ff" * 32})},
    "model digest": lambda r: {"model": r.model.model_copy(update={"sha256": "ff" * 32})},
    "site": lambda r: {"site": "blocks.2.hook_resid_pre@end"},
    "budget": lambda r: {"budget": "full"},
    "seed": lambda r: {"seed": 1},
    "axis versions": lambda r: {"axis_versions": {**r.axis_versions, "control": 2}},
}


@pytest.mark.usefixtures("scoring")
@pytest.mark.parametrize("what", OTHER)
def test_it_refuses_to_compare_different_things(what: str, tmp_path: Path) -> None:
    result = simulated.result(0)
    a = saved(tmp_path, result)
    other = simulated.result(1).model_copy(update=OTHER[what](result))
    b = saved(tmp_path, other)
    with pytest.raises(ResultError, match=f"{what} ") as caught:
        regress(b, a)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("scoring")
def test_it_refuses_other_prompts_and_missing_outcomes(tmp_path: Path) -> None:
    a = saved(tmp_path, simulated.result(0))
    b = saved(tmp_path, simulated.result(1), cluster_seed=1)
    with pytest.raises(ResultError, match="other prompts"):
        regress(b, a)
    b.with_suffix(".parquet").unlink()
    with pytest.raises(ResultError, match="parquet"):
        regress(b, a)
    with pytest.raises(ResultError, match="without its outcomes"):
        compare(simulated.result(0), simulated.result(1))
    with pytest.raises(ResultError, match="Cannot read"):
        regress(tmp_path / "none.json", a)


def test_outcomes_of_another_version_are_refused_in_one_paragraph(tmp_path: Path) -> None:
    """Their columns are not those that are scored today."""
    a, b = (saved(tmp_path, simulated.result(i)) for i in (0, 1))
    with pytest.raises(ResultError, match=r"lacks .*, which this version of saebench scores") as caught:
        regress(b, a)
    assert "axis versions" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.usefixtures("scoring")
def test_the_verdict_in_every_form(tmp_path: Path) -> None:
    name = "<script>alert(1)</script> | [x](http://e.org) \x1b[31m @all"
    a = saved(tmp_path, simulated.result(0))
    b = saved(tmp_path, simulated.result(1, name=name), right=0.7)
    verdict = regress(b, a)
    text = render_markdown(verdict)
    assert text.startswith("### SAE quality: regression\n") and "✗ worse" in text
    for bad in ("<script", "](http", "\x1b", "@all", "http://"):
        assert bad not in text
    cells = {line.count(" | ") for line in text.splitlines() if line.startswith("| control")}
    assert cells == {7}
    suite = ElementTree.fromstring(render_junit(verdict).encode())
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")
    assert [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None] == [
        "control"
    ]
    document = json.loads(render_json(verdict))
    assert document["passed"] is False and document["judged"][0]["status"] == "worse"
    assert document["candidate"][0]["dictionary"] == name
    console = Console(record=True, width=160, file=open(tmp_path / "out", "w"))  # noqa: SIM115
    console.print(render_terminal(verdict))
    shown = console.export_text()
    assert "✗ worse" in shown and "\x1b" not in shown and "could see" in shown


def test_markdown_text_is_inert() -> None:
    assert markdown_text("a_b*c|d") == "a\\_b\\*c\\|d"
    assert markdown_text("x\ny") == "x\N{REPLACEMENT CHARACTER}y"


def test_committed_tolerances_are_read_and_reasoned() -> None:
    found = Tolerances.load(ROOT / "results" / "tolerances.toml")
    assert set(found.headlines) == set(simulated.AXES)
    assert all(0 < t.size < 0.15 and len(t.reason) > 20 for t in found.headlines.values())
    assert found.of_score("approximation/necessity") and not found.of_score("control/x")


def test_no_tolerance_is_below_what_other_prompts_would_confirm() -> None:
    """The audit's minimum reliable differences: a gate that is finer fails builds for their prompts."""
    sizes = Tolerances.load(ROOT / "results" / "tolerances.toml").headlines
    cards = json.loads((ROOT / "results" / "audit" / "after.json").read_text("utf-8"))["cards"]
    found = [
        (c["axis"], c["board"], c["measured"])
        for c in cards
        if c["check"] == "tolerance" and c["measured"] is not None
    ]
    assert {axis for axis, *_ in found} == set(sizes)
    for axis, board, measured in found:
        assert sizes[axis].size >= measured, (axis, board)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[headlines.control]\ntolerance=1\nreason='x'", "Did you mean 'headline'"),
        ("[headline.contrl]\ntolerance=1\nreason='x'", "Did you mean 'control'"),
        ("[headline.control]\ntolerance=-1\nreason='x'", "a number ≥ 0"),
        ("[headline.control]\ntolerance=0.1", "`reason`"),
        ("[headline", "Cannot read"),
    ],
)
def test_wrong_tolerances_are_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(OptionError, match=words):
        Tolerances.load(tmp_path / "t.toml")


def test_a_pattern_names_many_scores() -> None:
    gate = Tolerances({}, {"control/edit_success/*": Tolerance(0.1, "all")})
    assert gate.of_score("control/edit_success/io/agnostic/4")
    assert gate.of_score("control/edit_effect/io") is None


def test_an_empty_verdict_is_no_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saebench.scoring, "score", lambda outcomes, seed=0: Scored())
    a = saved(tmp_path, simulated.result(0))
    with pytest.raises(ResultError, match="No score"):
        regress(a, a)
    assert Verdict(Comparison((), (), (), (), 1)).passed
