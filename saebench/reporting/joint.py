"""The table of joint edits, for results of `evaluate --joint-edits` (docs/methods.md §5)."""

from collections.abc import Iterator, Sequence

from rich.table import Table

from saebench.records.result import Result, Score
from saebench.reporting.text import interval, number
from saebench.scoring.joint import AXIS

SHOWN = (("agnostic", 6), ("aware", 6))
"""Edits of the paper's largest size."""
ONLY = (("own", None), ("intervention", None))
"""The one edit of what sees labels, and of what only edits."""
SCORES = {"edit_effect": "LD moved", "edit_fidelity": "fidelity", "edit_success": "success"}
NOTE = (
    "Six latents (aware: six for each attribute, out and in). LD moved and fidelity: 0 no edit, 1 the source patch."
    " Every size: `saebench show RESULT --axis joint`."
)


def tables(results: Sequence[Result]) -> Iterator[Table]:
    """One table a task, model and site; none where nobody asked for joint edits."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        if AXIS in result.axis_versions:
            groups.setdefault(f"{result.task.name} · {result.model.name} at {result.site}", []).append(result)
    for title, group in groups.items():
        yield _table(title, group)


def _table(title: str, group: Sequence[Result]) -> Table:
    table = Table(title=f"joint edits · {title}", caption=NOTE, title_justify="left", pad_edge=False)
    table.add_column("attributes")
    table.add_column("dictionary", overflow="fold", min_width=18)
    table.add_column("edit")
    for name in SCORES.values():
        table.add_column(name, justify="right")
    for attribute in dict.fromkeys(s.attribute for r in group for s in r.scores if s.axis == AXIS):
        table.add_section()
        for result in group:
            found = {
                (s.edit, s.k, s.name): s for s in result.scores if (s.axis, s.attribute) == (AXIS, attribute)
            }
            made = [edit for edit in ONLY if (*edit, "edit_success") in found] or SHOWN
            for edit, k in made:
                cells = (_cell(found.get((edit, k, name))) for name in SCORES)
                table.add_row(attribute, result.dictionary.name, edit, *cells)
    return table


def _cell(score: Score | None) -> str:
    if score is None or score.value is None:
        return "undefined"
    return f"{number(score.value)} {interval(score.ci, digits=2)}".strip()
