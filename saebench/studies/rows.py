"""Small CSV tables of results, and differences between architectures over SAE seeds in them."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

Row = dict[str, Any]


def write(rows: list[Row], path: Path) -> None:
    """Rows as CSV, columns in order of first use; whoever stops this finds the old file or the new."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    part = path.with_name(f"{path.name}.part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )
    part.replace(path)


def read(path: Path) -> list[Row]:
    """Rows as text; none where there is no file."""
    if not path.exists():
        return []
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


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


def paired(frame: pd.DataFrame, by: str, score: str, against: str) -> Iterator[Row]:
    """Every other architecture minus one, seed by seed, at each value of the curve's parameter."""
    for value, part in frame.groupby(by):
        table = part.pivot(index="seed", columns="architecture", values=score)
        for other in table.columns:
            if other == against or against not in table:
                continue
            found = over_seeds((table[other] - table[against]).dropna().to_numpy())
            if found is not None:
                yield {by: value, "difference": f"{other} - {against}", **found._asdict()}
