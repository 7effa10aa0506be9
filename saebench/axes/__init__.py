"""Measures per-prompt outcomes of dictionaries, axis by axis; `saebench.scoring` makes scores of them."""

from collections.abc import Collection
from importlib import import_module

from saebench.axes.base import Measure
from saebench.scoring.axes import EVERY, with_what_they_read

__all__ = ["MEASURES", "Measure", "select_axes"]

MEASURES: dict[str, Measure] = {name: import_module(f"saebench.axes.{name}").MEASURE for name in EVERY}
"""The measuring half of every axis in `scoring.axes`: `MEASURE` of the module of its name."""


def select_axes(names: Collection[str]) -> dict[str, Measure]:
    """The axes named, with those that they are scored from too, in the order of the list."""
    chosen = with_what_they_read(names)
    return {name: measure for name, measure in MEASURES.items() if name in chosen}
