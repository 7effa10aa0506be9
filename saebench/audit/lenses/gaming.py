"""Gaming: does a dictionary that only games a score pass every trained SAE?"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from saebench.audit.cards import Card, Question, Verdict, worst
from saebench.audit.evidence import Evidence
from saebench.audit.rows import N_DRAWS, Difference, Row, Rows, difference, worth
from saebench.audit.thresholds import BARS, CHEAT_MARGIN, ORDERING_MARGIN

LENS = "gaming"


def cards(evidence: Evidence) -> Iterator[Card]:
    for board in evidence.boards:
        rows = evidence.rows.first.where(board=board)
        names = rows.where(group="cheat").distinct("name")
        leads = {name: ahead(rows, name, evidence.axes) for name in names}
        unknown = {n: missing_axes(rows.where(group="cheat", name=n), evidence.axes) for n in names}
        whole = {n: cheat(lead, unknown[n], Question(LENS, board, "all", n)) for n, lead in leads.items()}
        yield from whole.values()
        for axis in evidence.axes:
            yield on_axis(axis, leads, whole, Question(LENS, board, axis, "cheats ahead"))


def ordering(evidence: Evidence, axes_of: Callable[[str], Sequence[str]]) -> Iterator[Card]:
    """Each cheat's mean over the axes that order a board, minus the best SAE's.

    An axis on which it is undefined counts 0; without one on which it was not measured nothing is said.
    """
    for board in evidence.boards:
        rows, axes = evidence.rows.first.where(board=board), list(axes_of(board))
        for name in rows.where(group="cheat").distinct("name"):
            ask = Question(LENS, board, "ordering", name)
            if not axes:
                yield ask.missing("no axis orders this board")
                continue
            own = rows.where(group="cheat", name=name)
            unknown = missing_axes(own, axes)
            if unknown:
                yield ask.missing(f"{', '.join(unknown)} was not measured for it here")
                continue
            cheat = mean_row(own, axes)
            saes = [mean_row(rows.where(group="trained", name=n), axes) for n in _names(rows)]
            best = max(saes, key=worth)
            moved = difference(cheat, best)
            assert moved is not None, "means are always defined"
            reason = f"mean of {', '.join(axes)}, minus that of {best.name}, the best SAE"
            yield ask.below(*moved, ORDERING_MARGIN, reason, [name, best.name])


def _names(rows: Rows) -> list[str]:
    return rows.where(group="trained").distinct("name")


def missing_axes(rows: Rows, axes: Sequence[str]) -> list[str]:
    """The axes on which one dictionary was not measured; undefined is measured."""
    there = rows.distinct("axis")
    return [axis for axis in axes if axis not in there]


def mean_row(rows: Rows, axes: Sequence[str]) -> Row:
    """One dictionary's mean over axes as a row with draws of its own."""
    parts = [rows.one(axis=axis) for axis in axes]
    kept = [(row.value, row.draws) for row in parts if row is not None]
    value = sum(v for v, d in kept if v is not None and d is not None) / len(axes)
    drawn = [d for v, d in kept if v is not None and d is not None]
    draws = np.sum([np.zeros(N_DRAWS), *drawn], axis=0) / len(axes)
    return next(iter(rows))._replace(axis="ordering", value=value, draws=draws)


def ahead(rows: Rows, name: str, axes: tuple[str, ...]) -> dict[str, Difference]:
    """By axis, the cheat minus the best trained SAE; axes on which either is undefined are left out."""
    found = {}
    for axis in axes:
        here = rows.where(axis=axis)
        one, best = here.one(group="cheat", name=name), best_sae(here)
        moved = None if one is None or best is None else difference(one, best)
        if moved is not None:
            found[axis] = moved
    return found


def best_sae(rows: Rows) -> Row | None:
    saes = [row for row in rows.where(group="trained") if row.value is not None]
    return max(saes, key=worth, default=None)


def cheat(lead: dict[str, Difference], unknown: Sequence[str], ask: Question) -> Card:
    """On how many axes it lies above every trained SAE: for sure, as estimated, and at most.

    Of axes on which it was not measured that is not known, so that few leads pass only as a doubt.
    """
    if not lead:
        return ask.missing("undefined on every axis")
    counts = [
        sum(end > CHEAT_MARGIN for end in ends)
        for ends in zip(*((d.value, d.low, d.high) for d in lead.values()), strict=True)
    ]
    gaps = ", ".join(f"{axis} {d.value:+.3f}" for axis, d in lead.items())
    # what is not even estimated to be ahead is no reason for doubt
    sure = min(counts[1], counts[0])
    said = f"minus the best SAE: {gaps}"
    if unknown:
        said += f"; not measured: {', '.join(unknown)}"
    return ask.below(counts[0], sure, counts[0] + len(unknown), BARS.gamed_axes, said, [ask.check])


def on_axis(
    axis: str, leads: dict[str, dict[str, Difference]], whole: dict[str, Card], ask: Question
) -> Card:
    """The worst verdict of the cheats that lead this axis; the gap is the largest of theirs."""
    here = {name: lead[axis] for name, lead in leads.items() if axis in lead}
    if not here:
        return ask.missing("no cheat is defined, or was measured, on this axis")
    name, top = max(here.items(), key=lambda item: item[1].value)
    ahead = [n for n, d in here.items() if d.value > CHEAT_MARGIN]
    verdict = worst([whole[n].verdict for n in ahead] or [Verdict.PASS])
    who = f"; ahead of every SAE: {', '.join(ahead)}" if ahead else ""
    reason = f"closest is {name}, minus the best SAE{who}"
    return Card(LENS, ask.board, axis, ask.check, verdict, *top, 0.0, reason, tuple(here))
