"""What a sweep has to do: its units, those that are finished or failed before, and what cannot be one."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from saebench.errors import SaebenchError
from saebench.evaluation.batch import Refused, plan
from saebench.evaluation.options import Request
from saebench.evaluation.units import Group, Keeper, Unit, controls
from saebench.records import failures
from saebench.records.failures import Failure
from saebench.records.store import Finished


@dataclass
class Plan:
    """Units in the order in which they are worked off; groups stand together."""

    todo: list[Unit] = field(default_factory=list)
    finished: list[Unit] = field(default_factory=list)
    failed: list[tuple[Unit, Failure]] = field(default_factory=list)
    """Failed before, and not tried again unless that is asked for."""
    refused: list[tuple[Request, Refused]] = field(default_factory=list)
    every: list[Unit] = field(default_factory=list)
    """All units, finished, failed or to do."""

    @property
    def units(self) -> int:
        """How many there are, where a table's controls count as one until they are known."""
        return len(self.every)

    def groups(self) -> dict[Group, int]:
        """Units to do by group."""
        return dict(Counter(unit.group for unit in self.todo))


def make(requests: Sequence[Request], keeper: Keeper, retry: bool = False) -> Plan:
    """The plan of some requests; ids tell what is finished. `retry` tries again what failed."""
    units, refused = [], []
    for request in requests:
        for each in _units(request, keeper):
            if isinstance(each, Unit):
                units.append(each)
            else:
                refused.append((request, each))
    plan = sort(units, keeper, retry)
    plan.refused = refused
    return plan


def sort(units: Iterable[Unit], keeper: Keeper, retry: bool = False) -> Plan:
    """The plan of some units."""
    found, once, stores = Plan(), dict[str, Unit](), dict[Path, _Before]()
    for unit in units:
        # the same unit asked for by two parts is done once
        once.setdefault(key(unit, keeper), unit)
    order: dict[Group, list[Unit]] = {}
    for unit in once.values():
        order.setdefault(unit.group, []).append(unit)
    for unit in (unit for group in order.values() for unit in group):
        if unit.out not in stores:
            stores[unit.out] = _Before(unit.out)
        stores[unit.out].sort(unit, keeper, found, retry)
        found.every.append(unit)
    return found


def _units(request: Request, keeper: Keeper) -> Iterator[Unit | Refused]:
    """Units of a request; controls that are known already each are one."""
    try:
        for each in plan(request, keeper):
            known = _known_controls(each, keeper) if isinstance(each, Unit) else None
            yield from [each] if known is None else known
    except SaebenchError as error:
        # an unknown task or model: the other parts are another matter
        yield Refused(" ".join(request.tasks) or request.model, error)


def _known_controls(unit: Unit, keeper: Keeper) -> Sequence[Unit] | None:
    """The controls that a unit stands for, if that takes no activations."""
    if unit.contestant is not None:
        return None
    arena = keeper.arena(unit.group)
    saes = [c for c in unit.saes if c.d_sae is not None and not arena.refuses(c)]
    if any(arena.known_l0(sae, unit.group.site) is None for sae in saes):
        return None
    try:
        return controls(unit, arena)
    except SaebenchError:
        # its worker says what is wrong
        return None


def result_id(unit: Unit, keeper: Keeper) -> str | None:
    """The id of the unit's result; None where its digest depends on activations."""
    digest = unit.contestant.sha256 if unit.contestant else None
    return keeper.arena(unit.group).id(digest, unit.group.site) if digest else None


def key(unit: Unit, keeper: Keeper) -> str:
    """What tells units apart: the id of the result, else who is scored where."""
    return result_id(unit, keeper) or unread_key(unit)


def unread_key(unit: Unit) -> str:
    """The key of a unit whose result has no id yet."""
    group = unit.group
    return failures.failure_id(
        name=unit.name,
        model=group.model,
        task=group.task,
        site=str(group.site),
        budget=group.options.budget,
        seed=group.options.seed,
        beside=sorted(one.name for one in unit.saes),
    )


class _Before:
    """What a results directory already has."""

    def __init__(self, out: Path) -> None:
        self.finished, self.failures = Finished(out), failures.read(out)

    def sort(self, unit: Unit, keeper: Keeper, found: Plan, retry: bool) -> None:
        """Puts a unit where it belongs."""
        id = result_id(unit, keeper)
        failure = self.failures.get(id or unread_key(unit))
        if not unit.force and id and self.finished.path(id):
            found.finished.append(unit)
        elif failure is not None and not (retry or unit.force):
            found.failed.append((unit, failure))
        else:
            found.todo.append(unit)
