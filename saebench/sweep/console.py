"""A sweep as the command line shows it: its plan, a line a unit, the list of what failed."""

import sys
from collections.abc import Iterator, Mapping
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
from saebench.sweep.narrowing import UntilNarrow
from saebench.sweep.processes import Processes, gpus
from saebench.sweep.run import Clock, Step, spoken, work
from saebench.sweep.stages import Once, Rule, found, keep_document
from saebench.sweep.tournament import KeepBest


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
    until_ci: str | None = None
    keep_best: str | None = None


def sweep(wanted: Wanted) -> int:
    """Plans and works off; returns the exit code: 1 where units failed.

    Raises:
        SaebenchError: for what cannot be planned at all.
    """
    keeper = Keeper()
    rule, requests = _rule(wanted, keeper), _requests(wanted)
    whole = planning.make(requests, keeper, wanted.retry)
    if whole.refused and not whole.units:
        raise whole.refused[0][1].error
    failed, outs = [], list(dict.fromkeys(request.out for request in requests))
    if not wanted.dry_run:
        for out in outs:
            ensure_writable(out)
    for plan in _stages(whole, rule, keeper, wanted.retry):
        told = estimate.text(plan, keeper, max(1, _count(wanted.workers)))
        for line in (*filter(None, [rule.heading()]), *told):
            print(line, file=sys.stdout if wanted.dry_run else sys.stderr)
        if not wanted.dry_run:
            failed += _work(plan, _pool(wanted, keeper, plan), keeper, wanted.debug)
        elif plan.todo:
            # what comes next follows from what is not scored yet
            return 1 if whole.refused else 0
    if wanted.dry_run:
        return 1 if whole.refused else 0
    for out in outs:
        keep_document(rule, whole.every, out)
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


def _rule(wanted: Wanted, keeper: Keeper) -> Rule:
    """What goes on after which stage.

    Raises:
        OptionError: for two rules, or one that would see a part only.
    """
    if wanted.until_ci is None and wanted.keep_best is None:
        return Once()
    if wanted.until_ci is not None and wanted.keep_best is not None:
        raise OptionError(
            "--until-ci and --keep-best each say how many prompts are scored. Expected one of them."
        )
    if wanted.shard is not None:
        raise OptionError(
            "--shard sees a part of the SAEs, and --until-ci and --keep-best go by all of them. Expected no shards:"
            " --workers and --ray share the work too."
        )
    return UntilNarrow(wanted.until_ci, keeper) if wanted.until_ci else KeepBest(wanted.keep_best or "")


def _stages(whole: planning.Plan, rule: Rule, keeper: Keeper, retry: bool) -> Iterator[planning.Plan]:
    """Plans, one a stage; what each decided is said when it is over."""
    units = rule.first(whole.every)
    while units:
        plan = planning.sort(units, keeper, retry)
        plan.refused, whole = whole.refused, planning.Plan()
        yield plan
        units = rule.next(found(plan.every, keeper))
        for line in rule.lines():
            print(line)


def _count(workers: str) -> int:
    """Processes asked for; 0 for this one."""
    if workers == "auto":
        return max(1, gpus())
    if not workers.isdigit():
        raise OptionError(f"Cannot read --workers {workers!r}. Expected a number, or auto.")
    return int(workers)


def _pool(wanted: Wanted, keeper: Keeper, plan: planning.Plan) -> Pool:
    processes = _count(wanted.workers)
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
