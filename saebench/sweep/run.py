"""Works a plan off: results and failures are written as they come."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from saebench.errors import StoreError
from saebench.evaluation import costs
from saebench.evaluation.batch import Refused, kept
from saebench.evaluation.drive import Pool, drive
from saebench.evaluation.options import Request
from saebench.evaluation.units import Done, Keeper, Unit
from saebench.records import failures, provenance
from saebench.records.failures import FailedDictionary, Failure, Named
from saebench.records.result import Result
from saebench.sweep.plan import Plan, result_id, unread_key
from saebench.sweep.worker import portable


class Step(NamedTuple):
    """One thing that came of a sweep."""

    result: Result | None
    failure: Failure | None
    unit: Unit | None
    """None for what was no unit, or failed in an earlier run."""
    more: int = 0
    """Units that the plan did not know of yet."""
    seconds: float = 0.0


def work(
    plan: Plan, pool: Pool, keeper: Keeper, begin: Callable[[Unit], None] = lambda _: None
) -> Iterator[Step]:
    """Yields every result and every failure, written; those that failed before come too."""
    for request, refused in plan.refused:
        failure = _of_refused(request, refused)
        _save(failure, request.out)
        yield Step(None, failure, None)
    for _, failure in plan.failed:
        yield Step(None, failure, None)
    for done in drive(plan.todo, pool, begin):
        unit = done.unit
        if done.error is None and done.result is None:
            yield Step(None, None, unit, len(done.more) - 1)
            continue
        yield _settled(done, keeper)


def _settled(done: Done, keeper: Keeper) -> Step:
    """Writes what became of a unit."""
    unit, error = done.unit, done.error
    if error is None:
        try:
            result = kept(done, unit.out)
        except StoreError as trouble:
            error = trouble
        else:
            for id in (result.id, unread_key(unit)):
                failures.forget(id, unit.out)
            costs.note(done, keeper.arena(unit.group))
            return Step(result, None, unit, seconds=done.seconds + done.shared_seconds)
    failure = _of_unit(unit, error, keeper)
    _save(failure, unit.out)
    return Step(None, failure, unit)


def _save(failure: Failure, out: Path) -> None:
    try:
        failures.save(failure, out)
    except StoreError:
        # where nothing can be written, the list at the end still says it
        return


def _of_unit(unit: Unit, error: Exception, keeper: Keeper) -> Failure:
    told, contestant, arena = portable(error), unit.contestant, keeper.arena(unit.group)
    notes = getattr(told, "__notes__", None)
    return Failure(
        id=result_id(unit, keeper) or unread_key(unit),
        error=type(told).__name__,
        reason=str(told),
        traceback=notes[0] if notes else None,
        dictionary=FailedDictionary(
            name=unit.name,
            source=getattr(getattr(contestant, "info", None), "source", unit.name),
            sha256=contestant.sha256 if contestant else None,
        ),
        model=Named(name=arena.source.name),
        task=Named(name=arena.task.name),
        site=str(unit.group.site),
        budget=unit.group.options.budget,
        seed=unit.group.options.seed,
        created=provenance.now(),
        saebench=provenance.version(),
        command=provenance.command(),
    )


def _of_refused(request: Request, refused: Refused) -> Failure:
    seed = (request.seeds or (request.options.seed,))[0]
    where = {"model": request.model, "task": refused.task, "site": request.site or "", "seed": seed}
    return Failure(
        id=failures.failure_id(name=refused.name, budget=request.options.budget, **where),
        error=type(refused.error).__name__,
        reason=str(refused.error),
        dictionary=FailedDictionary(name=refused.name, source=refused.name),
        model=Named(name=request.model),
        task=Named(name=refused.task),
        site=request.site or "",
        budget=request.options.budget,
        seed=seed,
        created=provenance.now(),
        saebench=provenance.version(),
        command=provenance.command(),
    )


class Clock:
    """How much longer it takes: what units took so far, times those left, over the workers."""

    def __init__(self, total: int, workers: int) -> None:
        self.total, self.workers, self.done = total, workers, 0
        self._started = time.monotonic()

    def step(self, more: int = 0) -> str:
        """Counts a unit; returns the time left in words."""
        self.total += more
        self.done += 1
        left = self.total - self.done
        return f"{spoken((time.monotonic() - self._started) / self.done * left)} left" if left > 0 else "done"


def spoken(seconds: float) -> str:
    """A span of time as people say it."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (unit != "d" and seconds >= size):
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
