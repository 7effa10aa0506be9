"""What a table is ordered by: the axes that deserve it there, by name (docs/methods.md §2).

A mean of all five says nothing where an axis cannot tell dictionaries apart, or fails the audit. So
tables show every axis, grey those that are not to be ordered by, with the reason, and order by the
mean of the rest.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from saebench.errors import ResultError
from saebench.records.result import AxisScore, Result
from saebench.scoring.axes import AXES
from saebench.scoring.estimates import Interval

COMMITTED = Path(__file__).parents[2] / "results" / "audit" / "after.json"
"""The audit that a checkout brings; a wheel has none."""
SAME = "no SAE here is credibly different from {}"


class Verdict(NamedTuple):
    """What the audit found of one axis on one board."""

    passes: bool
    reason: str


class Verdicts(NamedTuple):
    """What the audit says of the axes for one board."""

    axes: Mapping[str, Verdict]
    board: bool
    """Whether it measured this very board; else it says only what holds on every board."""


class Ordering(NamedTuple):
    """How the rows of one board are ordered."""

    by: tuple[str, ...]
    """The axes whose mean orders the rows, in the order of the list."""
    greyed: Mapping[str, str]
    """The others, each with the reason."""
    audited: bool

    def merit(self, result: Result) -> float | None:
        """Mean normalised headline over `by`; None if one of them is undefined, which is not a 0."""
        found = [result.axes.get(axis, AxisScore()).normalized for axis in self.by]
        numbers = [value for value in found if value is not None]
        return sum(numbers) / len(numbers) if numbers and len(numbers) == len(found) else None

    def place(self, result: Result) -> float:
        """To sort by: the best first, those without a mean last."""
        merit = self.merit(result)
        return float("inf") if merit is None else -merit

    @property
    def sentence(self) -> str:
        """What the rows are ordered by, and what not and why."""
        named = ", ".join(AXES[axis].title for axis in self.by)
        said = f"Rows are ordered by the mean of {named}." if self.by else "Rows are in order of name."
        said += "".join(f" Not by {AXES[axis].title}: {why}." for axis, why in self.greyed.items())
        return said if self.audited else f"{said} Not audited on this board."


def board_title(result: Result) -> str:
    """How the audit names the board that a result stands on."""
    return f"{result.task.name} · {result.model.name} · {result.site}"


def ordering(results: Sequence[Result], verdicts: Verdicts | None = None) -> Ordering:
    """The ordering of one board: by the axes that the audit passes there and that tell its SAEs apart."""
    found = verdicts or Verdicts({}, False)
    greyed, saes = {}, [result for result in results if result.dictionary.kind == "sae"]
    for axis in AXES:
        verdict = found.axes.get(axis)
        reason = verdict.reason if verdict and not verdict.passes else _same(saes, axis)
        if reason:
            greyed[axis] = reason
    by = tuple(axis for axis in AXES if axis not in greyed)
    return Ordering(by, greyed, found.board)


def _same(saes: Sequence[Result], axis: str) -> str | None:
    """Why an axis tells no two of these apart, or None if it may."""
    scores = [result.axes[axis] for result in saes if axis in result.axes]
    defined = [score for score in scores if score.normalized is not None]
    if saes and not defined:
        return next((score.reason for score in scores if score.reason), "undefined for every SAE")
    if len(defined) < 2:
        return None
    ends: list[tuple[str, Callable[[AxisScore], Interval | None], float]] = [
        ("its floor", lambda score: score.ci, 0.0),
        ("0", lambda score: score.value_ci, 0.0),
        ("its ceiling", lambda score: score.ci, 1.0),
    ]
    for name, pick, end in ends:
        if all((ci := pick(score)) is not None and ci[0] <= end <= ci[1] for score in defined):
            return SAME.format(name)
    return None


def read_verdicts(title: str, path: Path = COMMITTED) -> Verdicts | None:
    """The audit's verdicts for one board; None where there is no audit.

    Raises:
        ResultError: if the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        board = document["boards"].get(title)
        axes = document.get("everywhere", {}) if board is None else board["axes"]
        found = {axis: Verdict(bool(of["passes"]), str(of["reason"])) for axis, of in axes.items()}
        return Verdicts(found, board is not None)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultError(
            f"Cannot read the audit {str(path)!r}: {type(error).__name__}: {error}. Expected the file that"
            " `saebench audit` writes; run it again."
        ) from error
