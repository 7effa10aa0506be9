"""The leaderboard as one HTML page: everything inlined, nothing fetched.

The numbers stand in the page as JSON, to three decimals: the full numbers are one link away. Where
all scores would make it larger than `LARGEST` bytes, it carries the axes alone, and says so.
"""

import json
import re
from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from saebench.records.result import AxisScore, Result, Score
from saebench.reporting.leaderboard.boards import AXES, KINDS, OVERALL, Board, Collected, Row, Table, l0_band
from saebench.reporting.ordering import Ordering
from saebench.scoring.base import RANK_DRAWS

LARGEST = 3_000_000
_REMARK = "Scores behind the axes and their curves stand in the raw results only: there are too many here."
_AXIS = ("normalized", "ci", "value", "value_ci", "floor", "ceiling", "n", "reason", "note")


def render_page(found: Collected, figures: Sequence[str]) -> str:
    """The page; `figures` are the picture files beside it."""
    page = _render(found, figures, whole=True)
    return page if len(page.encode()) <= LARGEST else _render(found, figures, whole=False)


def _render(found: Collected, figures: Sequence[str], whole: bool) -> str:
    here = files("saebench.reporting.leaderboard")
    read = {name: (here / f"page.{name}").read_text("utf-8") for name in ("html", "css", "js")}
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    runs = [row.result.provenance for table in found.tables for row in table.rows]
    return environment.from_string(read["html"]).render(
        css=read["css"],
        js=read["js"],
        data=script_json(payload(found.tables, whole)),
        n_rows=len(runs),
        n_boards=len(found.tables),
        superseded=found.superseded,
        remark="" if whole else _REMARK,
        versions=sorted({run.saebench for run in runs}),
        commits=sorted({(run.commit or "unknown")[:12] for run in runs}),
        figures=[name for name in figures if name.endswith(".svg")],
        n_draws=RANK_DRAWS,
    )


def script_json(data: object) -> str:
    """JSON that no HTML parser can leave: nothing in it can close the script element."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # half a surrogate pair has no UTF-8 form
    return re.sub("[\ud800-\udfff]", lambda m: f"\\u{ord(m[0]):04x}", text)


def payload(tables: Sequence[Table], whole: bool) -> dict:
    """All the page knows; see `page.js` for how it is read. `whole`: with every score."""
    series: dict[tuple, int] = {}
    rows = [_row(row, at, whole, series) for at, table in enumerate(tables) for row in table.rows]
    return {
        "axes": AXES,
        "kinds": KINDS,
        "boards": [_board(table.board, table.rows[0].result, table.ordering) for table in tables],
        "series": list(series),
        "rows": rows,
    }


def _board(board: Board, example: Result, by: Ordering) -> dict:
    return {
        "ordered": f"{board.older} {by.sentence}".strip(),
        "older": bool(board.older),
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


def _row(row: Row, board: int, whole: bool, series: dict[tuple, int]) -> dict:
    r, d, p = row.result, row.result.dictionary, row.result.provenance
    fields = d.model_dump(include={"kind", "name", "source", "format", "d_in", "d_sae", "seed"})
    axes = [r.axes.get(axis, AxisScore()).model_dump(include=set(_AXIS)) for axis in AXES]
    return fields | {
        "board": board,
        "architecture": d.trained_as,
        "saved_as": d.architecture,
        "l0": d.l0 and round(d.l0, 2),
        "band": l0_band(d.l0),
        "sha256": d.sha256[:12],
        "created": r.created,
        "path": row.path,
        "axes": [{name: _rounded(value) for name, value in axis.items()} for axis in axes],
        "mean": _rounded(row.overall),
        "ranks": [row.ranks.get(name) for name in (*AXES, OVERALL)],
        "series": _series(r.scores if whole else (), series),
        "warnings": r.warnings,
        "run": p.model_dump(include={"command", "commit", "dirty", "saebench", "device", "dtype", "versions"})
        | {"seconds": round(p.seconds, 1), "memory": round(p.peak_memory_mb)},
    }


def _rounded(value: object) -> object:
    """To three decimals, pairs too; whatever is no number as it is."""
    if isinstance(value, float):
        return round(value, 3) + 0.0
    return [round(end, 3) for end in value] if isinstance(value, tuple) else value


def _series(scores: Sequence[Score], known: dict[tuple, int]) -> list[list]:
    """Scores that differ in `k` alone, as one curve: which of the known, values, what stands beside."""
    curves: dict[tuple, list[Score]] = {}
    for score in scores:
        curves.setdefault((score.axis, score.name, score.attribute, score.edit), []).append(score)
    rows = []
    for key, points in curves.items():
        points.sort(key=lambda score: -1 if score.k is None else score.k)
        head = (*key, tuple(score.k for score in points), points[0].direction)
        rows.append(
            [
                known.setdefault(head, len(known)),
                [_rounded(score.value) for score in points],
                [_rounded(score.ci) for score in points],
                [_rounded(points[0].floor), _rounded(points[0].ceiling)],
                next((score.reason for score in points if score.value is None), None),
            ]
        )
    return rows
