"""The page about a real model: statements by interval, and no mixture of definitions."""

import json
import shutil
from pathlib import Path

import numpy as np

from saebench.records import store
from saebench.scoring import score
from saebench.scoring.axes import AXES, versions
from saebench.scoring.estimates import Estimate, Undefined
from saebench.studies.real.report import model_notes, of_other_versions
from saebench.studies.real.statements import Row, Statement, above, below, statements_table

COMMITTED = Path(__file__).parents[2] / "results" / "demo" / "control=mean@f14541dd"


def copied(tmp_path: Path, control: int) -> Path:
    """A committed row whose control axis was measured by that version, the others by today's."""
    folder = tmp_path / "model" / COMMITTED.name
    shutil.copytree(COMMITTED, folder)
    for path in store.find(tmp_path):
        data = json.loads(path.read_text())
        today = versions([axis for axis in data["axis_versions"] if axis not in AXES])
        data["axis_versions"] = {axis: today[axis] for axis in data["axis_versions"]} | {"control": control}
        path.write_text(json.dumps(data))
    return folder.parent


def test_rows_of_earlier_definitions_are_not_read_by_todays(tmp_path: Path):
    today = versions([])["control"]
    assert of_other_versions(copied(tmp_path / "new", today)) is None
    said = of_other_versions(copied(tmp_path / "old", today - 1))
    assert said is not None and f"control {today - 1} (now {today})" in said


def test_contrary_findings_stand_first_and_an_interval_over_the_bar_is_open():
    assert above(0.9)(0.91, 0.95) is True and above(0.9)(0.8, 0.89) is False and above(0.9)(0.8, 0.95) is None
    assert below(0.0)(-0.2, -0.1) is True and below(0.0)(0.1, 0.2) is False and below(0.0)(-0.1, 0.1) is None

    lines = statements_table(
        [
            Statement("undefined", "", Undefined("no such SAE"), above(0)),
            Statement("holding", "", Estimate(0.5, np.linspace(0.4, 0.6, 500)), above(0)),
            Statement("contrary", "", Estimate(-0.5, np.linspace(-0.6, -0.4, 500)), above(0)),
            Statement("open", "", Estimate(0.0, np.linspace(-0.1, 0.1, 500)), above(0)),
        ]
    ).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| contrary",
        "| open",
        "| holding",
        "| undefined",
    ]
    assert "undefined: no such SAE" in lines[-1]


def test_a_list_that_was_told_under_one_board_is_not_told_again():
    stored = store.load(next(iter(COMMITTED.glob("*.json"))))
    notes = ("93 of 94 names are single tokens", "2 of 27 templates are left out: below 80% (“A” 9%; “B” 8%)")
    row = Row(stored.result.model_copy(update={"warnings": notes}), score(stored.outcomes, 0))
    told: set[str] = set()
    first, again = (model_notes([row], told).splitlines() for _ in range(2))
    assert first[-1] == f"- {notes[1]}" and again[:-1] == first[:-1]
    assert again[-1] == "- 2 of 27 templates are left out: below 80%: those listed above"
