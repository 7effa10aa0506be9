"""Per-prompt outcomes: what the model did, before any averaging.

Axes measure outcomes with torch; `scoring` turns them into scores with numpy alone. A stored table
of outcomes is therefore enough to score again, to compare two results prompt by prompt, and to rank
a leaderboard, without a model.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

LATENTS = "latent"
ACTIVE = "active"
"""Of its latents, those that are on somewhere in the task."""
OWN = (LATENTS, ACTIVE)
"""Splits whose rows are the dictionary's own latents, not prompts: no two dictionaries share them."""


class Key(NamedTuple):
    """Names one column of outcomes."""

    axis: str
    score: str
    attribute: str = ""
    edit: str = ""
    k: int = -1
    label: str = ""
    """The attribute's value that the column is about, where it is about one."""
    split: str = "test"


class AttributeFacts(NamedTuple):
    """What scoring needs to know of an attribute."""

    values: tuple[str, ...]
    parent: str | None = None
    on_off: bool = False


@dataclass
class Outcomes:
    """Columns `[n]` over the prompts of `test` (and of `select`, where choices were made).

    `facts` are numbers without a per-prompt form (an atom's norm, a count of latents).
    """

    cluster: Mapping[str, Int[np.ndarray, "_"]]
    attributes: Mapping[str, AttributeFacts] = field(default_factory=dict)
    columns: dict[Key, Float[np.ndarray, "_"]] = field(default_factory=dict)
    facts: dict[Key, float] = field(default_factory=dict)
    units: Mapping[str, Int[np.ndarray, "_ n_ways"]] = field(default_factory=dict)
    """What recurs across a split's clusters, where something does (docs/methods.md §2)."""
    template: Mapping[str, Int[np.ndarray, "_"]] = field(default_factory=dict)
    """Phrasing of every prompt, where the task has several; a number among `templates`."""
    templates: tuple[str, ...] = ()
    headlines: Mapping[str, Float[np.ndarray, "_"]] = field(default_factory=dict)
    """Resampled headlines by axis, normalised, for ranks: the same prompts give paired draws."""
    parts: Mapping[str, "Outcomes"] = field(default_factory=dict)
    """Of several sites that are edited together: what was measured at each by itself, by site."""

    def like(self) -> "Outcomes":
        """An empty table over the same prompts."""
        return Outcomes(
            self.cluster, self.attributes, units=self.units, template=self.template, templates=self.templates
        )

    def add(self, key: Key, values: Any) -> None:
        """Stores a column as float32; a torch tensor is taken as it is."""
        array = np.asarray(values.cpu() if hasattr(values, "cpu") else values)
        array = np.ascontiguousarray(array, dtype=np.float32)
        if array.shape != self.cluster[key.split].shape:
            raise ValueError(f"{key} has shape {array.shape}, its split {self.cluster[key.split].shape}")
        self.columns[key] = array

    def n_units(self, split: str = "test") -> int:
        """Independent units behind a split, of the way that has fewest."""
        ways = self.units.get(split, self.cluster[split][:, None])
        return min(len(np.unique(way)) for way in ways.T)

    def __getitem__(self, key: Key) -> Float[np.ndarray, "n"]:
        return self.columns[key]

    def __contains__(self, key: Key) -> bool:
        return key in self.columns

    def find(self, axis: str, score: str, **fields: object) -> Iterator[Key]:
        """Keys of an axis and score whose other fields equal those given, in insertion order."""
        for key in self.columns:
            # most differ in these two; a table is searched more than a thousand times
            alike = key.score == score and key.axis == axis
            if alike and all(getattr(key, name) == value for name, value in fields.items()):
                yield key

    def matrix(self, keys: Iterable[Key]) -> Float[np.ndarray, "n m"]:
        """Columns side by side."""
        return np.stack([self.columns[key] for key in keys], axis=1)

    def merge(self, other: "Outcomes") -> None:
        """Takes over the other's columns and facts."""
        self.columns.update(other.columns)
        self.facts.update(other.facts)
