"""`saebench audit --verify` sees what was changed by hand, left out, or measured by other versions."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from lens_rows import whole_board
from paths import RESULTS
from typer.testing import CliRunner

from saebench.audit import evidence, judging, report, standing
from saebench.audit.measuring import CHEATS, gamed
from saebench.audit.rows import Row, read, write
from saebench.audit.verifying import verify
from saebench.cli import app
from saebench.records import store
from saebench.studies.audit import boards, planted

OURS = "ioi · demo · blocks.1.hook_resid_pre@end"


@dataclass
class Committed:
    """An audit of a tiny board, as it stands in a directory of results."""

    results: Path
    board: str = "task · model · site"

    @property
    def table(self) -> Path:
        return self.results / "audit" / "after" / "board.parquet"

    @property
    def document(self) -> Path:
        return self.results / "audit" / "after.json"

    def edit(self, path: Path, old: str, new: str) -> None:
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), "utf-8")

    def rows(self, keep: Callable[[Row], bool] = lambda _: True) -> None:
        write(read(self.table).where(keep), self.table)

    def judge(self) -> None:
        """What `saebench audit` does, but for its pictures."""
        tables = evidence.load(self.table.parent)
        audit = judging.judge(tables, "these")
        page = self.document.with_suffix(".md")
        judging.write(audit, self.document, [(page, report.markdown(audit, {}))])

    def verify(self) -> tuple[int, str]:
        found = CliRunner().invoke(app, ["audit", str(self.results), "--verify"])
        return found.exit_code, found.output


@pytest.fixture
def committed(tmp_path: Path) -> Committed:
    made = Committed(tmp_path)
    made.table.parent.mkdir(parents=True)
    write(whole_board(made.board), made.table)
    made.judge()
    return made


def test_what_nobody_touched_is_all_right(committed: Committed):
    code, said = committed.verify()
    assert code == 0 and "all what their tables say" in said


def test_a_card_that_was_edited(committed: Committed):
    committed.edit(committed.document, '"measured": 0.0', '"measured": 0.3')
    code, said = committed.verify()
    assert code == 1 and "1 of" in said and "; its tables say" in said
    # one paragraph, and what to do
    assert said.count("\n") == 1 and "make audit" in said


def test_a_verdict_that_does_not_follow_from_its_cards(committed: Committed):
    """Boards are ordered by what stands before the cards, which nobody recomputed."""
    committed.edit(committed.document, '"passes": true', '"passes": false')
    code, said = committed.verify()
    assert code == 1 and "(0 of" in said and "follows from its cards" in said


def test_a_second_card_of_the_same_name(committed: Committed):
    data = json.loads(committed.document.read_text("utf-8"))
    data["cards"].insert(0, data["cards"][0] | {"verdict": "stated"})
    committed.document.write_text(json.dumps(data), "utf-8")
    code, said = committed.verify()
    assert code == 1 and "several cards" in said


def test_bars_that_were_lowered(committed: Committed):
    committed.edit(committed.document, '"covered": 0.94', '"covered": 0.5')
    code, said = committed.verify()
    assert code == 1 and "0.5 for covered, where 0.94" in said


def test_a_page_that_was_edited(committed: Committed):
    committed.edit(committed.document.with_suffix(".md"), "What fails (", "What failed (")
    code, said = committed.verify()
    assert code == 1 and "after.md is not the page of these cards" in said


def test_tables_that_moved_on_without_being_judged(committed: Committed):
    committed.rows(lambda row: row.name != "b")
    code, said = committed.verify()
    assert code == 1 and "its tables say" in said


LEFT_OUT: dict[str, tuple[Callable[[Row], bool], str]] = {
    "nulls": (lambda row: row.group == "null", "the matched null of a"),
    "one null": (lambda row: row.of == "b", "the matched null of b"),
    "a cheat": (lambda row: row.name == "huge L0", "the cheat 'huge L0'"),
    "the search": (lambda row: row.name == standing.SEARCH, "no board was tried with a hill climb"),
    "a change": (lambda row: row.group == "permuted-decoder", "of the group 'permuted-decoder'"),
    "the null task": (lambda row: row.group == "null-task", "of the group 'null-task'"),
    "the ceiling": (lambda row: row.group == "ceiling", "of the group 'ceiling'"),
    "an axis of a cheat": (lambda row: (row.name, row.axis) == ("huge L0", "control"), "control of huge L0"),
    "most draws": (lambda row: row.task_seed > 1, "draws of prompts: it has 2, of 5"),
    "one SAE's draw": (
        lambda row: (row.name, row.task_seed, row.axis) == ("a", 3, "control"),
        "control of a at budget quick and draw 3",
    ),
    "a snapshot": (
        lambda row: (row.name, row.axis) == ("run 2/4", "control"),
        "snapshots lack control of run 2 after 4 steps (1 such)",
    ),
    "a training seed": (lambda row: row.of == "run 2", "6 snapshots of runs of 3 seeds"),
    "the full budget": (lambda row: row.budget == "full", "budget full"),
}


@pytest.mark.parametrize(("gone", "expected"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_what_is_left_out_is_missed(committed: Committed, gone: Callable[[Row], bool], expected: str):
    """Judged anew, so that every card follows from its tables: a lens that has nothing to look at fails nothing."""
    committed.rows(lambda row: not gone(row))
    committed.judge()
    code, said = committed.verify()
    assert code == 1 and "(0 of" in said and expected in said


def test_an_sae_without_its_null_leaves_the_order_in_doubt(committed: Committed):
    """The null of the one SAE that was not above it used to be left out in silence."""
    committed.rows(lambda row: row.of != "b")
    committed.judge()
    data = json.loads(committed.document.read_text("utf-8"))
    card = next(c for c in data["cards"] if (c["axis"], c["check"]) == ("control", "matched null"))
    assert card["verdict"] == "provisional" and card["reason"].endswith("measured without one: b")


@pytest.mark.parametrize("was", ["control 2 on ioi 00000000", ""])
def test_rows_of_another_version(tmp_path: Path, was: str):
    made = Committed(tmp_path, OURS)
    made.table.parent.mkdir(parents=True)
    rows = whole_board(OURS)
    write(rows, made.table)
    made.judge()
    assert made.verify()[0] == 0
    write([r._replace(definition=was) if r.axis == "control" else r for r in rows], made.table)
    made.judge()
    code, said = made.verify()
    assert code == 1 and f"measured by {was or standing.UNSAID}; now it is control 3 on ioi" in said


def test_a_table_of_the_truth_that_does_not_say_its_versions(committed: Committed):
    (committed.table.parent / "planted.csv").write_text("model\nplain\n", "utf-8")

    def said() -> list[str]:
        return list(standing.outdated(evidence.load(committed.table.parent)))

    (line,) = said()
    assert line.startswith(f"planted.csv was measured by {standing.UNSAID}; now it is approximation 2")
    standing.note(committed.table.parent, "planted.csv")
    assert said() == []


def test_values_that_are_not_those_of_the_results(tmp_path: Path):
    made = Committed(tmp_path, OURS)
    made.table.parent.mkdir(parents=True)
    write(whole_board(OURS), made.table)
    made.judge()
    (path,) = (RESULTS / "demo").glob("demo=topk@*/ioi--*.json")
    result = store.load(path).result
    copy = made.results / "demo" / "demo=topk@0" / path.name
    copy.parent.mkdir(parents=True)
    copy.write_bytes(path.read_bytes())
    assert "leaves out demo:topk, of which there is a result" in made.verify()[1]
    named = [r._replace(name="demo:topk") if r.name == "a" else r for r in read(made.table)]
    write([r._replace(of="demo:topk") if r.of == "a" else r for r in named], made.table)
    made.judge()
    expected = result.axes["control"].normalized
    assert f"0.5000 for control of demo:topk, its result {expected:.4f}" in made.verify()[1]


def test_every_cheat_that_is_measured_is_asked_for():
    names = {job.name for job in gamed("demo:topk", lambda _: None)}
    assert names == set(standing.CHEATS) and set(CHEATS) < names
    (climb,) = (
        job for part in boards.parts() if part.what == "climb" and not part.full for job in boards.jobs(part)
    )
    assert climb.name == standing.SEARCH


def test_rows_of_other_versions_are_not_kept_beside_new_ones(tmp_path: Path, capsys):
    """A part that was not measured again stayed in the table, whatever had measured it."""
    now = next(r for r in whole_board(OURS) if r.axis == "control")
    old = now._replace(name="old", definition="control 2 on ioi 00000000")
    parts = tmp_path / "parts"
    parts.mkdir()
    table = tmp_path / "boards.parquet"
    write([now, old], table)
    standing.note(tmp_path, table.name)
    boards.join(parts, tmp_path, None)
    assert [row.name for row in read(table)] == [now.name]
    assert "1 older rows are left out" in capsys.readouterr().err


def test_rows_of_other_weights_are_not_kept_beside_new_ones(tmp_path: Path, capsys):
    """Draws of the model that was bundled before stood beside those of the one bundled now."""
    before, now = (next(r for r in whole_board(OURS) if r.axis == axis) for axis in ("control", "occlusion"))
    parts, table = tmp_path / "parts", tmp_path / "boards.parquet"
    parts.mkdir()

    def said() -> list[str]:
        return [s for s in standing.outdated(evidence.load(tmp_path)) if "weights" in s]

    write([before], table)
    assert said() == ["boards.parquet was not measured on the weights that are bundled now"]
    write([now], parts / "ioi-saes.parquet")
    boards.join(parts, tmp_path, None)
    assert read(table).distinct("axis") == ["occlusion"] and not said()
    assert "1 older rows are left out" in capsys.readouterr().err
    boards.join(parts, tmp_path, None)
    assert read(table).distinct("axis") == ["occlusion"] and not capsys.readouterr().err
    about = tmp_path / evidence.ABOUT
    about.write_text(json.dumps({standing.WEIGHTS: {table.name: "01234567"}}), "utf-8")
    assert said() == ["boards.parquet was not measured on the weights that are bundled now"]


def test_the_table_of_planted_models_is_that_of_the_study():
    made = planted.table(pd.read_csv(RESULTS / "planted" / "scores.csv"))
    kept = (RESULTS / "audit" / "after" / "planted.csv").read_text("utf-8")
    assert made.to_csv(index=False, float_format="%.6g") == kept


@pytest.mark.parametrize("name", ["before", "after"])
def test_committed_cards_are_what_the_committed_tables_say(name: str):
    tables = RESULTS / "audit" / name
    own = tables / "tolerances.toml"
    known = own if own.is_file() else RESULTS / "tolerances.toml"
    assert verify(RESULTS / "audit" / f"{name}.json", tables, known, RESULTS).sentences == []
