"""The leaderboard as Markdown and as tidy CSV."""

from collections.abc import Sequence
from urllib.parse import quote

from saebench.records.result import AxisScore
from saebench.reporting.exports import COLUMNS, csv_text, headlines
from saebench.reporting.leaderboard.boards import AXES, KINDS, OVERALL, Row, Table
from saebench.reporting.text import interval, markdown_text, number

RANKS = ("rank", "rank_low", "rank_high")
INTRODUCTION = """\
Each cell is the normalised score with its 95 % interval: 0 is the floor (a control measured the
same way), 1 the ceiling (the clean run for approximation, a perfect score for occlusion, else a
supervised dictionary measured by the same pass). Higher is better. Ranks are among the sparse
autoencoders of a table; a range is the 95 % interval of the rank, so that ties look like ties. The
last column is the mean over the axes that the table says it is ordered by, an undefined one counting
0; axes in brackets are not among them. One training seed supports a statement about that SAE, not about its
architecture.
"""


def render_markdown(tables: Sequence[Table]) -> str:
    """All boards, SAEs first, reference rows set apart below them."""
    parts = ["# Leaderboard", "", INTRODUCTION]
    parts.append("The page `index.html` beside this file sorts, filters and shows every detail.\n")
    if not tables:
        parts.append("There are no results yet.\n")
    for table in tables:
        parts += _board(table)
    return "\n".join(parts)


def _board(table: Table) -> list[str]:
    board, first = table.board, table.rows[0].result
    sizes = first.task.n
    lines = [f"## {markdown_text(board.title)}", ""]
    lines.append(
        f"Task version {board.task_version} (`{board.task_sha256[:8]}`), model"
        f" `{board.model_sha256[:8]}`, budget {markdown_text(board.budget)}, seed {board.seed},"
        f" {sizes.test} test prompts."
    )
    lines += ["", *([board.older, ""] if board.older else []), table.ordering.sentence]
    headings = [f"({title})" if axis in table.ordering.greyed else title for axis, title in AXES.items()]
    for kind, title in KINDS.items():
        rows = table.of_kind(kind)
        if not rows:
            continue
        lines += [
            "",
            f"**{title}**",
            "",
            "| rank | dictionary | architecture | L0 | width | " + " | ".join(headings) + " | mean |",
            "|--:|---|---|--:|--:|" + "--:|" * (len(AXES) + 1),
        ]
        lines += [_line(row) for row in rows]
    reasons = sorted({a.reason for row in table.rows for a in row.result.axes.values() if a.reason})
    lines += ["", *(f"- undefined: {markdown_text(reason)}" for reason in reasons), ""]
    return lines


def _line(row: Row) -> str:
    d = row.result.dictionary
    name = f"[{markdown_text(d.name)}]({quote(row.path)})"
    cells = [
        str(row.ranks.get(OVERALL, "–")),
        name,
        markdown_text(d.trained_as or "–"),
        "–" if d.l0 is None else f"{d.l0:.1f}",
        str(d.d_sae),
        *(cell(row.result.axes.get(axis, AxisScore())) for axis in AXES),
        "–" if row.overall is None else number(row.overall),
    ]
    return "| " + " | ".join(cells) + " |"


def cell(score: AxisScore) -> str:
    """`0.904 [0.870, 0.930]`, or `undefined`."""
    if score.normalized is None:
        return "undefined"
    return f"{number(score.normalized)} {interval(score.ci)}".strip()


def render_csv(tables: Sequence[Table]) -> str:
    """The headline rows of `to_frame`, each with its rank and the path of its result."""
    import pandas as pd

    rows = []
    for table in tables:
        for row in table.rows:
            for line in headlines(row.result):
                rank = row.ranks.get(line["axis"]) or (None, None, None)
                rows.append(line | dict(zip(RANKS, rank, strict=True)) | {"path": row.path})
    # as objects: a whole number stays one where others of its column are missing
    return csv_text(pd.DataFrame(rows, columns=[*COLUMNS, *RANKS, "path"], dtype=object))
