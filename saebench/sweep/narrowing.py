"""`--until-ci`: as many prompts as it takes for intervals of a given width.

Two stages: a pilot on prompts of its own gives the spread, and from it follows the number of prompts of
the sweep itself, once. Nothing that is reported was looked at when that was settled, so its intervals are
those of a number fixed beforehand.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from saebench.errors import OptionError
from saebench.evaluation.units import Group, Keeper, Unit
from saebench.records.result import Result
from saebench.records.store import Stored
from saebench.scoring.axes import AXES
from saebench.scoring.stopping import units_for
from saebench.sweep.stages import SCHEMA, Found, Rule, Said, at, by_group, competes, where

APART = 1_000_000
"""Added to the seed for the pilot's prompts, which are no part of the sweep's."""
FOLDER = "pilot"
"""Where the pilot's results stand, below those of the sweep."""
GRAIN = 20
"""Budgets are rounded up to multiples of 1/20 of quick."""


class Widest(NamedTuple):
    """The headline with the widest interval among some results."""

    width: float
    axis: str
    name: str

    @property
    def text(self) -> str:
        return f"{self.width:.3f} ({self.axis} of {self.name})"


class Narrowing(NamedTuple):
    """A group's way to its number of prompts."""

    group: Group
    pilot: Widest | None
    """None where no headline of the pilot is defined: it says nothing."""
    budget: str
    reached: Widest | None = None

    def line(self, wanted: float) -> str:
        begun = f"{self.group}: {'nothing defined' if self.pilot is None else self.pilot.text} in the pilot"
        if self.reached is None:
            return f"{begun}, so budget {self.budget}"
        short = "" if self.reached.width <= wanted else f"; {wanted:g} was asked for"
        if short and self.budget == "full":
            short += ", and there are no more prompts"
        return f"{self.group}: {self.reached.text} at budget {self.budget}{short}"


class UntilNarrow(Rule):
    """One budget for each group, at which the headlines of its SAEs have intervals of at most `width`."""

    name = "until-ci"

    def __init__(self, text: str, keeper: Keeper) -> None:
        self.width, axes = Said.of("--until-ci", text)
        self.axes = axes or tuple(AXES)
        self._keeper, self._units = keeper, list[Unit]()
        self._groups: dict[Group, Narrowing] = {}

    def first(self, units: Sequence[Unit]) -> list[Unit]:
        """The pilot.

        Raises:
            OptionError: if it would be `tiny`, from which nothing follows.
        """
        if any(unit.group.options.budget == "tiny" for unit in units):
            raise OptionError(
                "--until-ci --budget tiny: a pilot of so few prompts does not tell the spread. Expected quick, which is"
                " the default, or more: it is the least budget."
            )
        self._units = list(units)
        pilot = [_pilot(unit) for group in by_group(units).values() for unit in _judged(group)]
        if not pilot:
            raise OptionError(
                "--until-ci needs intervals to look at: name SAEs or single controls beside control:all."
            )
        return pilot

    def next(self, found: Sequence[Found]) -> list[Unit]:
        if self._groups:
            self._reach(found)
            return []
        pilots: dict[Group, list[Stored]] = {}
        for unit, stored in found:
            pilots.setdefault(unit.group, []).append(stored)
        units = []
        for group, members in by_group(self._units).items():
            narrowing = self._plan(group, pilots.get(_pilot(members[0]).group, []))
            here = [at(unit, budget=narrowing.budget) for unit in members]
            self._groups[here[0].group] = narrowing
            units += here
        return units

    def _plan(self, group: Group, pilot: Sequence[Stored]) -> Narrowing:
        least = group.options.budget
        widest = self._widest([stored.result for stored in pilot])
        if widest is None:
            return Narrowing(group, None, least)
        units = pilot[0].outcomes.n_units("test")
        return Narrowing(
            group, widest, self._budget(group, least, units_for(widest.width, self.width, units) / units)
        )

    def _budget(self, group: Group, least: str, more: float) -> str:
        """That with so many times the units of `least`, or the next larger one that there is."""
        from saebench.kinds import KINDS

        sizes = KINDS[self._keeper.arena(group).task.spec.kind].sizes
        if more <= 1 or least == "full":
            return least
        if sizes is None:
            return "full"
        times = math.ceil(GRAIN * more * sizes.times(least)) / GRAIN
        return f"{times:g}x" if times <= sizes.times("standard") else "full"

    def _widest(self, results: Sequence[Result]) -> Widest | None:
        found = [
            Widest(ci[1] - ci[0], axis, result.dictionary.name)
            for result in results
            for axis in self.axes
            if (ci := result.axes[axis].ci) is not None
        ]
        return max(found, default=None)

    def _reach(self, found: Sequence[Found]) -> None:
        for group in self._groups:
            mine = [f for f in found if f.unit.group == group]
            judged = {id(unit) for unit in _judged([f.unit for f in mine])}
            results = [f.stored.result for f in mine if id(f.unit) in judged]
            self._groups[group] = self._groups[group]._replace(reached=self._widest(results))

    def heading(self) -> str:
        return "The sweep:" if self._groups else "A pilot, on prompts of its own:"

    def lines(self) -> Iterator[str]:
        yield f"Intervals of at most {self.width:g} of {', '.join(AXES[a].title for a in self.axes)}; the widest:"
        for narrowing in self._groups.values():
            yield f"  {narrowing.line(self.width)}"

    def document(self) -> dict[str, Any]:
        groups = [
            {
                **where(narrowing.group),
                "budget": narrowing.budget,
                "pilot": narrowing.pilot and narrowing.pilot._asdict(),
                "reached": narrowing.reached and narrowing.reached._asdict(),
            }
            for narrowing in self._groups.values()
        ]
        return {"schema": SCHEMA, "rule": self.name, "width": self.width, "axes": self.axes, "groups": groups}


def _judged(units: Sequence[Unit]) -> list[Unit]:
    """Whose intervals count: SAEs, or controls where there are none."""
    saes = [unit for unit in units if competes(unit)]
    return saes or [unit for unit in units if unit.contestant is not None]


def _pilot(unit: Unit) -> Unit:
    """The unit on the pilot's prompts."""
    return replace(at(unit, seed=unit.group.options.seed + APART), out=unit.out / FOLDER)
