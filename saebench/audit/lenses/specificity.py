"""Specificity: what must fall falls, and the rest does not move."""

from collections.abc import Iterator

from saebench.audit.cards import Card, Question
from saebench.audit.evidence import Evidence
from saebench.audit.rows import Difference, Row, Rows, difference, worth
from saebench.audit.thresholds import BARS, FALLS, UNMOVED

LENS = "specificity"


def cards(evidence: Evidence) -> Iterator[Card]:
    for board in evidence.boards:
        rows = evidence.rows.first.where(board=board)
        for axis in evidence.axes:
            part = rows.where(axis=axis)
            for change in FALLS:
                yield falls(part, change, Question(LENS, board, axis, change))
            for change in UNMOVED:
                yield stays(part, change, Question(LENS, board, axis, change))
            yield silent(part, Question(LENS, board, axis, "null task"))


def _moved(rows: Rows, change: str) -> Iterator[tuple[Row, Difference]]:
    """Each changed SAE's original, and changed minus original."""
    for row in rows.where(group=change):
        for sae in rows.where(name=row.of, group="trained"):
            moved = difference(row, sae)
            if moved is not None:
                yield sae, moved


def falls(rows: Rows, change: str, ask: Question) -> Card:
    """The SAE whose score falls least; SAEs whose score is not credibly above 0 have nothing to lose."""
    found = [(sae, d) for sae, d in _moved(rows, change) if sae.low is not None and sae.low > 0]
    if not found:
        measured = len(rows.where(group=change))
        return ask.missing("no SAE has a score that could fall" if measured else "not measured here")
    sae, least = max(found, key=lambda item: item[1].value)
    reason = f"how far {sae.name} falls; it must"
    # from 0.0, so that nothing reads −0
    ends = (0.0 - least.value, 0.0 - least.high, 0.0 - least.low)
    return ask.above(*ends, 0.0, reason, [s.name for s, _ in found])


def stays(rows: Rows, change: str, ask: Question) -> Card:
    """The SAE whose score moves most, up or down."""
    found = list(_moved(rows, change))
    if not found:
        return ask.missing("not measured or undefined here")
    sae, most = max(found, key=lambda item: abs(item[1].value))
    size = abs(most.value)
    reason = f"how far {sae.name} moves, up or down; the function it computes is the same"
    return ask.below(size, size, size, BARS.unmoved, reason, [s.name for s, _ in found])


def silent(rows: Rows, ask: Question) -> Card:
    """The largest score at a site that nothing reads; undefined is right."""
    found = list(rows.where(group="null-task"))
    if not found:
        return ask.missing("no null task was measured here")
    said = [row for row in found if row.value is not None]
    names = [row.name for row in found]
    if not said:
        return ask.below(
            0.0, 0.0, 0.0, BARS.null_task, f"undefined, as it should be: {found[0].reason}", names
        )
    top = max(said, key=worth)
    low, high = (worth(top) if v is None else v for v in (top.low, top.high))
    return ask.below(worth(top), low, high, BARS.null_task, f"{top.name} where nothing has an effect", names)
