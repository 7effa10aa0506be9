"""What the terminal shows: tables of results, progress, lists of tasks."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from saebench.records.result import AxisScore, Result, Score
from saebench.reporting import disentangle as disentangling
from saebench.reporting import joint as joint_edits
from saebench.reporting import recovery as recovery_table
from saebench.reporting.ordering import Ordering, board_title, ordering, read_verdicts
from saebench.reporting.text import WIDE, Footnotes, interval, number
from saebench.scoring.axes import AXES

NOT_MEASURED = AxisScore(reason="this version of saebench measures it, the one that made the result did not")
_KINDS = {"sae": "", "control": "control", "labelled": "sees labels", "intervention": "edits only"}


def order_of(results: Sequence[Result]) -> Ordering:
    """What the rows of one table are ordered by: what the audit passes there and what tells them apart."""
    return ordering(results, read_verdicts(board_title(results[0])))


def best_first(results: Sequence[Result]) -> list[Result]:
    """In order of merit; those that only edit last, since four axes do not apply to them."""
    if not results:
        return []
    by = order_of(results)
    return sorted(results, key=lambda r: (r.dictionary.kind == "intervention", by.place(r)))


def _cell(axis: AxisScore, notes: Footnotes) -> Text:
    """Normalised value and interval, and below them the raw value between floor and ceiling."""
    mark = f" {notes.mark(axis.reason)}" if axis.reason else ""
    if axis.value is None:
        return Text(f"undefined{mark}", style="dim")
    top = "undefined" if axis.normalized is None else number(axis.normalized)
    first = f"{top} {interval(axis.ci)}{mark}".strip()
    bounds = [number(b) if b is not None else "?" for b in (axis.floor, axis.ceiling)]
    raw = f"\n{number(axis.value)} {interval(axis.value_ci)}\n{bounds[0]} … {bounds[1]}"
    return Text(first, style="bold").append(Text(raw, style="not bold dim"))


def results_table(results: Sequence[Result]) -> tuple[Table, list[str]]:
    """One row a dictionary, best first, and the footnotes that explain what is undefined."""
    first, notes = results[0], Footnotes()
    table = Table(title=heading(first), title_justify="left", show_lines=True, pad_edge=False)
    table.add_column("dictionary", overflow="fold", min_width=18)
    table.add_column("L0", justify="right")
    greyed = order_of(results).greyed
    for axis in AXES.values():
        table.add_column(axis.title, min_width=22, style="dim" if axis.name in greyed else None)
    for result in best_first(results):
        name = Text(result.dictionary.name)
        if result.dictionary.kind != "sae":
            name.append(f"\n{_KINDS[result.dictionary.kind]}", style="dim")
        l0 = "" if result.dictionary.l0 is None else f"{result.dictionary.l0:.1f}"
        cells = [_cell(result.axes.get(name, NOT_MEASURED), notes) for name in AXES]
        table.add_row(name, l0, *cells)
    return table, list(notes.lines())


def heading(result: Result) -> str:
    task, model = result.task, result.model
    skill = f", {task.model_accuracy:.1%} of prompts right" if task.model_accuracy is not None else ""
    half = result.provenance.dtype
    dtype = "" if half == "float32" else f" in {half}"
    return f"{task.name} · {model.name}{dtype} at {result.site} · {result.budget}, {task.n.test} test prompts{skill}"


def in_one_line(result: Result) -> str:
    """Name, site and normalised scores of a row, as they are said while others are still being scored."""
    known = (
        f"{AXES[name].title} {number(axis.normalized, 2)} {interval(axis.ci, 2)}".rstrip()
        for name, axis in result.axes.items()
        if name in AXES and axis.normalized is not None
    )
    return f"{result.dictionary.name} at {result.site}: {', '.join(known) or 'nothing defined'}"


LEGEND = (
    "Each cell: normalised score (0 = floor, 1 = ceiling) with its 95 % interval; below it the raw"
    " score with its interval, then floor … ceiling. Higher is better."
)


def print_results(results: Sequence[Result], out: Console) -> None:
    """Prints one table for every task, model and site among the results."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(heading(result), []).append(result)
    told: set[str] = set()
    for group in groups.values():
        if out.width < WIDE:
            for result in best_first(group):
                print_axes(result, out)
            continue
        table, notes = results_table(group)
        out.print(table)
        out.print(Text(f"{LEGEND} {order_of(group).sentence}", style="dim"))
        for note in notes:
            out.print(Text(note, style="dim"))
        print_caveats(best_first(group), out, told)
        out.print()
    further = (disentangling, joint_edits, recovery_table)
    for table in (table for kind in further for table in kind.tables(results)):
        out.print(table)
        out.print()


def print_caveats(results: Sequence[Result], out: Console, told: set[str]) -> None:
    """What was assumed of the dictionaries, each once with the names of those it holds for.

    What was told of all dictionaries of another table, and holds for all of this one, is not told again.
    """
    names: dict[str, list[str]] = {}
    for result in results:
        for line in result.warnings:
            names.setdefault(line, []).append(result.dictionary.name)
    for line, whose in names.items():
        of_all = len(results) > 1 and len(whose) == len(results)
        if of_all and line in told:
            continue
        told.update([line] if of_all else [])
        shown = "all" if of_all else ", ".join(dict.fromkeys(whose))
        out.print(Text(f"note ({shown}): {line}" if len(results) > 1 else f"note: {line}", style="yellow"))


def print_axes(result: Result, out: Console) -> None:
    """One dictionary, one row an axis: for narrow terminals and for `show`."""
    notes = Footnotes()
    title = f"{result.dictionary.name} · {heading(result)}"
    table = Table(title=title, title_justify="left", pad_edge=False)
    for column in ("axis", "normalised", "value", "floor … ceiling"):
        table.add_column(column, no_wrap=column == "axis")
    for name, listed in AXES.items():
        axis = result.axes.get(name, NOT_MEASURED)
        mark = notes.mark(axis.reason) if axis.reason else ""
        normalised = (
            f"{number(axis.normalized)} {interval(axis.ci)}"
            if axis.normalized is not None
            else f"undefined {mark}"
        )
        value = (
            f"{number(axis.value)} {interval(axis.value_ci)}"
            if axis.value is not None
            else f"undefined {mark}"
        )
        bounds = " … ".join(number(b) if b is not None else "?" for b in (axis.floor, axis.ceiling))
        table.add_row(listed.title, normalised, value, bounds)
    out.print(table)
    for line in notes.lines():
        out.print(Text(line, style="dim"))
    print_caveats([result], out, set())


def scores_table(result: Result, axis: str | None = None, width: int = WIDE) -> Table:
    """Every score of a result; three columns where there is no room for all."""
    if width < WIDE:
        return _narrow_scores(result, axis)
    table = Table(title=f"{result.dictionary.name}: scores", title_justify="left", pad_edge=False)
    columns = (
        "axis",
        "score",
        "attribute",
        "edit",
        "k",
        "value",
        "95 % interval",
        "floor",
        "ceiling",
        "n",
        "",
    )
    numbers = ("value", "95 % interval", "floor", "ceiling", "n")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in numbers)
    for score in result.scores:
        if axis is None or score.axis == axis:
            table.add_row(*_score_cells(score))
    return table


def _narrow_scores(result: Result, axis: str | None) -> Table:
    """One row a score, what it is of in its first column."""
    table = Table(title=f"{result.dictionary.name}: scores", title_justify="left", pad_edge=False)
    table.add_column("score", overflow="fold")
    for column in ("value", "floor … ceiling"):
        table.add_column(column)
    for name in dict.fromkeys(s.axis for s in result.scores if axis in (None, s.axis)):
        table.add_section()
        table.add_row(Text(name, style="bold"))
        for score in (s for s in result.scores if s.axis == name):
            _, label, attribute, edit, k, value, ci, floor, ceiling, _, note = _score_cells(score)
            of = " ".join(filter(None, [label, attribute, edit, k and f"k {k}"]))
            shown = Text(of).append(f"\n{note}" if note else "", style="dim")
            table.add_row(shown, f"{value}\n{ci}".strip(), f"{floor} … {ceiling}" if floor or ceiling else "")
    return table


def _score_cells(score: Score) -> list[str]:
    def show(value: float | None) -> str:
        return "" if value is None else number(value)

    arrow = {"higher": "", "lower": " ↓", "none": ""}[score.direction]
    return [
        score.axis,
        score.name + arrow,
        score.attribute or "",
        score.edit or "",
        "" if score.k is None else str(score.k),
        show(score.value),
        interval(score.ci),
        show(score.floor),
        show(score.ceiling),
        str(score.n),
        score.reason or score.note or "",
    ]
