"""Rows of tiny boards, and what a card says: for the tests of the lenses."""

import numpy as np

from saebench.audit.cards import Card
from saebench.audit.rows import N_DRAWS, Row

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


def verdict(card) -> str:
    return str(card.verdict)


def measured(card: Card, end: str = "measured") -> float:
    number = getattr(card, end)
    assert number is not None, card
    return number
