"""Convergence: the same axis on different families against different axes on the same one.

Campbell and Fiske's multitrait-multimethod comparison (1959). Axes are the traits, families the methods, and
training recipes (architecture and sparsity) what both are measured on.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from saebench.audit.cards import Card, Question
from saebench.audit.evidence import Evidence
from saebench.audit.lenses.truth import defined

LENS = "convergence"
_DRAWS, _LEAST = 300, 8
_FLAT = 1e-12
"""A variance below this is rounding."""


def cards(evidence: Evidence) -> Iterator[Card]:
    if not evidence.families:
        return
    columns: dict[tuple[str, str], Any] = {}
    for name in evidence.families:
        means = _recipes(evidence.family(name))
        columns |= {(name, axis): means[axis] for axis in evidence.axes if defined(means, axis)}
    frame = pd.DataFrame(columns)
    table = Table(list(frame.columns), frame.to_numpy(float))
    rng = np.random.default_rng(0)
    n = len(table.values)
    draws = [table.correlations(rng.integers(n, size=n)) for _ in range(_DRAWS)]
    for axis in evidence.axes:
        ask = Question(LENS, "all families", axis, "same axis against others")
        yield _card(table, draws, axis, ask)


def _recipes(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds of the fully trained SAEs of every recipe."""
    last = frame.loc[frame["step"] == frame["step"].max()]
    return pd.DataFrame(last.groupby(["architecture", "share"]).mean(numeric_only=True))


class Table(NamedTuple):
    """Recipes down, (family, axis) across; NaN where a family has no such recipe or score."""

    columns: list[tuple[str, str]]
    values: Float[np.ndarray, "recipes columns"]

    def correlations(self, rows: Int[np.ndarray, "n"]) -> Float[np.ndarray, "columns columns"]:
        """Pearson's correlation over the recipes that both columns have; NaN for too few or no variation."""
        x = self.values[rows]
        there = np.isfinite(x).astype(float)
        x = np.where(there > 0, x - np.nanmean(self.values, axis=0), 0.0)
        n = there.T @ there
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = x.T @ there / n
            covariance = x.T @ x / n - mean * mean.T
            variance = (x**2).T @ there / n - mean**2
            found = covariance / np.sqrt(variance * variance.T)
        return np.where((n >= _LEAST) & (variance > _FLAT) & (variance.T > _FLAT), found, np.nan)

    def contrast(self, correlation: Float[np.ndarray, "columns columns"], axis: str) -> tuple[float, float]:
        """Mean correlation of the axis with itself on other families, and with other axes on its own."""
        families, axes = (np.array(names) for names in zip(*self.columns, strict=True))
        own = axes == axis
        across = np.triu(own[:, None] & own[None], 1)
        within = own[:, None] & ~own[None] & (families[:, None] == families[None])
        return _mean(correlation[across]), _mean(correlation[within])


def _mean(found: Float[np.ndarray, "n"]) -> float:
    kept = found[np.isfinite(found)]
    return float(kept.mean()) if len(kept) else float("nan")


def _card(table: Table, draws: list[np.ndarray], axis: str, ask: Question) -> Card:
    whole = table.correlations(np.arange(len(table.values)))
    across, within = table.contrast(whole, axis)
    if not np.isfinite([across, within]).all():
        return ask.missing("defined on fewer than two families")
    differences = [one - other for one, other in (table.contrast(draw, axis) for draw in draws)]
    low, high = np.nanquantile(differences, [0.025, 0.975])
    reason = f"same axis on other families {across:.2f}, other axes on the same family {within:.2f}"
    rows = [f"truth.csv: {len(table.values)} recipes"]
    return ask.stated(across - within, float(low), float(high), reason, rows)
