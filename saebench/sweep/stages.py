"""Sweeps that go on by what came of them so far: a rule says what is scored next, at which budget."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from saebench.errors import OptionError, unknown
from saebench.evaluation.contestants import SAE
from saebench.evaluation.units import Group, Keeper, Unit
from saebench.records import store
from saebench.records.files import write_text
from saebench.records.provenance import identity
from saebench.records.store import Finished, Stored
from saebench.scoring.axes import AXES
from saebench.sweep.plan import result_id

SCHEMA = "saebench.stages/1"


class Found(NamedTuple):
    """A unit that was scored, with its result."""

    unit: Unit
    stored: Stored


class Rule(ABC):
    """Which units are scored, stage by stage."""

    name = ""
    """What its document is called."""

    @abstractmethod
    def first(self, units: Sequence[Unit]) -> list[Unit]:
        """The first stage of a sweep over these units."""

    def next(self, found: Sequence[Found]) -> list[Unit]:
        """The next stage, after what was found in the one before; none ends the sweep."""
        return []

    def heading(self) -> str:
        """What the stage to come is; empty where there is one."""
        return ""

    def lines(self) -> Iterator[str]:
        """What was decided in the stage just over, for people."""
        yield from ()

    def document(self) -> dict[str, Any]:
        """What was decided in all, to be kept beside the results."""
        return {}


class Once(Rule):
    """Everything at the budget that was asked for."""

    def first(self, units: Sequence[Unit]) -> list[Unit]:
        return list(units)


def found(units: Iterable[Unit], keeper: Keeper) -> list[Found]:
    """Those of some units that have a result by now."""
    stores: dict[Path, Finished] = {}
    pairs = []
    for unit in units:
        if unit.out not in stores:
            stores[unit.out] = Finished(unit.out)
        id = result_id(unit, keeper)
        path = stores[unit.out].path(id) if id else None
        if path is not None:
            pairs.append(Found(unit, store.load(path)))
    return pairs


def by_group(units: Iterable[Unit]) -> dict[Group, list[Unit]]:
    """Units by what they share, in their order."""
    groups: dict[Group, list[Unit]] = {}
    for unit in units:
        groups.setdefault(unit.group, []).append(unit)
    return groups


def competes(unit: Unit) -> bool:
    """Whether it is an SAE's, not a control's."""
    return isinstance(unit.contestant, SAE)


def at(unit: Unit, **options: Any) -> Unit:
    """The same unit with other options: a budget, a seed."""
    group = unit.group
    return replace(unit, group=group._replace(options=replace(group.options, **options)))


def where(group: Group) -> dict[str, Any]:
    """A group in the document."""
    return {"model": group.model, "task": group.task, "site": str(group.site), "seed": group.options.seed}


class Said(NamedTuple):
    """A number and axes as they are typed: `0.02`, `0.02:control`, `5:control,approximation`."""

    number: float
    axes: tuple[str, ...]

    @classmethod
    def of(cls, option: str, text: str) -> "Said":
        """Reads it.

        Raises:
            OptionError: for a number that is none, or unknown axes.
        """
        number, _, names = text.partition(":")
        axes = tuple(name.strip() for name in names.split(",") if name.strip())
        for name in axes:
            if name not in AXES:
                raise OptionError(f"{option} {text}: {unknown('axis', name, list(AXES))}")
        try:
            value = float(number)
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            raise OptionError(
                f"Cannot read {option} {text!r}. Expected a number, and axes behind a colon where not all are"
                " meant: 0.05:control."
            )
        return cls(value, axes)


def keep_document(rule: Rule, units: Sequence[Unit], out: Path) -> None:
    """Writes what a rule decided beside the results, `<rule>--<id8>.json`; the same sweep writes it anew.

    Raises:
        StoreError: if it cannot be written.
    """
    document = rule.document()
    if document:
        asked = [[str(unit.group), unit.group.options.budget, unit.name] for unit in units]
        id = identity(units=asked, **{name: value for name, value in document.items() if name != "groups"})
        write_text(out / f"{rule.name}--{id[:8]}.json", json.dumps(document, indent=1) + "\n")


def documents(out: Path, rule: str) -> Iterator[dict[str, Any]]:
    """What a rule decided of results below a directory; files that are something else are passed over."""
    for path in sorted(out.glob(f"{rule}--*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(document, dict) and document.get("schema") == SCHEMA:
            yield document
