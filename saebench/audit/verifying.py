"""Does a committed audit say what its tables say, and can its tables carry a verdict?"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from saebench.audit import report
from saebench.audit.cards import Card, same
from saebench.audit.evidence import Evidence, load
from saebench.audit.judging import Audit, describe, document, judge, read_document
from saebench.audit.standing import wrong


class Mismatch(NamedTuple):
    """A card that says something else than its tables do; one side is None where it does not exist."""

    committed: Card | None
    recomputed: Card | None

    @property
    def sentence(self) -> str:
        card = self.committed or self.recomputed
        assert card is not None, "one side exists"
        one, other = (
            "no such card" if side is None else f"{describe(side)} → {side.verdict}" for side in self
        )
        return f"{card.id}: committed is {one}; its tables say {other}"


class Verified(NamedTuple):
    """What was found wrong with a committed audit, in sentences."""

    n_cards: int
    mismatches: list[Mismatch]
    others: list[str]
    """What is wrong beside single cards: verdicts, the page, or tables that can carry none."""

    @property
    def sentences(self) -> list[str]:
        return [*(m.sentence for m in self.mismatches), *self.others]


def verify(path: Path, tables: Path, tolerances: Path | None, results: Path | None = None) -> Verified:
    """Recomputes every card from the committed tables, and holds everything that is said against them.

    Tables of version 1 are history: whether they are complete and of now is not asked.

    Raises:
        ResultError: if the document or a table cannot be read.
    """
    committed, evidence = read_document(path), load(tables, tolerances)
    others = [*_document(path, committed, evidence), *_page(path, committed, evidence)]
    if not evidence.history and results is not None:
        others += wrong(evidence, results)
    return Verified(len(committed.cards), mismatches(committed, evidence), others)


def mismatches(committed: Audit, evidence: Evidence) -> list[Mismatch]:
    """Cards that differ from those of the tables."""
    again = judge(evidence, committed.definitions)
    one, other = ({c.id: c for c in a.cards} for a in (committed, again))
    pairs = [Mismatch(one.get(k), other.get(k)) for k in dict.fromkeys([*one, *other])]
    return [
        p for p in pairs if p.committed is None or p.recomputed is None or not same(p.committed, p.recomputed)
    ]


def _document(path: Path, committed: Audit, evidence: Evidence) -> Iterator[str]:
    """Boards are ordered by what stands before the cards: that has to follow from these."""
    twice = [name for name, n in Counter(card.id for card in committed.cards).items() if n > 1]
    yield from (f"there are several cards {name}" for name in twice)
    stated = json.loads(path.read_text(encoding="utf-8"))
    follows = json.loads(document(committed))
    for name in dict.fromkeys([*follows, *stated]):
        if name != "cards" and stated.get(name) != follows.get(name):
            yield f"{name!r} is {_first(stated.get(name), follows.get(name))} follows from its cards"
    if committed.axes != evidence.axes:
        yield f"it is of the axes {', '.join(committed.axes)}, now there are {', '.join(evidence.axes)}"
    definitions = evidence.about.get("definitions", committed.definitions)
    if definitions != committed.definitions:
        yield f"it calls its definitions {committed.definitions!r}, its tables {definitions!r}"


def _first(stated: object, follows: object, place: str = "") -> str:
    """The first place in which two documents differ, in words."""
    if isinstance(stated, dict) and isinstance(follows, dict):
        name = next(k for k in (*follows, *stated) if stated.get(k) != follows.get(k))
        return _first(stated.get(name), follows.get(name), f"{place} {name}".strip())
    return f"{stated!r} for {place or 'all'}, where {follows!r}"


def _page(path: Path, committed: Audit, evidence: Evidence) -> Iterator[str]:
    page = path.with_suffix(".md")
    if not page.is_file():
        yield f"{page.name} is not there"
    elif page.read_text("utf-8") != report.markdown(committed, evidence.about.get("tables", {})):
        yield f"{page.name} is not the page of these cards"
