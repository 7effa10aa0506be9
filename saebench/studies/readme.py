"""Rewrites the results that README shows, from the committed ones: `python -m saebench.studies.readme`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from saebench.reporting.leaderboard.boards import AXES, Row, Table, collect
from saebench.reporting.leaderboard.tables import cell
from saebench.reporting.text import number
from saebench.studies.audit import summary

MARKS = "<!-- {}:begin -->\n", "<!-- {}:end -->\n"
TASK = "ioi"


class Shown(NamedTuple):
    """A board, and four or five of its rows: a ceiling, a good SAE, bad ones, and what knows nothing."""

    model: str
    site: str
    told: str
    rows: tuple[str, ...]


REAL = Shown(
    "smollm2-135m",
    "blocks.26.hook_resid_pre@end",
    "A real language model, SmolLM2-135M, its SAEs trained here"
    " ([what was found](results/smollm2-135m/README.md))",
    (
        "control:supervised",
        "topk-4608-16-ioi-seed0",
        "standard-4608-4-ioi-seed0",
        "topk-4608-64-docs-seed0",
        "control:identity",
    ),
)
BUNDLED = Shown(
    "demo",
    "blocks.1.hook_resid_pre@end",
    "The bundled model, which `make evaluate` scores in a minute",
    ("control:supervised", "demo:topk", "demo:topk-undertrained", "control:identity"),
)


def results(folder: Path) -> str:
    """Figure and tables of two boards.

    Raises:
        ValueError, KeyError: if a board or one of its rows is missing.
    """
    tables = [t for t in collect(folder, folder / "leaderboard").tables if t.board.task == TASK]
    assert (tables[0].board.model, tables[0].board.site) == REAL[:2], (
        "the figure without a number is of the first board"
    )
    figure = f"{folder.name}/leaderboard/figures/{TASK}-axes.png"
    real, bundled = (_board(tables, shown) for shown in (REAL, BUNDLED))
    return "\n".join(
        [
            f"![Every dictionary of a board, axis by axis, with its 95 % interval]({figure})",
            "",
            "0 is the floor, 1 the ceiling, with 95 % intervals; all rows:"
            f" [leaderboard]({folder.name}/leaderboard/leaderboard.md), or open"
            f" `{folder.name}/leaderboard/index.html`.",
            "",
            *_described(real, REAL),
            _reading(real, REAL),
            "",
            *_described(bundled, BUNDLED),
        ]
    )


def _board(tables: Sequence[Table], shown: Shown) -> dict[str, Row]:
    (table,) = [t for t in tables if (t.board.model, t.board.site) == (shown.model, shown.site)]
    return {row.result.dictionary.name.rsplit("/", 1)[-1]: row for row in table.rows}


def _described(rows: Mapping[str, Row], shown: Shown) -> list[str]:
    task = rows[shown.rows[0]].result.task
    return [
        f"{shown.told}: {task.name} at `{shown.site}`, {task.n.test} test prompts, {len(shown.rows)} of"
        f" {len(rows)} rows.",
        "",
        "| dictionary | L0 | " + " | ".join(AXES.values()) + " |",
        "|---|--:|" + "--:|" * len(AXES),
        *(_line(name, rows[name]) for name in shown.rows),
        "",
    ]


def _line(name: str, row: Row) -> str:
    dictionary = row.result.dictionary
    l0 = "–" if dictionary.l0 is None else number(dictionary.l0, digits=1)
    cells = [cell(row.result.axes[axis]) for axis in AXES]
    return f"| `{name}` | {l0} | " + " | ".join(cells) + " |"


def _reading(rows: Mapping[str, Row], shown: Shown) -> str:
    """What a cell says, in a sentence with the numbers of the table."""
    good, *_, neurons = shown.rows[1:]
    sae, few = (rows[name].result.axes["control"].normalized or 0.0 for name in (good, neurons))
    return (
        f"Read it so: exchanging the one latent of `{good}` that writes most of an attribute for that of a prompt"
        f" which differs in everything else does {sae:.0%} of what a perfect edit does; exchanging one neuron"
        f" (`{neurons}`) {few:.0%}."
    )


def rewrite(text: str, folder: Path) -> str:
    """README with the results of a directory, and what the audit says of it, each between its two marks.

    Raises:
        ValueError: if a mark is missing.
    """
    for name, made in {"results": results(folder), "audit": f"{summary.paragraphs(folder)}\n"}.items():
        begin, end = (mark.format(name) for mark in MARKS)
        start = text.index(begin) + len(begin)
        text = text[:start] + made + text[text.index(end, start) :]
    return text


def main() -> None:
    readme = Path("README.md")
    readme.write_text(rewrite(readme.read_text("utf-8"), Path("results")), "utf-8")


if __name__ == "__main__":
    main()
