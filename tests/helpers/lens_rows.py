"""Rows of tiny boards, and what a card says: for the tests of the lenses."""

import itertools

import numpy as np

from saebench.audit.cards import Card
from saebench.audit.rows import N_DRAWS, Row
from saebench.audit.standing import CHEATS, SEARCH, current_definition
from saebench.audit.thresholds import FALLS, UNMOVED
from saebench.scoring.axes import AXES as EVERY_AXIS

BOARD = "task · model · site"
AXES = ("control", "interpretability")
SHARED = np.random.default_rng(0).normal(0, 0.05, N_DRAWS)
"""Noise that all dictionaries share: paired differences do not have it."""


def row(
    name: str, value: float | None, group: str = "trained", noise: float = 0.005, seed: int = 1, **fields
) -> Row:
    axis = fields.pop("axis", "control")
    if value is None:
        return Row(BOARD, group, name, axis, None, reason="nothing there", **fields)
    own = np.random.default_rng(seed).normal(0, noise, N_DRAWS)
    return Row(
        BOARD,
        group,
        name,
        axis,
        value,
        value - 0.1,
        value + 0.1,
        draws=(value + SHARED + own).astype(np.float32),
        **fields,
    )


def whole_board(board: str = BOARD, axes: tuple[str, ...] = tuple(EVERY_AXIS)) -> list[Row]:
    """Rows of everything that a board has to be tried with, tiny: two SAEs, level with nothing."""
    others = [("n", "null", "a", 0.1), ("m", "null", "b", 0.1), ("control:supervised", "ceiling", "", 1.0)]
    others += [("control:random:8", "reference", "", 0.1)]
    others += [(f"{change} of a", change, "a", 0.1) for change in FALLS]
    others += [(f"{change} of a", change, "a", 0.5) for change in UNMOVED]
    others += [(name, "cheat", "", 0.2) for name in (*CHEATS, SEARCH)]
    rows = []
    for axis in axes:
        known = {"axis": axis, "definition": current_definition(board, axis)}
        for i, (name, group, of, value) in enumerate(others):
            rows.append(row(name, value, group, seed=i + 10, of=of, **known))
        rows.append(row("a", None, "null-task", **known))
        for run, step in itertools.product(range(3), range(6)):
            shot = {"of": f"run {run}", "seed": run, "step": step}
            rows.append(row(f"run {run}/{step}", 0.1 * step, "snapshot", **known)._replace(**shot))
        for seed, (name, value) in enumerate((("a", 0.5), ("b", 0.4))):
            rows.append(row(name, value, seed=seed, budget="full", **known))
            rows += [row(name, value, seed=seed, task_seed=draw, **known) for draw in range(5)]
    return [r._replace(board=board) for r in rows]


def verdict(card) -> str:
    return str(card.verdict)


def measured(card: Card, end: str = "measured") -> float:
    number = getattr(card, end)
    assert number is not None, card
    return number
