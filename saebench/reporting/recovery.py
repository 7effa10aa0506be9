"""The table of recovery scores, for results on synthetic tasks."""

from collections.abc import Iterator, Sequence

from rich.table import Table

from saebench.records.result import Result
from saebench.reporting.text import interval, number

COLUMNS = {
    "explained_variance": "explained variance",
    "matched_cosine": "matched cosine (MCC*)",
    "matched_cosine_calibrated": "… calibrated",
    "recovered@0.8": "recovered @0.8",
    "feature_f1": "F1 of features",
    "uniqueness": "unique",
    "dead_latents": "dead",
    "absorption": "absorption",
    "leakage": "leakage",
    "hedging": "hedging",
    "composition": "composition",
}
NOTE = "* mean correlation coefficient, the field's name for mean matched |cosine|; not Matthews'"


def tables(results: Sequence[Result]) -> Iterator[Table]:
    """One table a task, best matched first; none where the truth is not known."""
    names = dict.fromkeys(r.task.name for r in results)
    for name in names:
        known = {r.dictionary.name: _scores(r) for r in results if r.task.name == name}
        known = {dictionary: scores for dictionary, scores in known.items() if scores}
        if known:
            yield _table(name, known)


def _scores(result: Result) -> dict[str, tuple[float, tuple[float, float] | None]]:
    return {
        s.name: (s.value, s.ci)
        for s in result.scores
        if s.axis == "recovery" and s.name in COLUMNS and s.value is not None
    }


def _table(task: str, known: dict[str, dict]) -> Table:
    shown = [c for c in COLUMNS if any(c in scores for scores in known.values())]
    table = Table(title=f"recovery · {task}", caption=NOTE, title_justify="left", pad_edge=False)
    table.add_column("dictionary", overflow="fold", min_width=18)
    for column in shown:
        table.add_column(COLUMNS[column], justify="right")
    order = sorted(known, key=lambda d: -known[d].get("matched_cosine", (0.0, None))[0])
    for dictionary in order:
        table.add_row(dictionary, *(_cell(known[dictionary].get(c)) for c in shown))
    return table


def _cell(score: tuple[float, tuple[float, float] | None] | None) -> str:
    if score is None:
        return "undefined"
    return f"{number(score[0])}\n{interval(score[1], digits=2)}".strip()
