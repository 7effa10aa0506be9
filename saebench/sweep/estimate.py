"""What a plan will take: time by group, disk, memory, from what such units took before."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from saebench.evaluation import costs
from saebench.evaluation.costs import Rate
from saebench.evaluation.units import Group, Keeper
from saebench.reporting.widths import in_words
from saebench.spec import BUDGETS
from saebench.sweep.plan import Plan
from saebench.sweep.run import spoken


class Line(NamedTuple):
    """A group of a plan."""

    group: Group
    units: int
    rate: Rate | None
    """None where nothing like it was scored on this machine."""

    @property
    def seconds(self) -> float:
        return self.rate.shared + self.units * self.rate.unit if self.rate else 0.0


def lines(plan: Plan, keeper: Keeper) -> list[Line]:
    return [Line(group, n, costs.rate(keeper.arena(group))) for group, n in plan.groups().items()]


def text(plan: Plan, keeper: Keeper, workers: int = 1) -> Iterator[str]:
    """The plan in lines for people."""
    yield (
        f"{plan.units} units: {len(plan.finished)} finished, {len(plan.failed)} failed before"
        f"{' (--retry-failed tries them again)' if plan.failed else ''}, {len(plan.todo)} to do"
    )
    for _, refused in plan.refused:
        yield f"cannot be scored: {refused.name}: {refused.error}"
    found = lines(plan, keeper)
    for line in found:
        takes = f"about {spoken(line.seconds)}" if line.rate else "not measured yet"
        yield f"  {line.units:5} × {line.group}: {takes}"
    yield from dict.fromkeys(text for line in found for text in _widths(line.group, keeper))
    if any(unit.contestant is None for unit in plan.todo):
        yield "  a table's controls count as one: which they are follows from L0s that are not measured yet"
    known = [line for line in found if line.rate]
    if known:
        yield from _totals(known, len(known) == len(found), workers)
    elif found:
        yield "No such unit was scored on this machine yet: score one, and the plan says how long the rest takes."


def _widths(group: Group, keeper: Keeper) -> Iterator[str]:
    """How wide intervals were at budgets that were scored before on the group's task and model."""
    for budget in dict.fromkeys((*BUDGETS, group.options.budget)):
        options = replace(group.options, budget=budget)
        known = costs.rate(keeper.arena(group._replace(options=options)))
        if known and known.widths:
            on = f" on {group.model}" if group.model else ""
            yield f"  intervals of {group.task}{on} at {budget}: {in_words(dict(known.widths))} wide"


def _totals(known: list[Line], all_known: bool, workers: int) -> Iterator[str]:
    seconds = sum(line.seconds for line in known)
    # the last worker to be done has at least the longest group's bench and one unit to do
    longest = max(line.rate.shared + line.rate.unit for line in known if line.rate)
    disk = sum(line.units * line.rate.bytes for line in known if line.rate)
    memory = max(line.rate.memory_mb for line in known if line.rate)
    least = "" if all_known else "at least "
    with_workers = max(seconds / workers, longest)
    beside = f" with {workers} workers" if workers > 1 else ""
    yield (
        f"Time {least}{spoken(with_workers)}{beside}, disk {least}{math.ceil(disk / 2**20)} MB,"
        f" memory {math.ceil(workers * memory):,} MB"
    )
