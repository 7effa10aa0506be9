"""What a paper found, held against numbers of a board: every one over the same prompts and resamples."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from saebench.records.result import Result
from saebench.scoring import Scored
from saebench.scoring.estimates import Estimate, Maybe, Undefined


class Row(NamedTuple):
    """A result and its estimates."""

    result: Result
    scored: Scored

    @property
    def name(self) -> str:
        return self.result.dictionary.name.rsplit("/", 1)[-1]


class Statement(NamedTuple):
    """What a paper found, and what was found here."""

    paper: str
    measured: str
    value: Maybe
    holds: Callable[[float, float], bool | None]
    """From the ends of the interval: whether the paper's finding holds, or None where it is open."""

    @property
    def verdict(self) -> str:
        if isinstance(self.value, Undefined):
            return "undefined"
        said = self.holds(*self.value.interval())
        return {True: "holds", False: "contrary", None: "open"}[said]


def above(bar: float) -> Callable[[float, float], bool | None]:
    """Holds if the interval lies above the bar, is contrary if it lies below."""
    return lambda low, high: True if low > bar else False if high < bar else None


def below(bar: float) -> Callable[[float, float], bool | None]:
    return lambda low, high: True if high < bar else False if low > bar else None


def headline(row: Row, axis: str) -> Maybe:
    found = row.scored.axes.get(axis)
    return Undefined("not measured here") if found is None else found.value


def entry(row: Row, axis: str, name: str, attribute: str | None = None, edit: str | None = None) -> Maybe:
    """One score; the first of its sizes where it has several."""
    for found in row.scored.entries:
        if (found.axis, found.name, found.attribute, found.edit) == (axis, name, attribute, edit):
            return found.value
    return Undefined("not measured here")


def mean(values: Iterable[Maybe]) -> Maybe:
    """Mean of estimates over the same resamples; undefined ones are left out, unless all are."""
    listed = list(values)
    known = [v for v in listed if isinstance(v, Estimate)]
    if not known:
        reasons = [v.reason for v in listed if isinstance(v, Undefined)]
        return Undefined(reasons[0] if reasons else NOBODY)
    total = known[0]
    for value in known[1:]:
        total = total + value
    return total * (1 / len(known))


def difference(a: Maybe, b: Maybe) -> Maybe:
    for side in (a, b):
        if isinstance(side, Undefined):
            return side
    assert isinstance(a, Estimate) and isinstance(b, Estimate)
    return a - b


def named(rows: Sequence[Row], *parts: str) -> list[Row]:
    """Rows whose names hold all of the parts."""
    return [row for row in rows if all(part in row.name for part in parts)]


NOBODY = "no such SAE"
"""Why a mean over no rows is undefined."""


def shown(value: Maybe) -> str:
    if isinstance(value, Undefined):
        return f"undefined: {value.reason}"
    low, high = value.interval()
    return f"{float(value):.2f} [{low:.2f}, {high:.2f}]"


ORDER = {"contrary": 0, "open": 1, "holds": 2, "undefined": 3}


def statements_table(statements: Iterable[Statement]) -> str:
    """Markdown; contrary findings first."""
    lines = ["| the paper's finding | measured here | value | |", "|---|---|---|---|"]
    for s in sorted(statements, key=lambda s: ORDER[s.verdict]):
        verdict = f"**{s.verdict}**" if s.verdict == "contrary" else s.verdict
        lines.append(f"| {s.paper} | {s.measured} | {shown(s.value)} | {verdict} |")
    return "\n".join(lines)
