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
from saebench.reporting.ordering import Ordering, Verdict, ordering, read_verdicts
from saebench.scoring.axes import AXES as EVERY_AXIS
from saebench.scoring.estimates import rank_interval

AXES = {name: axis.heading for name, axis in EVERY_AXIS.items()}
OVERALL = "mean"
KINDS = {
    "sae": "Sparse autoencoders",
    "labelled": "Ceilings: they may look at labels",
    "intervention": "Interventions: they only edit",
    "control": "Controls",
}
N_DRAWS = 500
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
            tuple(sorted(r.axis_versions.items())),
        )

    @property
    def title(self) -> str:
        return f"{self.task} · {self.model} · {self.site}"


@dataclass(frozen=True)
class Row:
    """One dictionary on one board."""

    result: Result
    path: str
    """The JSON file, relative to the leaderboard, with forward slashes."""
    ranks: dict[str, Rank]
    """By axis, and `mean` for the mean of those that order the board; empty for what does not compete."""

    overall: float
    """Mean over the axes that the board is ordered by."""


@dataclass(frozen=True)
class Table:
    """One board with its rows: SAEs in order of merit, then the reference rows by kind."""

    board: Board
    rows: tuple[Row, ...]
    ordering: Ordering
    """The axes that it is ordered by, and why not by the others."""

    def of_kind(self, kind: str) -> list[Row]:
        return [row for row in self.rows if row.result.dictionary.kind == kind]


class Collected(NamedTuple):
    tables: list[Table]
    superseded: int
    """Results left out because a newer one of the same dictionary stands on the same board."""


def collect(results_dir: Path, out_dir: Path) -> Collected:
    """Reads every result below a directory and ranks it on its board.

    Raises:
        ResultError: if a result file is damaged.
    """
    newest: dict[tuple, tuple[Result, str]] = {}
    paths = store.find(results_dir)
    for path in paths:
        result = store.load(path).result
        key = (Board.of(result), result.dictionary.name, result.dictionary.sha256)
        relative = Path(os.path.relpath(path.resolve(), Path(out_dir).resolve())).as_posix()
        known = newest.get(key)
        if known is None or (known[0].created, known[0].id) < (result.created, result.id):
            newest[key] = (result, relative)
    boards: dict[Board, list[tuple[Result, str]]] = {}
    for key in newest:
        boards.setdefault(key[0], []).append(newest[key])
    audit = results_dir / "audit" / "after.json"
    tables = [_table(board, boards[board], read_verdicts(board.title, audit)) for board in sorted(boards)]
    return Collected(tables, len(paths) - len(newest))


def _table(board: Board, entries: list[tuple[Result, str]], verdicts: Mapping[str, Verdict] | None) -> Table:
    kinds, by = list(KINDS), ordering([result for result, _ in entries], verdicts)

    def order(entry: tuple[Result, str]) -> tuple:
        result = entry[0]
        return (kinds.index(result.dictionary.kind), -by.merit(result), result.dictionary.name, result.id)

    entries = sorted(entries, key=order)
    contestants = [result for result, _ in entries if result.dictionary.kind == "sae"]
    ranks = rank(contestants, by)
    rows = [
        Row(r, path, ranks[i] if i < len(ranks) else {}, by.merit(r)) for i, (r, path) in enumerate(entries)
    ]
    return Table(board, tuple(rows), by)


def rank(results: Sequence[Result], by: Ordering | None = None) -> list[dict[str, Rank]]:
    """Ranks of each result by axis and by the mean that the board is ordered by, each with its interval.

    The draws are normal, with the standard error of the stored interval, and independent between
    dictionaries. Paired draws would be narrower, since dictionaries share prompts: ranks err towards
    calling a tie. The mean's standard error is that of axes moving together.
    """
    by = by or ordering(results)
    found: list[dict[str, Rank]] = [{} for _ in results]
    # in id order, so that the draws do not depend on how the table is sorted
    order = sorted(range(len(results)), key=lambda i: results[i].id)
    means, errors = {}, {}
    for axis in AXES:
        scores = [results[i].axes.get(axis, AxisScore()) for i in order]
        means[axis] = np.array([np.nan if s.normalized is None else s.normalized for s in scores])
        errors[axis] = np.array([_error(s) for s in scores])
    means[OVERALL] = np.array([by.merit(results[i]) for i in order])
    errors[OVERALL] = np.mean([errors[axis] for axis in by.by or AXES], axis=0)
    for seed, name in enumerate(means):
        at = np.flatnonzero(np.isfinite(means[name]))
        if not len(at):
            continue
        draws = _draws(means[name][at], errors[name][at], seed)
        bounds = rank_interval(draws)
        places = 1 + (means[name][at][None, :] > means[name][at][:, None]).sum(1)
        for i, place, (low, high) in zip(at.tolist(), places, bounds, strict=True):
            low, high = min(low, place), max(high, place)
            found[order[i]][name] = Rank(int(place), int(low), int(high))
    return found


def _error(score: AxisScore) -> float:
    return (score.ci[1] - score.ci[0]) / (2 * _Z) if score.ci and score.normalized is not None else 0.0


def _draws(mean: Float[np.ndarray, "m"], error: Float[np.ndarray, "m"], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, error, size=(N_DRAWS, len(mean)))


def l0_band(l0: float | None) -> str:
    """A power of two and the next, for filtering."""
    if l0 is None or l0 <= 0:
        return "none"
    low = 2 ** int(np.floor(np.log2(max(l0, 1))))
    return f"{low}–{2 * low}" if l0 >= 1 else "below 1"
