"""From tables to the committed document: all cards, and what they say of every axis on every board."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from saebench.audit.cards import Card, Verdict, parse, plain, worst
from saebench.audit.evidence import Evidence
from saebench.audit.lenses import LENSES, gaming
from saebench.audit.lenses.truth import FAMILIES
from saebench.audit.thresholds import BARS, GREYING
from saebench.errors import ResultError
from saebench.records.files import write_text

SCHEMA = "saebench.audit/1"


class AxisVerdict(NamedTuple):
    """One axis on one board. It passes unless one of the greying lenses fails; doubt is said, not punished."""

    passes: bool
    provisional: bool
    reason: str
    """The first failure, or the first doubt, in words; empty if there is none."""
    lenses: dict[str, str]


class Audit(NamedTuple):
    """Everything that an audit says."""

    definitions: str
    cards: tuple[Card, ...]
    axes: tuple[str, ...]

    def of(self, board: str, axis: str) -> list[Card]:
        return [c for c in self.cards if (c.board, c.axis) == (board, axis)]

    @property
    def boards(self) -> list[str]:
        found = dict.fromkeys(c.board for c in self.cards)
        return [board for board in found if board != FAMILIES]

    def axis(self, board: str, axis: str) -> AxisVerdict:
        """What its lenses say on this board, and what is said of it on all families together."""
        here = self.of(board, axis)
        lenses = {lens: worst(c.verdict for c in here if c.lens == lens) for lens in LENSES}
        lenses = {lens: verdict for lens, verdict in lenses.items() if verdict != Verdict.NOT_APPLICABLE}
        for_reason = [c for c in here if _greys(c)]
        failed = [c for c in for_reason if c.verdict == Verdict.FAIL]
        doubtful = [c for c in for_reason if c.verdict == Verdict.PROVISIONAL]
        measured = any(c.verdict != Verdict.NOT_APPLICABLE for c in for_reason)
        failed += [c for c in self.of(FAMILIES, axis) if _greys(c) and c.verdict == Verdict.FAIL]
        first = next(iter([*failed, *doubtful]), None)
        reason = describe(first) if first is not None else "" if measured else "not measured on this board"
        return AxisVerdict(
            measured and not failed, bool(doubtful), reason, {k: str(v) for k, v in lenses.items()}
        )

    def measured(self, board: str) -> bool:
        """Whether any lens that can take an axis out of the ordering was put to this board."""
        return any(_greys(c) for c in self.cards if c.board == board and c.verdict != Verdict.NOT_APPLICABLE)

    def everywhere(self, axis: str) -> AxisVerdict:
        """What holds of an axis on every board, also on those that were not audited themselves."""
        failed = [c for c in self.of(FAMILIES, axis) if _greys(c) and c.verdict == Verdict.FAIL]
        return AxisVerdict(not failed, False, describe(failed[0]) if failed else "", {})

    def ordering(self, board: str) -> list[str]:
        """The axes whose mean orders the board."""
        return [axis for axis in self.axes if self.axis(board, axis).passes]


def _greys(card: Card) -> bool:
    """Whether a failure of it takes its axis out of the ordering."""
    return (card.lens, "") in GREYING or (card.lens, card.check) in GREYING


def describe(card: Card) -> str:
    """A verdict in one line."""
    number = "" if card.measured is None else f" {card.measured:.3g}"
    if card.low is not None and card.high is not None and card.low != card.high:
        number += f" [{card.low:.3g}, {card.high:.3g}]"
    bar = "" if card.bar is None else f" against {card.bar:.3g}"
    return f"{card.lens}, {card.check}:{number}{bar} ({card.reason})"


def judge(evidence: Evidence, definitions: str, tick: Callable[[str], None] = lambda _: None) -> Audit:
    """All cards of all lenses."""
    cards: list[Card] = []
    for name, lens in LENSES.items():
        cards += lens(evidence)
        tick(name)
    audit = Audit(definitions, tuple(cards), evidence.axes)
    # version 1 ordered by the mean of all axes; since then by those that pass
    by = (lambda _: evidence.axes) if evidence.history else audit.ordering
    cards += gaming.ordering(evidence, by)
    return audit._replace(cards=tuple(replace(card, tables=_tables(card, evidence)) for card in cards))


def _tables(card: Card, evidence: Evidence) -> tuple[str, ...]:
    """The files that a card is computed from."""
    if card.verdict == Verdict.NOT_APPLICABLE:
        return ()
    return ("truth.csv",) if card.board == FAMILIES else evidence.tables(card.board, card.rows)


def document(audit: Audit) -> str:
    """The audit as JSON: verdicts by board and axis first, then the bars, then a card a line."""
    boards = {
        board: {
            "ordering": audit.ordering(board),
            "axes": {axis: audit.axis(board, axis)._asdict() for axis in audit.axes},
        }
        for board in audit.boards
        if audit.measured(board)
    }
    head = {"schema": SCHEMA, "definitions": audit.definitions, "axes": audit.axes, "bars": BARS._asdict()}
    head["everywhere"] = {
        axis: {"passes": verdict.passes, "reason": verdict.reason}
        for axis in audit.axes
        for verdict in [audit.everywhere(axis)]
    }
    parts = [f" {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in head.items()]
    lines = [f"  {json.dumps(b)}: {json.dumps(v, ensure_ascii=False)}" for b, v in boards.items()]
    parts.append(' "boards": {\n' + ",\n".join(lines) + "\n }")
    cards = [f"  {json.dumps(plain(c), ensure_ascii=False, allow_nan=False)}" for c in audit.cards]
    parts.append(' "cards": [\n' + ",\n".join(cards) + "\n ]")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def read_document(path: Path) -> Audit:
    """A committed audit.

    Raises:
        ResultError: if the file is missing or is no audit.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']!r}, expected {SCHEMA}")
        cards = tuple(parse(card) for card in data["cards"])
        return Audit(data["definitions"], cards, tuple(data["axes"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultError(
            f"{str(path)!r} is not a committed audit: {error}. Expected a file that `saebench audit` wrote,"
            " such as results/audit/after.json."
        ) from error


def write(audit: Audit, path: Path, more: Iterable[tuple[Path, str]] = ()) -> None:
    """Writes the document, and further texts beside it."""
    write_text(path, document(audit))
    for other, content in more:
        write_text(other, content)
