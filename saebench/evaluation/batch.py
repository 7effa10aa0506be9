"""What a command line asks for: many names × tasks × sites as units, and scoring them in this process."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from saebench.errors import IncompetentModelError, SaebenchError, StoreError, TaskError
from saebench.evaluation.contestants import SAE, Contestant, control, resolve, told_apart
from saebench.evaluation.drive import Here, InTurn, Pool, drive
from saebench.evaluation.naming import named_tasks
from saebench.evaluation.options import Request
from saebench.evaluation.units import Done, Group, Keeper, Unit
from saebench.records import store
from saebench.records.files import ensure_writable
from saebench.records.result import Result
from saebench.reporting.progress import progress
from saebench.reporting.terminal import in_one_line
from saebench.spec import Task, find_tasks, load_task

EVERY = "control:all"


class Refused(NamedTuple):
    """Something that was asked for and is no unit: it cannot be read, or fits nowhere."""

    name: str
    error: SaebenchError
    task: str = ""


def run(
    request: Request, complain: Callable[[SaebenchError], None], pool: Pool | None = None
) -> Iterator[Result | None]:
    """Yields every result in the order of the request; None for each input that failed, after its complaint.

    Without a pool of workers everything is scored in this process. A result is written as soon as it is
    finished, and yielded when those before it have been. What cannot be scored at all (an unknown task or
    model, an incompetent model) raises.

    Raises:
        SaebenchError: one short paragraph.
    """
    asked = tasks_of(request)
    ensure_writable(request.out)
    keeper = Keeper()
    units = []
    for each in plan(request, keeper, asked):
        if isinstance(each, Unit):
            units.append(each)
        else:
            complain(each.error)
            yield None
    turn: InTurn[Result | None] = InTurn(units)
    with progress(len(units)) as steps:
        keeper.tick = steps.detail
        for done in drive(units, pool or Here(keeper), lambda unit: steps.begin(unit.name, unit.group.task)):
            if done.more:
                # it began as a step of its own, with what all of them share
                steps.expect(len(done.more))
                turn.expand(done.unit, done.more)
            elif done.error is None:
                result = kept(done, request.out)
                steps.result(in_one_line(result))
                turn.put(done.unit, result)
            elif isinstance(done.error, SaebenchError) and not isinstance(done.error, _OF_ALL):
                complain(done.error)
                turn.put(done.unit, None)
            else:
                raise done.error
            yield from turn.ready()


_OF_ALL = (IncompetentModelError, StoreError, TaskError)
"""Errors that are the same for every contestant of a task: one paragraph is enough."""


def kept(done: Done, out: Path) -> Result:
    """A unit's result, written if it is new.

    Raises:
        StoreError: if it cannot be written.
    """
    assert done.result is not None
    if done.table is not None:
        store.write(done.result, done.table, out)
    return done.result


def tasks_of(request: Request) -> list[tuple[str, Task]]:
    """Tasks that were asked for, each with the name it can be found by again.

    `all` are those of language models: an SAE belongs to a language model or to one synthetic task,
    never to both.

    Raises:
        TaskError: if there is no such task.
    """
    names, folders = request.tasks, request.options.tasks
    if request.options.ravel_data and not names:
        names = ("ravel",)
    if names == ("all",):
        names = tuple(n for n in find_tasks(folders) if not load_task(n, folders).spec.generates)
    return [pair for name in names for pair in _named(name, request)]


def _named(name: str, request: Request) -> list[tuple[str, Task]]:
    found = named_tasks(name, request.options)
    if found[0].name != name and (Path(name) / "task.toml").is_file():
        # a path has to lead there from other directories too
        return [(str(Path(name).absolute()), found[0])]
    return [(task.name, task) for task in found]


def plan(
    request: Request, keeper: Keeper, asked: list[tuple[str, Task]] | None = None
) -> Iterator[Unit | Refused]:
    """Units of a request, in the order of tasks, seeds, sites and names.

    Raises:
        SaebenchError: if there is no such task or model.
    """
    tasks = tasks_of(request) if asked is None else asked
    table, refused = _contestants(request)
    yield from refused
    own = not tasks
    for name, task in tasks or _own_tasks(table, request):
        here = [one for one in table if not own or one.contestant.task in (None, task.name)]
        for seed in request.seeds or (request.options.seed,):
            yield from _of_task(request, keeper, name, here, seed)


class Entry(NamedTuple):
    """A contestant of a request's table."""

    contestant: Contestant
    scored: bool
    """Whether it is scored, or only stands beside what is."""


def _of_task(
    request: Request, keeper: Keeper, task: str, table: list[Entry], seed: int
) -> Iterator[Unit | Refused]:
    options, every = replace(request.options, seed=seed), EVERY in request.saes
    arena, placed = keeper.arena_of(request.model, task, options), []
    for one in table:
        try:
            arena.require_place(one.contestant, request.site)
            placed.append(one)
        except SaebenchError as error:
            if one.scored:
                yield Refused(one.contestant.name, error, arena.task.name)
    if not placed and not every:
        return
    spec, asked = arena.task.spec, request.site
    for site in arena.sites([one.contestant.hook for one in placed], asked):
        # generated data has one site: what was trained elsewhere is refused there, not left out
        anything = (asked and asked != "all") or spec.generates
        here = [one for one in placed if one.contestant.hook in (None, site.place) or anything]
        if not every and asked == "all":
            # rows that every site can be read by, also where no SAE was trained
            names = ("supervised", "source-patch", "no-edit", *spec.own_controls)
            here += [Entry(control(name), True) for name in names]
        group = Group("" if spec.generates else request.model, task, site, options)
        for one in here:
            if one.scored:
                yield Unit(group, one.contestant, out=request.out, force=request.force)
        if every:
            table_here = tuple(one.contestant for one in here)
            yield Unit(group, None, table_here, request.out, request.force)


def _own_tasks(table: list[Entry], request: Request) -> list[tuple[str, Task]]:
    """Tasks where none was asked for: those that SAEs were trained on, and IOI for other SAEs."""
    found = [one.contestant for one in table]
    saes = [c for c in found if c.d_sae is not None]
    names = dict.fromkeys(c.task or "ioi" for c in saes or found) or ["ioi"]
    return [(name, load_task(name, request.options.tasks)) for name in names]


def _contestants(request: Request) -> tuple[list[Entry], list[Refused]]:
    found, refused, called = [], [], {**dict(request.called), **request.named()}
    for spec in dict.fromkeys((*request.saes, *request.beside)):
        if spec == EVERY:
            continue
        try:
            named = resolve(spec, request.options.architecture)
        except SaebenchError as error:
            if spec in request.saes:
                refused.append(Refused(spec, error))
            continue
        if spec in called:
            named = [one.called(called[spec]) if isinstance(one, SAE) else one for one in named]
        found += [Entry(one, spec in request.saes) for one in named]
    names = told_apart([one.contestant for one in found])
    return [Entry(c, one.scored) for c, one in zip(names, found, strict=True)], refused
