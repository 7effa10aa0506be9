"""The list of axes. Terminal, page, CSV, figures, regression gate and measuring side read it.

To add one: a module here that scores, one of the same name in `saebench/axes/` that measures, and a
line below.
"""

from collections.abc import Callable
from typing import NamedTuple

from saebench.scoring import (
    approximation,
    control,
    disentangle,
    interpretability,
    occlusion,
    oversplitting,
    recovery,
)
from saebench.scoring.base import Context, Direction, Entry, Headline

Scorer = Callable[[Context], tuple[Headline | None, list[Entry]]]
"""Headline and scores from outcomes; a further axis has no headline where it was not measured."""


class Axis(NamedTuple):
    """One thing that dictionaries are scored on."""

    name: str
    """What it is called in results, in options, and as a module."""
    title: str
    """What people read."""
    score: Scorer
    direction: Direction = "higher"
    """Of the normalised headline."""
    further: bool = False
    """Measured only on tasks that bring what it needs; not one of the columns of every table."""
    heads: str = ""
    """The axis whose headline a further axis replaces where it was measured."""

    @property
    def heading(self) -> str:
        """The title at the top of a column or panel."""
        return self.title[:1].upper() + self.title[1:]


_LIST = (
    Axis("approximation", "approximation", approximation.score),
    Axis("control", "control", control.score),
    Axis("disentangle", "cause and isolate", disentangle.score, further=True, heads="control"),
    Axis("interpretability", "interpretability", interpretability.score),
    Axis("occlusion", "occlusion", occlusion.score),
    Axis("oversplitting", "over-splitting", oversplitting.score),
    Axis("recovery", "recovery of true features", recovery.score, further=True),
)
EVERY = {axis.name: axis for axis in _LIST}
AXES = {axis.name: axis for axis in _LIST if not axis.further}
"""The axes that every dictionary has on every task: columns of all tables."""
