"""Scoring what a command line asks for: many names × tasks × sites, one bad one not stopping the rest."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from saebench.errors import IncompetentModelError, SaebenchError, StoreError, TaskError
from saebench.evaluation.arena import Arena
from saebench.evaluation.contestants import SAE, Contestant, control, every_control, resolve, told_apart
from saebench.evaluation.controls import Sized
from saebench.evaluation.naming import named_tasks
from saebench.evaluation.options import Request
from saebench.evaluation.sources import source_of
from saebench.records.files import ensure_writable
from saebench.records.result import Result
from saebench.reporting.progress import Steps, progress
from saebench.site import Site
from saebench.spec import Task, find_tasks, load_task


class Job(NamedTuple):
    """One contestant at one site."""

    contestant: Contestant
    site: Site


def run(request: Request, complain: Callable[[SaebenchError], None]) -> Iterator[Result | None]:
    """Yields every result as it is finished; None for each input that failed, after its complaint.

    What cannot be scored at all (an unknown task or model, an incompetent model) raises.

    Raises:
        SaebenchError: one short paragraph.
    """
    asked = _asked(request)
    tasks = [task for name in asked for task in named_tasks(name, request.options)]
    ensure_writable(request.out)
    found, failures = _contestants(request, complain)
    yield from [None] * failures
    tasks = tasks or _own_tasks(found, request)
    language: Any = request.model
    for task in tasks:
        source = source_of(task, language, request.options)
        # a language model is loaded once, and only if a task needs it
        language = language if task.spec.generates else source
        arena = Arena(task, source, request.options)
        here = [c for c in found if asked or c.task in (None, task.name)]
        placed = []
        for contestant in here:
            try:
                arena.require_place(contestant, request.site)
                placed.append(contestant)
            except SaebenchError as error:
                complain(error)
                yield None
        if here and not placed and "control:all" not in request.saes:
            continue
        jobs = _jobs(arena, placed, request.site, with_controls="control:all" in request.saes)
        with progress(len(jobs), task.name) as steps:
            arena.tick = steps.detail
            yield from _score(arena, jobs, request, steps, complain)


def _asked(request: Request) -> list[str]:
    """Names of the tasks that were asked for; `all` are those of language models.

    An SAE belongs to a language model or to one synthetic task, never to both.
    """
    if request.options.ravel_data and not request.tasks:
        return ["ravel"]
    if request.tasks != ("all",):
        return list(request.tasks)
    folders = request.options.tasks
    return [name for name in find_tasks(folders) if not load_task(name, folders).spec.generates]


def _own_tasks(found: list[Contestant], request: Request) -> list[Task]:
    """Tasks where none was asked for: those that SAEs were trained on, and IOI for other SAEs."""
    saes = [c for c in found if c.d_sae is not None]
    names = dict.fromkeys(c.task or "ioi" for c in saes or found) or ["ioi"]
    return [load_task(name, request.options.tasks) for name in names]


def _contestants(request: Request, complain: Callable[[SaebenchError], None]) -> tuple[list[Contestant], int]:
    found, failures, names = [], 0, request.named()
    for spec in dict.fromkeys(request.saes):
        if spec == "control:all":
            continue
        try:
            for contestant in resolve(spec, request.options.architecture):
                named = spec in names and isinstance(contestant, SAE)
                found.append(contestant.called(names[spec]) if named else contestant)
        except SaebenchError as error:
            complain(error)
            failures += 1
    return told_apart(found), failures


def _jobs(arena: Arena, found: list[Contestant], asked: str | None, with_controls: bool) -> list[Job]:
    """Every contestant at every site asked for; an SAE that names its hook only where that is."""
    if not found and not with_controls:
        return []
    spec, jobs = arena.task.spec, []
    for site in arena.sites([c.hook for c in found], asked):
        # generated data has one site: what was trained elsewhere is refused there, not left out
        anything = (asked and asked != "all") or spec.generates
        here = [c for c in found if c.hook in (None, site.place) or anything]
        if with_controls:
            here += [*_controls(arena, site, here), *map(control, spec.own_controls)]
        elif asked == "all":
            # rows that every site can be read by, also where no SAE was trained
            here += map(control, ("supervised", "source-patch", "no-edit", *spec.own_controls))
        jobs += [Job(contestant, site) for contestant in here]
    return jobs


def _controls(arena: Arena, site: Site, contestants: list[Contestant]) -> list[Contestant]:
    """Controls for the table, their L0s measured from the SAEs at this very site."""
    saes = {c.info.source: c for c in contestants if isinstance(c, SAE) and not arena.refuses(c)}
    sizes = [Sized(source, arena.sample_l0(sae, site), sae.d_sae) for source, sae in saes.items()]
    return every_control(sizes, saes)


def _score(
    arena: Arena, jobs: list[Job], request: Request, steps: Steps, complain: Callable[[SaebenchError], None]
) -> Iterator[Result | None]:
    for contestant, site in jobs:
        steps.begin(contestant.name)
        try:
            yield arena.score_or_reuse(contestant, site, request.out, request.force)
        except (IncompetentModelError, StoreError, TaskError):
            # the same for every contestant of this task: one paragraph is enough
            raise
        except SaebenchError as error:
            complain(error)
            yield None
