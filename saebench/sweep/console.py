"""A sweep as the command line shows it: its plan, a line a unit, the list of what failed."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from saebench.errors import OptionError
from saebench.evaluation.drive import Here, Pool
from saebench.evaluation.options import Request
from saebench.evaluation.units import Keeper, Unit
from saebench.records.failures import Failure
from saebench.records.files import ensure_writable
from saebench.reporting.progress import Steps, progress
from saebench.sweep import estimate, spec
from saebench.sweep import plan as planning
from saebench.sweep.processes import Processes, gpus
from saebench.sweep.run import Clock, Step, spoken, work


class Wanted(NamedTuple):
    """What was typed."""

    saes: tuple[str, ...]
    given: Mapping[str, Any]
    """Named values that were said, which go before those of a file."""
    dry_run: bool = False
    workers: str = "0"
    ray: str | None = None
    shard: str | None = None
    retry: bool = False
    debug: bool = False


def sweep(wanted: Wanted) -> int:
    """Plans and works off; returns the exit code: 1 where units failed.

    Raises:
        SaebenchError: for what cannot be planned at all.
    """
    requests, keeper = _requests(wanted), Keeper()
    processes = _count(wanted.workers)
    plan = planning.make(requests, keeper, wanted.retry)
    if plan.refused and not plan.units:
        raise plan.refused[0][1].error
    for line in estimate.text(plan, keeper, max(1, processes)):
        print(line, file=sys.stdout if wanted.dry_run else sys.stderr)
    if wanted.dry_run:
        return 1 if plan.refused else 0
    for out in dict.fromkeys(request.out for request in requests):
        ensure_writable(out)
    failed = _work(plan, _pool(wanted, processes, keeper, plan), keeper, wanted.debug)
    for out in dict.fromkeys(request.out for request in requests):
        print(f"Results: {out}")
    if failed:
        print(f"saebench: {len(failed)} not scored (--retry-failed tries them again):", file=sys.stderr)
        for failure in failed:
            print(f"  {failure.line}", file=sys.stderr)
    return 1 if failed else 0


def _requests(wanted: Wanted) -> list[Request]:
    first = wanted.saes[0]
    if first.endswith(".toml"):
        if len(wanted.saes) > 1:
            raise OptionError(f"{first} says what is scored; {wanted.saes[1]!r} beside it is too much.")
        requests = spec.read(Path(first), wanted.given)
    else:
        requests = [spec.request({**wanted.given, "saes": list(wanted.saes)})]
    return spec.shard(requests, *spec.parse_shard(wanted.shard)) if wanted.shard else requests


def _count(workers: str) -> int:
    """Processes asked for; 0 for this one."""
    if workers == "auto":
        return max(1, gpus())
    if not workers.isdigit():
        raise OptionError(f"Cannot read --workers {workers!r}. Expected a number, or auto.")
    return int(workers)


def _pool(wanted: Wanted, processes: int, keeper: Keeper, plan: planning.Plan) -> Pool:
    if wanted.ray is not None:
        from saebench.sweep.on_ray import OnRay

        return OnRay(wanted.ray, processes or None)
    if processes:
        device = plan.todo[0].group.options.device if plan.todo else "cpu"
        return Processes(processes, device)
    return Here(keeper)


def _work(plan: planning.Plan, pool: Pool, keeper: Keeper, debug: bool) -> list[Failure]:
    failed, clock = [], Clock(len(plan.todo), pool.workers)
    with progress(len(plan.todo), "sweep") as steps:
        keeper.tick = steps.detail
        for step in work(plan, pool, keeper, lambda unit: steps.detail(_named(unit))):
            if step.failure is not None:
                failed.append(step.failure)
                if debug and step.failure.traceback:
                    print(step.failure.traceback, file=sys.stderr)
            if step.unit is not None:
                _show(step.unit, step, clock, steps)
    return failed


def _show(unit: Unit, step: Step, clock: Clock, steps: Steps) -> None:
    if step.result is None and step.failure is None:
        clock.total += step.more
        steps.expect(step.more)
        return
    what = f"failed: {step.failure.line}" if step.failure else spoken(step.seconds)
    steps.end(f"{_named(unit)}: {what}", clock.step())


def _named(unit: Unit) -> str:
    return f"{unit.name} · {unit.group}"
