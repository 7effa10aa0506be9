"""Results sorted into boards, and ranked within each.

A board holds what may be compared: one task, model, site, budget, seed and one set of axis
versions. Ranks are among the SAEs; controls, supervised dictionaries and interventions are shown
beside them, never in the competition.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from saebench.records import store
from saebench.records.result import AxisScore, Result
from saebench.reporting.ordering import Ordering, Verdicts, ordering, read_verdicts
from saebench.scoring.axes import AXES as COLUMNS
from saebench.scoring.axes import EVERY, of_headlines
from saebench.scoring.base import RANK_DRAWS
from saebench.scoring.estimates import rank_interval

AXES = {name: axis.heading for name, axis in COLUMNS.items()}
OVERALL = "mean"
KINDS = {
    "sae": "Sparse autoencoders",
    "labelled": "Ceilings: they may look at labels",
    "intervention": "Interventions: they only edit",
    "control": "Controls",
}
_Z = 1.959964


class Rank(NamedTuple):
    """1 is best; `low` to `high` is the 95 % interval."""

    rank: int
    low: int
    high: int

    def __str__(self) -> str:
        return f"{self.low}–{self.high}" if self.low < self.high else str(self.rank)


class Board(NamedTuple):
    """What all rows of a table share."""

    task: str
    task_version: int
    task_sha256: str
    model: str
    model_sha256: str
    site: str
    budget: str
    seed: int
    axis_versions: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, r: Result) -> "Board":
        return cls(
            r.task.name,
            r.task.version,
            r.task.sha256,
            r.model.name,
            r.model.sha256,
            r.site,
            r.budget,
            r.seed,
            tuple(sorted(of_headlines(r.axis_versions).items())),
        )

    @property
    def title(self) -> str:
        return f"{self.task} · {self.model} · {self.site}"

    @property
    def older(self) -> str:
        """Which scores are of an earlier version, so that other boards are no comparison; empty if none."""
        now = {name: axis.version for name, axis in EVERY.items()}
        old = [f"{name} {v} (now {now[name]})" for name, v in self.axis_versions if v < now.get(name, v)]
        return f"Not to be compared with other boards: earlier versions of {', '.join(old)}." if old else ""


@dataclass(frozen=True)
class Row:
    """One dictionary on one board."""

    result: Result
    path: str
    """The JSON file, relative to the leaderboard, with forward slashes."""
    ranks: dict[str, Rank]
    """By axis, and `mean` for the mean of those that order the board; empty for what does not compete."""

    overall: float | None
    """Mean over the axes that the board is ordered by; None if one of them is undefined."""


@dataclass(frozen=True)
class Table:
    """One board with its rows: SAEs in order of merit, then the reference rows by kind."""

    board: Board
    rows: tuple[Row, ...]
    ordering: Ordering
    """The axes that it is ordered by, and why not by the others."""

    def of_kind(self, kind: str) -> list[Row]:
        return [row for row in self.rows if row.result.dictionary.kind == kind]


class Found(NamedTuple):
    """A result on its board, with its file relative to the leaderboard."""

    result: Result
    path: str
    stored: store.Stored


class Collected(NamedTuple):
    tables: list[Table]
    superseded: int
    """Results left out because a newer one of the same dictionary stands on the same board."""


def collect(results_dir: Path, out_dir: Path) -> Collected:
    """Reads every result below a directory and ranks it on its board.

    Raises:
        ResultError: if a result file is damaged.
    """
    newest: dict[tuple, Found] = {}
    paths = store.find(results_dir)
    for path in paths:
        stored = store.load(path)
        result = stored.result
        key = (Board.of(result), result.dictionary.name, result.dictionary.sha256)
        relative = Path(os.path.relpath(path.resolve(), Path(out_dir).resolve())).as_posix()
        known = newest.get(key)
        if known is None or (known.result.created, known.result.id) < (result.created, result.id):
            newest[key] = Found(result, relative, stored)
    boards: dict[Board, list[Found]] = {}
    for key in newest:
        boards.setdefault(key[0], []).append(newest[key])
    audit = results_dir / "audit" / "after.json"
    tables = [
        _table(board, boards[board], read_verdicts(board.title, audit))
        for board in sorted(boards, key=lambda board: _place(board, boards[board]))
    ]
    return Collected(tables, len(paths) - len(newest))


def _place(board: Board, entries: Sequence[Found]) -> tuple:
    """By task; of a task the largest model first, and the site with the most SAEs."""
    model = entries[0].result.model
    saes = sum(entry.result.dictionary.kind == "sae" for entry in entries)
    return (board.task, -model.n_layers * model.d_model**2, -saes, board)


def _table(board: Board, entries: list[Found], verdicts: Verdicts | None) -> Table:
    kinds, by = list(KINDS), ordering([entry.result for entry in entries], verdicts)

    def order(entry: Found) -> tuple:
        result = entry.result
        return (kinds.index(result.dictionary.kind), by.place(result), result.dictionary.name, result.id)

    entries = sorted(entries, key=order)
    contestants = [entry for entry in entries if entry.result.dictionary.kind == "sae"]
    ranks = rank([c.result for c in contestants], by, [c.stored.headlines for c in contestants])
    rows = [
        Row(e.result, e.path, ranks[i] if i < len(ranks) else {}, by.merit(e.result))
        for i, e in enumerate(entries)
    ]
    return Table(board, tuple(rows), by)


def rank(
    results: Sequence[Result], by: Ordering | None = None, headlines: Sequence[Mapping[str, np.ndarray]] = ()
) -> list[dict[str, Rank]]:
    """Ranks of each result by axis and by the mean that the board is ordered by, each with its interval.

    `headlines` are the resampled headlines stored with each result. Dictionaries on one board share
    their resamples, so ranks are taken within each and what prompts have in common cancels; draws are
    moved to the estimates first (docs/methods.md §2). Results without them (older ones) get independent
    normal draws with their standard error instead, which errs towards calling a tie.
    """
    by = by or ordering(results)
    stored = list(headlines) or [{} for _ in results]
    found: list[dict[str, Rank]] = [{} for _ in results]
    draws: dict[tuple[int, str], np.ndarray] = {}
    for axis, name in enumerate(AXES):
        for i, result in enumerate(results):
            score = result.axes.get(name, AxisScore())
            if score.normalized is not None:
                # what a result lacks is drawn by its id, so that ranks do not depend on the order of rows
                own = stored[i].get(name)
                made = own if own is not None else _normal(score, [axis, int(result.id[:8], 16)])
                draws[i, name] = made + (score.normalized - np.nanmean(made))
    for i, result in enumerate(results):
        if by.merit(result) is not None:
            draws[i, OVERALL] = np.mean([draws[i, name] for name in by.by], axis=0)
    for name in (*AXES, OVERALL):
        at = [i for i in range(len(results)) if (i, name) in draws]
        values = np.array([_value(results[i], name, by) for i in at])
        together = np.stack([draws[i, name] for i in at], axis=1) if at else np.empty((0, 0))
        bounds = rank_interval(together, values) if at else []
        for i, value, (low, high) in zip(at, values, bounds, strict=True):
            place = 1 + int((values > value).sum())
            found[i][name] = Rank(place, min(int(low), place), max(int(high), place))
    return found


def _value(result: Result, name: str, by: Ordering) -> float:
    value = by.merit(result) if name == OVERALL else result.axes[name].normalized
    assert value is not None, "only what is defined is ranked"
    return value


def _normal(score: AxisScore, seed: list[int]) -> Float[np.ndarray, "n"]:
    assert score.normalized is not None, "only what is defined is ranked"
    error = (score.ci[1] - score.ci[0]) / (2 * _Z) if score.ci else 0.0
    return np.random.default_rng(seed).normal(score.normalized, error, size=RANK_DRAWS)


def l0_band(l0: float | None) -> str:
    """A power of two and the next, for filtering."""
    if l0 is None or l0 <= 0:
        return "none"
    low = 2 ** int(np.floor(np.log2(max(l0, 1))))
    return f"{low}–{2 * low}" if l0 >= 1 else "below 1"
