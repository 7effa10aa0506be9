"""Scoring what a command line asks for: many names × tasks × sites, one bad one not stopping the rest."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from saebench.errors import SaebenchError, choice
from saebench.evaluation.api import load_subject, named_tasks
from saebench.evaluation.arena import Arena, Options
from saebench.evaluation.contestants import Contestant, control, every_control, resolve
from saebench.records.result import Result
from saebench.reporting.progress import Steps, progress
from saebench.site import Site
from saebench.spec import Task, find_tasks, load_task


@dataclass(frozen=True)
class Request:
    """What `saebench evaluate` was asked to do."""

    saes: tuple[str, ...]
    tasks: tuple[str, ...]
    """Without any: the synthetic tasks that the SAEs were trained on, else IOI."""
    model: str
    site: str | None
    budget: str
    seed: int
    device: str
    dtype: str
    out: Path
    force: bool
    task_dirs: tuple[Path, ...] = ()
    architecture: str | None = None
    supervised: str | None = None
    parametrization: str = "independent"
    memory_bytes: int | None = None
    allow_incompetent: bool = False
    force_mismatch: bool = False
    ravel_data: str | None = None
    """Directory of the published RAVEL data, which then stands for the task `ravel`."""
    ravel_attributes: tuple[str, ...] = ()

    @property
    def options(self) -> Options:
        return Options(
            self.budget,
            self.seed,
            self.supervised,
            self.parametrization,
            self.allow_incompetent,
            self.memory_bytes,
            self.force_mismatch,
        )


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
    from saebench.models.devices import DTYPES, find_device
    from saebench.records.files import ensure_writable

    tasks = [task for name in _asked(request) for task in _load(request, name)]
    ensure_writable(request.out)
    choice("dtype", request.dtype, tuple(DTYPES))
    device = find_device(request.device)
    found, failures = _contestants(request, str(device), complain)
    yield from [None] * failures
    if not tasks:
        tasks = _own_tasks(found, request.task_dirs)
    language: Any = request.model
    for task in tasks:
        model = load_subject(task, language, request.device, request.dtype)
        # a language model is loaded once, and only if a task needs it
        language = language if task.spec.generates else model
        arena = Arena(task, model, request.options)
        here = [c for c in found if _asked(request) or c.task in (None, task.name)]
        jobs = _jobs(arena, here, request.site, with_controls="control:all" in request.saes)
        with progress(len(jobs), task.name) as steps:
            arena.tick = steps.detail
            yield from _score(arena, jobs, request, steps, complain)


def _asked(request: Request) -> list[str]:
    """Names of the tasks that were asked for; `all` are those of language models.

    An SAE belongs to a language model or to one synthetic task, never to both.
    """
    if request.ravel_data and not request.tasks:
        return ["ravel"]
    if request.tasks != ("all",):
        return list(request.tasks)
    known = find_tasks(request.task_dirs)
    return [name for name in known if not name.startswith("synthetic/")]


def _load(request: Request, name: str) -> list[Task]:
    return named_tasks(name, request.task_dirs, request.ravel_data, request.ravel_attributes)


def _own_tasks(found: list[Contestant], folders: tuple[Path, ...]) -> list[Task]:
    """Tasks where none was asked for: those that SAEs were trained on, and IOI for other SAEs."""
    saes = [c for c in found if c.d_sae is not None]
    names = dict.fromkeys(c.task or "ioi" for c in saes or found) or ["ioi"]
    return [load_task(name, folders) for name in names]


def _contestants(
    request: Request, device: str, complain: Callable[[SaebenchError], None]
) -> tuple[list[Contestant], int]:
    found, failures = [], 0
    for spec in dict.fromkeys(request.saes):
        if spec == "control:all":
            continue
        try:
            found += resolve(spec, request.architecture, device)
        except SaebenchError as error:
            complain(error)
            failures += 1
    return found, failures


def _jobs(arena: Arena, found: list[Contestant], asked: str | None, with_controls: bool) -> list[Job]:
    """Every contestant at every site asked for; an SAE that names its hook only where that is."""
    if not found and not with_controls:
        return []
    sites = arena.sites([c.hook for c in found], asked)
    jobs = []
    for site in sites:
        # generated data has one site: what was trained elsewhere is refused there, not left out
        anything = (asked and asked != "all") or arena.task.spec.generates
        here = [c for c in found if c.hook in (None, site.hook) or anything]
        if with_controls:
            here += [*_controls(arena, site, here), *map(control, arena.task.spec.own_controls)]
        elif asked == "all":
            here += _references(arena.task)
        jobs += [Job(contestant, site) for contestant in here]
    return jobs


def _references(task: Task) -> list[Contestant]:
    """Rows that every site can be read by, also where no SAE was trained."""
    return [control(name) for name in ("supervised", "source-patch", "no-edit", *task.spec.own_controls)]


def _controls(arena: Arena, site: Site, contestants: list[Contestant]) -> list[Contestant]:
    """Controls for the table, their L0s measured from the SAEs at this very site."""
    from saebench.dictionaries.codes import encode_split
    from saebench.dictionary import Dictionary

    l0s, widths = [], []
    for contestant in contestants:
        if contestant.d_sae is None or arena.refuses(contestant):
            continue
        section = arena.bench(site)[0].section
        dictionary = arena.realise(contestant, site).scorable
        assert isinstance(dictionary, Dictionary)
        fit = (section if dictionary.reads is None else section.read_at(dictionary.reads)).fit
        sample = slice(0, 512)
        codes = encode_split(dictionary, fit.acts[sample], fit.known.at(sample)).codes
        l0s.append(float(codes.per_row.float().mean()))
        widths.append(contestant.d_sae)
    return every_control(l0s, widths)


def _score(
    arena: Arena, jobs: list[Job], request: Request, steps: Steps, complain: Callable[[SaebenchError], None]
) -> Iterator[Result | None]:
    from saebench.errors import IncompetentModelError, StoreError, TaskError

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
