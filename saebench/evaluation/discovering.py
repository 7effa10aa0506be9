"""Discovery on a task and a model by name: its candidates and its pairs of prompts are made here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from saebench.discovery.candidates import at_hook, components, every_site
from saebench.discovery.run import DRAWS, NUMBERS, STAGES, Plan, search
from saebench.discovery.scan import Tick
from saebench.errors import OptionError, unknown
from saebench.kinds import KINDS
from saebench.kinds.base import Settings
from saebench.models.devices import exact, few_threads
from saebench.models.language_model import LanguageModel
from saebench.models.loading import load_model
from saebench.models.surroundings import undisturbed
from saebench.patching.pairs import Number
from saebench.records.discovery import Discovery
from saebench.reporting.progress import progress
from saebench.spec import Task, load_task


def discover(
    task: str | Task = "ioi",
    model: str | LanguageModel = "demo",
    *,
    device: str = "auto",
    tasks: Sequence[str | Path] = (),
    **plan: Any,
) -> Discovery:
    """Finds the sites at which a task's attributes act in a model: `.effects`, `.found`, `.sites`.

    The further options are those of `saebench.discovery.run.Plan`: `budget`, `seed`, `first_pass`
    (`exact` or `attribution`), `share`, `hooks`, `hook`, `allow_incompetent`.

    Raises:
        SaebenchError: one short paragraph for everything the input can get wrong.
    """
    known = Plan.__dataclass_fields__
    for name in plan:
        if name not in known:
            raise OptionError(unknown("option", name, known))
    asked = Plan(**plan)
    chosen = load_task(task, [Path(p).expanduser() for p in tasks]) if isinstance(task, str) else task
    language = load_model(model, device=device) if isinstance(model, str) else model
    with progress(len(STAGES), f"sites of {chosen.name} in {language.name}") as steps:
        return search_model(chosen, language, asked, steps.begin, steps.detail)


def search_model(
    task: Task, model: LanguageModel, plan: Plan, stage: Tick = lambda _: None, tick: Tick = lambda _: None
) -> Discovery:
    """Looks for the sites at which the task's attributes act in a model (docs/methods.md §13).

    `stage` is called when one of `STAGES` begins, `tick` when a piece of it is done.

    Raises:
        SiteError: for a hook point that the model lacks.
        IncompetentModelError: if the model does not prefer the right answers.
        TaskError: for a task without a language model.
    """
    positions = task.spec.positions
    if plan.hook:
        sites = candidates = at_hook(model, plan.hook, positions)
    else:
        # the set is made of heads and MLPs, whatever else is shown
        candidates = components(every_site(model, positions))
        sites = list(dict.fromkeys([*every_site(model, positions, plan.hooks), *candidates]))
    each, kind = NUMBERS[plan.budget], KINDS[task.spec.kind]
    with undisturbed(), exact(model.device), few_threads(model.d_model):
        stage(STAGES[0])
        wanted = Number(each.select * DRAWS, each.test)
        questions = kind.pairs(task, model, Settings(plan.budget, plan.seed, tick), wanted)
        return search(task, model, questions, sites, candidates, plan, stage, tick)
