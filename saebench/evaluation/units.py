"""Units of work: one contestant at one site under one seed. A worker keeps what units of a group share."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from saebench.errors import SaebenchError
from saebench.evaluation.arena import Arena, Scored
from saebench.evaluation.contestants import SAE, Contestant, control, every_control
from saebench.evaluation.controls import Sized
from saebench.evaluation.naming import only_task
from saebench.evaluation.options import Options
from saebench.evaluation.sources import Source, source_of
from saebench.records.result import Result
from saebench.records.table import table_bytes
from saebench.site import Site


class Group(NamedTuple):
    """What units share: the model, the prompts of a task and a seed, the bench of a site."""

    model: str
    """Empty where the task generates its data."""
    task: str
    """As it was asked for: a name, or the path of a folder."""
    site: Site
    options: Options

    def __str__(self) -> str:
        on = f" on {self.model}" if self.model else ""
        return f"{self.task}{on} at {self.site}, seed {self.options.seed}"


@dataclass(frozen=True)
class Unit:
    """What becomes one result; it travels to other processes and machines."""

    group: Group
    contestant: Contestant | None
    """None for the controls of the site, which follow from the L0s of its SAEs."""
    saes: tuple[Contestant, ...] = ()
    """All that is scored at the site, where this unit is its controls."""
    out: Path = Path("saebench-results")
    """Where results stand. A worker that sees it looks there for a digest that only the site tells; it
    never writes."""
    force: bool = False

    @property
    def name(self) -> str:
        return self.contestant.name if self.contestant else "control:all"

    def by(self, contestant: Contestant) -> "Unit":
        """The same for a contestant of its own."""
        return replace(self, contestant=contestant, saes=())


class Done(NamedTuple):
    """What became of a unit: a result, an error, or further units."""

    unit: Unit
    result: Result | None = None
    table: bytes | None = None
    """The outcomes as they are stored; None where the result was there already."""
    error: Exception | None = None
    more: tuple[Unit, ...] = ()
    seconds: float = 0.0
    """What the unit took, without what its group shares."""
    shared_seconds: float = 0.0
    """What it took to make what its group shares, if this unit was the first."""


class Keeper:
    """Arenas of what was asked for so far; one model is in memory at a time, and the benches of one arena."""

    def __init__(self, tick: Callable[[str], None] = lambda _: None) -> None:
        self.tick = tick
        self._sources: dict[tuple[object, ...], Source] = {}
        self._arenas: dict[tuple[str, str, Options], Arena] = {}
        self._refused: dict[Group, SaebenchError] = {}

    def arena(self, group: Group) -> Arena:
        """The task and model of a group; nothing is loaded yet.

        Raises:
            SaebenchError: if there is no such task or model.
        """
        return self.arena_of(group.model, group.task, group.options)

    def arena_of(self, model: str, task: str, options: Options) -> Arena:
        key = (model, task, options)
        if key not in self._arenas:
            found = only_task(task, options)
            place = (task if found.spec.generates else model, options.device, options.dtype, options.memory)
            if place not in self._sources:
                self._sources[place] = source_of(found, model, options)
            self._arenas[key] = Arena(found, self._sources[place], options, self._say, keep=1)
        return self._arenas[key]

    def enter(self, group: Group) -> Arena:
        """The arena of a group whose units come now; what other groups kept in memory is let go."""
        arena = self.arena(group)
        self.clear(arena)
        return arena

    def clear(self, but: Arena | None = None) -> None:
        """Lets models and benches go, but for those of one arena."""
        for arena in self._arenas.values():
            if arena is not but:
                arena.forget()
        for source in self._sources.values():
            if but is None or source is not but.source:
                source.forget()

    def make_bench(self, group: Group) -> float:
        """Makes what the units of a group share, if it is not there; returns the seconds.

        Raises:
            SaebenchError: the same again, without a second attempt, where it could not be made.
        """
        if group in self._refused:
            raise self._refused[group]
        started = time.perf_counter()
        try:
            self.arena(group).bench(group.site)
        except SaebenchError as error:
            self._refused[group] = error
            raise
        return time.perf_counter() - started

    def _say(self, what: str) -> None:
        self.tick(what)


def perform(unit: Unit, keeper: Keeper) -> Done:
    """Scores a unit, or lists the controls that it stands for.

    Raises:
        SaebenchError: if it cannot be scored.
    """
    arena, site = keeper.enter(unit.group), unit.group.site
    if unit.contestant is None:
        return Done(unit, more=controls(unit, arena))
    reused = arena.reused(unit.contestant, site, None if unit.force else unit.out)
    if reused is not None:
        return Done(unit, reused)
    shared, started = keeper.make_bench(unit.group), time.perf_counter()
    made = arena.made(unit.contestant, site, None if unit.force else unit.out)
    if isinstance(made, Scored):
        spent = time.perf_counter() - started
        table = table_bytes(made.outcomes, made.result.id)
        return Done(unit, made.result, table, seconds=spent, shared_seconds=shared)
    return Done(unit, made)


def controls(unit: Unit, arena: Arena) -> tuple[Unit, ...]:
    """The controls of a site as units, their L0s measured from the SAEs at this very site."""
    site = unit.group.site
    saes = {c.info.source: c for c in unit.saes if isinstance(c, SAE) and not arena.refuses(c)}
    sizes = [Sized(source, arena.sample_l0(sae, site), sae.d_sae) for source, sae in saes.items()]
    found = [*every_control(sizes, saes), *map(control, arena.task.spec.own_controls)]
    return tuple(unit.by(one) for one in found)
