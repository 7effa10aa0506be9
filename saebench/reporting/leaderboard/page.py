"""The leaderboard as one HTML page: everything inlined, nothing fetched.

The numbers stand in the page as JSON in tables of shared strings and series, in thousandths: the
page shows three decimals, the full numbers are one link away. What does not fit into `LARGEST` bytes
is left to the raw results, step by step (`LEVELS`), and the page says so.
"""

import json
import re
from collections.abc import Hashable, Iterator, Sequence
from importlib.resources import files
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined

from saebench.records.result import AxisScore, Result, Score
from saebench.reporting.leaderboard.boards import (
    AXES,
    KINDS,
    N_DRAWS,
    OVERALL,
    Board,
    Collected,
    Row,
    Table,
    l0_band,
)
from saebench.reporting.ordering import Ordering

LARGEST = 2_970_000
# What a chart needs: curves over edit sizes, cause and isolate, occlusion, splitting.
MAIN = frozenset(
    {
        "edit_fidelity",
        "edit_success",
        "read_write",
        "written",
        "split",
        "cause",
        "isolate",
        "disentangle",
        "weak_coverage",
        "retention",
        "inverse_n90",
    }
)
CHARTED = MAIN | {"edit_effect", "n90", "detected", "f1_star", "coverage@0.5", "sufficiency", "necessity"}


class Level(NamedTuple):
    """How much of each result's scores the page carries."""

    names: frozenset[str] | None
    """Which scores; all of them if None."""
    intervals: bool
    remark: str

    def carries(self, score: Score) -> bool:
        return self.names is None or score.name in self.names


LEVELS = (
    Level(None, True, ""),
    Level(CHARTED, True, "Details show the scores that charts need; all stand in the raw results."),
    Level(
        CHARTED, False, "Details show values; their intervals and all other scores stand in the raw results."
    ),
    Level(
        MAIN,
        False,
        "Details show the main values; their intervals and all other scores stand in the raw results.",
    ),
    Level(frozenset(), False, "Details stand in the raw results only: there are too many here."),
)
# Fewest bytes that a score takes in the page, to skip what cannot fit.
_BYTES = 4
_BYTES_WITH_INTERVAL = 15
_ROW = (
    "board",
    "kind",
    "name",
    "source",
    "architecture",
    "training",
    "format",
    "d_in",
    "d_sae",
    "l0",
    "band",
    "seed",
    "sha256",
    "created",
    "path",
    "axes",
    "mean",
    "ranks",
    "series",
    "warnings",
    "run",
)
_AXIS = ("normalized", "ci", "value", "value_ci", "floor", "ceiling", "n", "reason", "note")


class _Index:
    """Things that many rows share, each kept once and named by its number."""

    def __init__(self) -> None:
        self._at: dict[Hashable, int] = {}
        self.items: list[object] = []

    def __call__(self, item: object, key: Hashable = None) -> int | None:
        """The number of an item; `key` stands for one that cannot be hashed."""
        if item is None:
            return None
        at = self._at.setdefault(key or item, len(self.items))
        if at == len(self.items):
            self.items.append(item)
        return at


def render_page(found: Collected, figures: Sequence[str]) -> str:
    """The page; `figures` are the picture files beside it."""
    scores = [score for table in found.tables for row in table.rows for score in row.result.scores]
    page = ""
    for level in LEVELS:
        each = _BYTES_WITH_INTERVAL if level.intervals else _BYTES
        if each * sum(map(level.carries, scores)) > LARGEST:
            continue
        page = _render(found, figures, level)
        if len(page.encode()) <= LARGEST:
            break
    return page


def _render(found: Collected, figures: Sequence[str], level: Level) -> str:
    here = files("saebench.reporting.leaderboard")
    read = {name: (here / f"page.{name}").read_text("utf-8") for name in ("html", "css", "js")}
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    versions = sorted({row.result.provenance.saebench for t in found.tables for row in t.rows})
    commits = sorted({row.result.provenance.commit or "unknown" for t in found.tables for row in t.rows})
    return environment.from_string(read["html"]).render(
        css=read["css"],
        js=read["js"],
        data=script_json(payload(found.tables, level)),
        n_rows=sum(len(table.rows) for table in found.tables),
        n_boards=len(found.tables),
        superseded=found.superseded,
        remark=level.remark,
        versions=versions,
        commits=[commit[:12] for commit in commits],
        figures=[name for name in figures if name.endswith(".svg")],
        n_draws=N_DRAWS,
    )


def script_json(data: object) -> str:
    """JSON that no HTML parser can leave: nothing in it can close the script element."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # half a surrogate pair has no UTF-8 form
    return re.sub("[\ud800-\udfff]", lambda m: f"\\u{ord(m[0]):04x}", text)


def payload(tables: Sequence[Table], level: Level) -> dict:
    """All the page knows; see `page.js` for how it is read."""
    text, series, runs = _Index(), _Index(), _Index()
    rows = [_row(row, i, level, text, series, runs) for i, t in enumerate(tables) for row in t.rows]
    return {
        "axes": AXES,
        "kinds": KINDS,
        "boards": [_board(t.board, t.rows[0].result, t.ordering) for t in tables],
        "fields": {"row": _ROW, "axis": _AXIS},
        "text": text.items,
        "series": series.items,
        "runs": runs.items,
        "rows": rows,
    }


def _board(board: Board, example: Result, by: Ordering) -> dict:
    return {
        "ordered": by.sentence,
        "greyed": [i for i, axis in enumerate(AXES) if axis in by.greyed],
        "title": board.title,
        "task": board.task,
        "version": board.task_version,
        "task_sha256": board.task_sha256[:12],
        "model": board.model,
        "model_sha256": board.model_sha256[:12],
        "site": board.site,
        "budget": board.budget,
        "seed": board.seed,
        "n": example.task.n.model_dump(),
        "accuracy": example.task.model_accuracy,
    }


def _row(row: Row, board: int, level: Level, text: _Index, series: _Index, runs: _Index) -> list:
    r, d, p = row.result, row.result.dictionary, row.result.provenance
    run = {
        "command": p.command,
        "commit": p.commit,
        "dirty": p.dirty,
        "saebench": p.saebench,
        "device": p.device,
        "dtype": p.dtype,
        "versions": p.versions,
    }
    return [
        board,
        d.kind,
        d.name,
        text(d.source),
        text(d.architecture),
        text(d.training_architecture),
        text(d.format),
        d.d_in,
        d.d_sae,
        d.l0 and round(d.l0, 2),
        l0_band(d.l0),
        d.seed,
        d.sha256[:12],
        r.created,
        row.path,
        [_axis(r.axes.get(axis, AxisScore()), text) for axis in AXES],
        _thousandth(row.overall),
        [row.ranks.get(name) for name in (*AXES, OVERALL)],
        list(_series(r.scores, level, series)),
        [text(warning) for warning in r.warnings],
        [runs(run, json.dumps(run)), round(p.seconds, 1), round(p.peak_memory_mb)],
    ]


def _axis(score: AxisScore, text: _Index) -> list:
    return [
        _thousandth(score.normalized),
        _pair(score.ci),
        _thousandth(score.value),
        _pair(score.value_ci),
        _thousandth(score.floor),
        _thousandth(score.ceiling),
        score.n,
        text(score.reason),
        text(score.note),
    ]


def _thousandth(value: float | None) -> int | None:
    return None if value is None else round(value * 1000)


def _pair(pair: tuple[float, float] | None) -> list[int] | None:
    return None if pair is None else [round(end * 1000) for end in pair]


def _series(scores: Sequence[Score], level: Level, index: _Index) -> Iterator[list]:
    """Scores that differ in `k` alone, as one curve: which, values, and what stands beside them."""
    curves: dict[tuple, list[Score]] = {}
    for score in scores:
        if level.carries(score):
            key = (score.axis, score.name, score.attribute, score.edit)
            curves.setdefault(key, []).append(score)
    for key, points in curves.items():
        points.sort(key=lambda s: -1 if s.k is None else s.k)
        head = (*key, tuple(s.k for s in points), points[0].direction)
        values = [_thousandth(s.value) for s in points]
        if not level.intervals:
            yield [index(head), values]
            continue
        bounds = [_thousandth(points[0].floor), _thousandth(points[0].ceiling)]
        reason = next((s.reason for s in points if s.value is None), None)
        yield [index(head), values, [_pair(s.ci) for s in points], bounds, reason]
