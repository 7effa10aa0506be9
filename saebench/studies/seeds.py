"""Differences between architectures over SAE seeds: the level at which an architecture is judged."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats


class Difference(NamedTuple):
    """Mean over seeds of a paired difference, with its 95 % t interval."""

    mean: float
    low: float
    high: float
    n: int


def over_seeds(differences: np.ndarray) -> Difference | None:
    """None for fewer than two seeds: one difference has no interval."""
    n = len(differences)
    if n < 2:
        return None
    mean = float(np.mean(differences))
    half = float(stats.t.ppf(0.975, n - 1) * np.std(differences, ddof=1) / n**0.5)
    return Difference(mean, mean - half, mean + half, n)


def paired(frame: pd.DataFrame, by: str, score: str, against: str) -> Iterator[dict[str, Any]]:
    """Every other architecture minus one, seed by seed, at each value of the curve's parameter."""
    for value, part in frame.groupby(by):
        table = part.pivot(index="seed", columns="architecture", values=score)
        for other in table.columns:
            if other == against or against not in table:
                continue
            found = over_seeds((table[other] - table[against]).dropna().to_numpy())
            if found is not None:
                yield {by: value, "difference": f"{other} - {against}", **found._asdict()}
