"""A card: one question put to one axis on one board, what was measured, and the verdict."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from math import isclose


class Verdict(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    PROVISIONAL = "provisional"
    NOT_APPLICABLE = "not applicable"
    STATED = "stated"


_WORST = (Verdict.FAIL, Verdict.PROVISIONAL, Verdict.PASS, Verdict.STATED, Verdict.NOT_APPLICABLE)


@dataclass(frozen=True)
class Card:
    """One verdict with everything it was drawn from."""

    lens: str
    board: str
    axis: str
    check: str
    verdict: Verdict
    measured: float | None = None
    low: float | None = None
    high: float | None = None
    bar: float | None = None
    reason: str = ""
    """What was compared, in words; for a verdict of not applicable why."""
    rows: tuple[str, ...] = ()
    """Names of the rows it is computed from."""
    tables: tuple[str, ...] = ()
    """Files that these rows stand in."""

    @property
    def id(self) -> str:
        return f"{self.board} / {self.axis} / {self.lens} / {self.check}"


@dataclass(frozen=True)
class Question:
    """What is asked, before it is answered; makes cards."""

    lens: str
    board: str
    axis: str
    check: str

    def missing(self, reason: str) -> Card:
        return Card(self.lens, self.board, self.axis, self.check, Verdict.NOT_APPLICABLE, reason=reason)

    def above(
        self, value: float, low: float, high: float, bar: float, reason: str, rows: Iterable[str]
    ) -> Card:
        """Passes if the interval lies above the bar, fails if it lies at or below it, else provisional."""
        verdict = Verdict.PASS if low > bar else Verdict.FAIL if high <= bar else Verdict.PROVISIONAL
        return self._card(verdict, value, low, high, bar, reason, rows)

    def below(
        self, value: float, low: float, high: float, bar: float, reason: str, rows: Iterable[str]
    ) -> Card:
        """Passes if the interval lies at or below the bar, fails if it lies above it, else provisional."""
        verdict = Verdict.PASS if high <= bar else Verdict.FAIL if low > bar else Verdict.PROVISIONAL
        return self._card(verdict, value, low, high, bar, reason, rows)

    def stated(self, value: float, low: float, high: float, reason: str, rows: Iterable[str]) -> Card:
        """No bar: the number is said."""
        return self._card(Verdict.STATED, value, low, high, None, reason, rows)

    def _card(
        self,
        verdict: Verdict,
        value: float,
        low: float,
        high: float,
        bar: float | None,
        reason: str,
        rows: Iterable[str],
    ) -> Card:
        return Card(
            self.lens, self.board, self.axis, self.check, verdict, value, low, high, bar, reason, tuple(rows)
        )


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of several: one failure fails, one doubt leaves it provisional."""
    found = set(verdicts)
    return next((v for v in _WORST if v in found), Verdict.NOT_APPLICABLE)


def plain(card: Card) -> dict:
    """The card as JSON has it."""
    return asdict(card)


def parse(data: dict) -> Card:
    rows, tables = (tuple(data.get(k, ())) for k in ("rows", "tables"))
    return Card(**data | {"verdict": Verdict(data["verdict"]), "rows": rows, "tables": tables})


def same(one: Card, other: Card, tolerance: float = 1e-6) -> bool:
    """Whether two cards say the same; numbers may differ by rounding."""
    numbers = ("measured", "low", "high", "bar")
    if any(getattr(one, k) != getattr(other, k) for k in Card.__dataclass_fields__ if k not in numbers):
        return False
    return all(_close(getattr(one, k), getattr(other, k), tolerance) for k in numbers)


def _close(a: float | None, b: float | None, tolerance: float) -> bool:
    if a is None or b is None:
        return a is b
    return isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)


def text(cards: Iterable[Card]) -> str:
    """Cards as JSON, one a line."""
    return ",\n".join(json.dumps(plain(c), ensure_ascii=False, allow_nan=False) for c in cards)
