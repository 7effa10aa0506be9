"""The list of axes. Terminal, page, CSV, figures, regression gate and measuring side read it.

To add one: a module here that scores, one of the same name in `saebench/axes/` that measures, and a
line below.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from saebench.scoring import (
    approximation,
    control,
    disentangle,
    interpretability,
    joint,
    occlusion,
    oversplitting,
    recovery,
    subspaces,
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
    version: int
    """Raised whenever its numbers may move; part of a result's id."""
    direction: Direction = "higher"
    """Of the normalised headline."""
    further: bool = False
    """Measured only on tasks that bring what it needs; not one of the columns of every table."""
    per_site: bool = False
    """Read off one site: of several that are edited together it is the mean over them."""
    asked_for: str = ""
    """The option that says whether a further axis is measured, on tasks that can: it moves no headline."""
    heads: str = ""
    """The axis whose headline a further axis replaces where it was measured."""
    reads: tuple[str, ...] = ()
    """Axes whose outcomes it is scored from too: they are measured with it."""
    settings: Mapping[str, object] = {}
    """What its numbers depend on besides; parts of a result's id, by name."""

    @property
    def heading(self) -> str:
        """The title at the top of a column or panel."""
        return self.title[:1].upper() + self.title[1:]


_LIST = (
    Axis("approximation", "approximation", approximation.score, 2),
    Axis("control", "control", control.score, 3),
    Axis(
        "disentangle",
        "cause and isolate",
        disentangle.score,
        version=4,
        further=True,
        heads="control",
        settings={"learned": {"version": 4, **disentangle.LEARNED}},
    ),
    Axis("interpretability", "interpretability", interpretability.score, 4, per_site=True),
    Axis("occlusion", "occlusion", occlusion.score, 3, per_site=True, reads=("interpretability",)),
    Axis(
        "oversplitting", "over-splitting", oversplitting.score, 4, per_site=True, reads=("interpretability",)
    ),
    Axis("recovery", "recovery of true features", recovery.score, 2, further=True),
    Axis("subspaces", "recovery of planted subspaces", subspaces.score, 2, further=True),
    Axis("joint", "joint edits", joint.score, 1, further=True, asked_for="joint_edits"),
)
EVERY = {axis.name: axis for axis in _LIST}
AXES = {axis.name: axis for axis in _LIST if not axis.further}
"""The axes that every dictionary has on every task: columns of all tables."""


def axes_with(further: Sequence[str]) -> dict[str, Axis]:
    """The axes of every task and those named, in the order of the list."""
    return {name: axis for name, axis in EVERY.items() if name in AXES or name in further}


def asked_for(options: object) -> tuple[str, ...]:
    """Axes that some options ask for."""
    return tuple(a.name for a in EVERY.values() if a.asked_for and getattr(options, a.asked_for))


def of_headlines(versions: Mapping[str, int]) -> dict[str, int]:
    """Versions of the axes that results need to share to be compared: what was asked for besides moves no headline."""
    return {name: v for name, v in versions.items() if name not in EVERY or not EVERY[name].asked_for}


def with_what_they_read(names: Collection[str]) -> set[str]:
    """The axes named and those whose outcomes they are scored from."""
    return {*names, *(read for name in names for read in EVERY[name].reads)}


def versions(further: Sequence[str]) -> dict[str, int]:
    """Versions of the axes that are measured where a task brings `further` ones, which come last."""
    return {name: EVERY[name].version for name in (*AXES, *further)}
