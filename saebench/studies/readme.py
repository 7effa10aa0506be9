"""Rewrites the results that README shows, from the committed ones: `python -m saebench.studies.readme`."""

from collections.abc import Mapping
from pathlib import Path

from saebench.reporting.leaderboard.boards import AXES, Row, Table, collect
from saebench.reporting.leaderboard.tables import cell
from saebench.reporting.text import number

BEGIN, END = "<!-- results:begin -->\n", "<!-- results:end -->\n"
TASK, MODEL = "ioi", "demo"
SHOWN = ("control:supervised", "demo:topk", "demo:topk-undertrained", "control:identity")
"""A ceiling, a good SAE, a bad one, and what knows nothing."""


def results(folder: Path) -> str:
    """Figure and table of one board.

    Raises:
        ValueError, KeyError: if the board or one of its rows is missing.
    """
    tables = [t for t in collect(folder, folder / "leaderboard").tables if t.board[0] == TASK]
    (table,) = [t for t in tables if t.board.model == MODEL]
    rows = {row.result.dictionary.name: row for row in table.rows}
    figure = f"{folder.name}/leaderboard/figures/{TASK}-axes.png"
    return "\n".join(
        [
            f"![Every dictionary of a board, axis by axis, with its 95 % interval]({figure})",
            "",
            f"{_described(table)} 0 is the floor, 1 the ceiling, with 95 % intervals; four of"
            f" {len(table.rows)} rows ([all]({folder.name}/leaderboard/leaderboard.md), or open"
            f" `{folder.name}/leaderboard/index.html`):",
            "",
            "| dictionary | L0 | " + " | ".join(AXES.values()) + " |",
            "|---|--:|" + "--:|" * len(AXES),
            *(_line(rows[name]) for name in SHOWN),
            "",
            _reading(rows),
        ]
    )


def _described(table: Table) -> str:
    task = table.rows[0].result.task
    return f"`make evaluate`: {table.board.title}, {task.n.test} test prompts."


def _line(row: Row) -> str:
    dictionary = row.result.dictionary
    l0 = "–" if dictionary.l0 is None else number(dictionary.l0, digits=1)
    cells = [cell(row.result.axes[axis]) for axis in AXES]
    return f"| `{dictionary.name}` | {l0} | " + " | ".join(cells) + " |"


def _reading(rows: Mapping[str, Row]) -> str:
    """What a cell says, in a sentence with the numbers of the table."""
    sae, neurons = (rows[name].result.axes["control"].normalized or 0.0 for name in (SHOWN[1], SHOWN[3]))
    return (
        f"Read it so: exchanging the one latent of `{SHOWN[1]}` that writes most of an attribute for that of a prompt"
        f" which differs in everything else does {sae:.0%} of what a perfect edit does; exchanging one neuron"
        f" (`{SHOWN[3]}`) {neurons:.0%}.\n"
    )


def rewrite(text: str, folder: Path) -> str:
    """README with the results of a directory between its two marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + results(folder) + END + after


def main() -> None:
    readme = Path("README.md")
    readme.write_text(rewrite(readme.read_text("utf-8"), Path("results")), "utf-8")


if __name__ == "__main__":
    main()
