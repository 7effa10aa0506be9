"""What the audit is computed from: headlines of scored dictionaries, with their bootstrap draws.

One row is one dictionary's normalised headline on one axis of one board. Draws of one board, task seed and
budget are paired: the same resamples of the same prompts, so that the difference of two rows is the
difference of their draws.
"""

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from saebench.errors import ResultError
from saebench.records.files import write_all

N_DRAWS = 400
"""Draws kept of each headline; differences take their standard error from them."""
Z = 1.959964
_KEYS = ("board", "group", "name", "of", "budget", "axis", "reason", "definition")
_INTEGERS = ("task_seed", "seed", "step")
_NUMBERS = ("value", "low", "high")


class Row(NamedTuple):
    """One headline. `value` is None where it is undefined, with the reason."""

    board: str
    group: str
    """What kind of dictionary it is: trained, null, cheat, … (see `measuring`)."""
    name: str
    axis: str
    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""
    of: str = ""
    """The SAE that a control was made from, or the training run that a snapshot belongs to."""
    task_seed: int = 0
    budget: str = "quick"
    seed: int = 0
    """Training seed."""
    step: int = 0
    """Training steps of a snapshot."""
    definition: str = ""
    """Versions of what it was scored by and digest of the task (see `committed`); empty where nobody said."""
    draws: Float[np.ndarray, "n_draws"] | None = None


def worth(row: Row) -> float:
    """The row's value where it is known to have one.

    Raises:
        ValueError: for an undefined row.
    """
    if row.value is None:
        raise ValueError(f"{row.name} has no value on {row.axis}: {row.reason}")
    return row.value


class Difference(NamedTuple):
    """A paired difference with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def error(self) -> float:
        return (self.high - self.low) / (2 * Z)


def difference(one: Row, other: Row) -> Difference | None:
    """`one − other` over their common draws, ± 1.96 standard errors; None where one is undefined.

    The interval stands around the estimate: draws of thresholded scores sit beside theirs.

    Raises:
        ValueError: if the two were not measured on the same prompts, so that draws are not paired.
    """
    if (one.board, one.task_seed, one.budget) != (other.board, other.task_seed, other.budget):
        raise ValueError(f"{one.name} and {other.name} were not measured on the same prompts")
    if one.value is None or other.value is None:
        return None
    value = one.value - other.value
    if one.draws is None or other.draws is None:
        half = Z * float(np.hypot(_error(one), _error(other)))
    else:
        moved = one.draws - other.draws
        moved = moved[np.isfinite(moved)]
        half = Z * float(moved.std(ddof=1)) if len(moved) > 1 else 0.0
    return Difference(value, value - half, value + half)


def _error(row: Row) -> float:
    return 0.0 if row.low is None or row.high is None else (row.high - row.low) / (2 * Z)


@dataclass(frozen=True)
class Rows:
    """Rows that can be asked for by what they are."""

    rows: tuple[Row, ...] = field(repr=False)

    def where(self, keep: Callable[[Row], bool] | None = None, **fields: str | int) -> "Rows":
        """The rows whose fields equal those given."""
        return Rows(
            tuple(
                row
                for row in self.rows
                if all(getattr(row, k) == v for k, v in fields.items()) and (keep is None or keep(row))
            )
        )

    def one(self, **fields: str | int) -> Row | None:
        """The only row with these fields; None if there is none.

        Raises:
            ValueError: if there are several.
        """
        found = self.where(None, **fields).rows
        if len(found) > 1:
            raise ValueError(f"{len(found)} rows have {fields}")
        return found[0] if found else None

    def distinct(self, name: str) -> list:
        """Values of a field in order of first use."""
        return list(dict.fromkeys(getattr(row, name) for row in self.rows))

    @cached_property
    def first(self) -> "Rows":
        """Those of task seed 0 and the quick budget: what the board shows."""
        return self.where(task_seed=0, budget="quick")

    @cached_property
    def names(self) -> dict[str, set[str]]:
        """Names of rows, and of what they are made from, by board."""
        found: dict[str, set[str]] = {}
        for row in self.rows:
            found.setdefault(row.board, set()).update({row.name, row.of} - {""})
        return found

    def __iter__(self):
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __add__(self, other: "Rows") -> "Rows":
        return Rows(self.rows + other.rows)


def key(row: Row) -> tuple:
    """What makes two rows the same measurement."""
    return (row.board, row.group, row.name, row.axis, row.of, row.task_seed, row.budget, row.seed, row.step)


def write(rows: Iterable[Row], path: Path) -> None:
    """Rows as a parquet file, sorted, at once or not at all; the same rows give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kept = sorted({key(row): row for row in rows}.values(), key=key)
    columns = {name: pa.array([getattr(r, name) for r in kept], pa.string()) for name in _KEYS}
    columns |= {name: pa.array([getattr(r, name) for r in kept], pa.int64()) for name in _INTEGERS}
    columns |= {name: pa.array([getattr(r, name) for r in kept], pa.float64()) for name in _NUMBERS}
    draws = [None if r.draws is None else np.asarray(r.draws, np.float32) for r in kept]
    columns["draws"] = pa.array(draws, pa.list_(pa.float32()))
    buffer = io.BytesIO()
    table = pa.table({name: columns[name] for name in sorted(columns)})
    pq.write_table(table, buffer, compression="zstd", compression_level=12, write_statistics=False)
    write_all({path: buffer.getvalue()}, path.parent)


def read(path: Path) -> Rows:
    """Rows of a parquet file; none where there is no file.

    Raises:
        ResultError: if it is not such a file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        return Rows(())
    try:
        table = pq.read_table(path).to_pylist()
        return Rows(tuple(_row(entry) for entry in table))
    except (OSError, KeyError, TypeError, pa.ArrowException) as error:
        raise ResultError(
            f"{str(path)!r} is not a table of the audit: {error}. Measure it again with `make audit`."
        ) from error


def _row(entry: dict) -> Row:
    draws = entry.pop("draws")
    return Row(**entry, draws=None if draws is None else np.asarray(draws, np.float32))
