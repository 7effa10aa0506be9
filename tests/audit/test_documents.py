"""The audit's files: rows, cards and the committed documents, which are what their tables say."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from saebench.audit import evidence, figures, judging, report
from saebench.audit.cards import Question, Verdict, parse, plain, same, worst
from saebench.audit.lenses.truth import FAMILIES
from saebench.audit.rows import Row, read, write
from saebench.audit.thresholds import FOLLOWS
from saebench.cli import app
from saebench.errors import ResultError

RESULTS = next(p for p in Path(__file__).parents if (p / "pyproject.toml").is_file()) / "results"
BOARD = "task · model · site"


def row(name: str, axis: str, value: float | None, group: str = "trained", **fields) -> Row:
    draws = None if value is None else (value + np.linspace(-0.01, 0.01, 400)).astype(np.float32)
    low, high = (None, None) if value is None else (value - 0.01, value + 0.01)
    return Row(
        BOARD, group, name, axis, value, low, high, "" if draws is not None else "why", draws=draws, **fields
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    there = tmp_path / "audit" / "after"
    there.mkdir(parents=True)
    rows = []
    for axis in ("approximation", "control", "interpretability", "occlusion", "oversplitting"):
        bad = axis == "occlusion"
        rows += [row("a", axis, 0.5), row("n", axis, 0.6 if bad else 0.1, "null", of="a")]
        rows += [row("a", axis, 0.51, task_seed=1), row("cheat", axis, None, "cheat")]
    write(rows, there / "board.parquet")
    return there


def test_rows_come_back_and_the_same_rows_give_the_same_bytes(folder: Path, tmp_path: Path):
    rows = read(folder / "board.parquet")
    assert len(rows) == 20
    (undefined,) = rows.where(axis="control", group="cheat")
    assert (undefined.value, undefined.draws, undefined.reason) == (None, None, "why")
    again = rows.one(axis="control", name="a", task_seed=0)
    assert again is not None and again.draws == pytest.approx(row("a", "control", 0.5).draws)
    write(reversed(rows.rows), tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == (folder / "board.parquet").read_bytes()


def test_a_file_that_is_no_table_is_named(tmp_path: Path):
    (tmp_path / "x.parquet").write_bytes(b"no")
    with pytest.raises(ResultError, match=r"x\.parquet.*make audit"):
        read(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("low", "high", "above", "below"),
    [(0.6, 0.8, "pass", "fail"), (0.2, 0.4, "fail", "pass"), (0.4, 0.6, "provisional", "provisional")],
)
def test_an_interval_that_straddles_its_bar_is_provisional(low: float, high: float, above: str, below: str):
    ask = Question("lens", BOARD, "control", "check")
    assert str(ask.above(0.5, low, high, 0.5, "", []).verdict) == above
    assert str(ask.below(0.5, low, high, 0.5, "", []).verdict) == below


def test_one_failure_fails_and_one_doubt_stays():
    assert worst([Verdict.PASS, Verdict.FAIL, Verdict.PROVISIONAL]) == Verdict.FAIL
    assert worst([Verdict.PASS, Verdict.PROVISIONAL]) == Verdict.PROVISIONAL
    assert worst([Verdict.NOT_APPLICABLE, Verdict.PASS]) == Verdict.PASS
    assert worst([]) == Verdict.NOT_APPLICABLE


def test_a_card_comes_back_from_json():
    card = Question("lens", BOARD, "control", "check").above(0.5, 0.4, 0.6, 0.3, "why", ["a"])
    assert parse(json.loads(json.dumps(plain(card)))) == card
    assert same(card, parse(plain(card) | {"measured": 0.5 + 1e-9}))
    assert not same(card, parse(plain(card) | {"measured": 0.51}))
    assert not same(card, parse(plain(card) | {"verdict": "fail"}))


def test_an_axis_that_fails_is_taken_out_of_the_ordering(folder: Path):
    audit = judging.judge(evidence.load(folder), "test")
    found = audit.axis(BOARD, "occlusion")
    assert not found.passes and "matched null" in found.reason
    assert audit.axis(BOARD, "control").passes
    assert audit.ordering(BOARD) == ["approximation", "control", "interpretability", "oversplitting"]
    data = json.loads(judging.document(audit))
    assert data["boards"][BOARD]["axes"]["occlusion"]["passes"] is False
    assert data["boards"][BOARD]["ordering"] == audit.ordering(BOARD)


def test_an_axis_that_is_lost_in_most_families_is_taken_out_everywhere(folder: Path):
    audit = judging.judge(evidence.load(folder), "test")
    lost = Question("truth", FAMILIES, "control", FOLLOWS).below(0.8, 0.8, 0.8, 0.5, "families", [])
    audit = audit._replace(cards=(*audit.cards, lost))
    assert "control" not in audit.ordering(BOARD) and FOLLOWS in audit.axis(BOARD, "control").reason
    assert BOARD in audit.boards and FAMILIES not in audit.boards
    data = json.loads(judging.document(audit))
    assert [axis for axis, said in data["everywhere"].items() if not said["passes"]] == ["control"]
    assert "0.8 against 0.5" in data["everywhere"]["control"]["reason"]


def test_without_tables_the_verb_says_what_makes_them(tmp_path: Path):
    found = CliRunner().invoke(app, ["audit", str(tmp_path)])
    assert isinstance(found.exception, ResultError) and "make audit" in str(found.exception)


def test_the_page_names_failures_first(folder: Path):
    audit = judging.judge(evidence.load(folder), "test")
    page = report.markdown(audit, {"board.parquet": "measured by a test"})
    assert page.index("What fails") < page.index("Every card")
    # every card says which table it is computed from
    told = [card for card in audit.cards if card.verdict != Verdict.NOT_APPLICABLE]
    assert told and all(card.tables == ("board.parquet",) for card in told)
    assert f"`board.parquet` ({len(told)} cards): measured by a test" in page
    assert len(list(report.tables(audit))) == 1
    assert "Ordered by: approximation, control, interpretability, oversplitting." in page


def test_a_board_that_was_not_measured_is_ordered_as_any_other():
    """Families' pages said that no axis passes there, where none was asked."""
    seen = Question("truth", BOARD, "control", "recovery").stated(0.5, 0.4, 0.6, "", [])
    lost = Question("truth", FAMILIES, "occlusion", FOLLOWS).below(0.8, 0.8, 0.8, 0.5, "families", [])
    audit = judging.Audit("test", (seen, lost), ("control", "occlusion"))
    assert report.ordered_by(audit, BOARD) == "Ordered as every board that was not measured: by control."


def test_pictures_are_the_same_bytes(folder: Path, tmp_path: Path):
    found = evidence.load(folder)
    audit = judging.judge(found, "test")
    one, other = (figures.matrix(audit, tmp_path / f"{i}.png").read_bytes() for i in range(2))
    assert one == other
    frame = pd.DataFrame({"family": []})
    assert figures.draw(audit, evidence.Evidence(found.rows, frame), tmp_path, "x") == [
        tmp_path / "x-matrix.png"
    ]


def test_no_cheat_tops_the_ordering_of_a_committed_board():
    audit = judging.read_document(RESULTS / "audit" / "after.json")
    cards = [c for c in audit.cards if c.lens == "gaming" and c.axis == "ordering"]
    assert {c.check for c in cards} >= {
        "PCA and tiny detectors",
        "memorised prompts",
        "reconstruction in the bias",
    }
    assert [c.id for c in cards if c.verdict not in (Verdict.PASS, Verdict.NOT_APPLICABLE)] == []


def test_the_gate_tolerates_no_less_than_other_prompts_confirm():
    """With all SAEs on all draws control turned out to move by .061, where the gate tolerated .06."""
    audit = judging.read_document(RESULTS / "audit" / "after.json")
    cards = [c for c in audit.cards if c.check == "tolerance" and c.verdict != Verdict.NOT_APPLICABLE]
    assert len(cards) >= 9
    assert [c.id for c in cards if c.measured is None or c.bar is None or c.measured > c.bar] == []
