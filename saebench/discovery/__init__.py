"""Finding the sites at which a task's attributes act in a model (docs/methods.md §13)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saebench.errors import OptionError, unknown
from saebench.reporting.progress import progress
from saebench.spec import Task, load_task

if TYPE_CHECKING:
    from saebench.models.language_model import LanguageModel
    from saebench.records.discovery import Discovery


def discover(
    task: "str | Task" = "ioi",
    model: "str | LanguageModel" = "demo",
    *,
    device: str = "auto",
    tasks: Sequence[str | Path] = (),
    **plan: Any,
) -> "Discovery":
    """Finds the sites at which a task's attributes act in a model: `.effects`, `.found`, `.sites`.

    The further options are those of `saebench.discovery.run.Plan`: `budget`, `seed`, `first_pass`
    (`exact` or `attribution`), `share`, `hooks`, `hook`, `allow_incompetent`.

    Raises:
        SaebenchError: one short paragraph for everything the input can get wrong.
    """
    from saebench.discovery.run import STAGES, Plan, search_model
    from saebench.models.loading import load_model

    known = Plan.__dataclass_fields__
    for name in plan:
        if name not in known:
            raise OptionError(unknown("option", name, known))
    asked = Plan(**plan)
    chosen = load_task(task, [Path(p).expanduser() for p in tasks]) if isinstance(task, str) else task
    language = load_model(model, device=device) if isinstance(model, str) else model
    with progress(len(STAGES), f"sites of {chosen.name} in {language.name}") as steps:
        return search_model(chosen, language, asked, steps.begin, steps.detail)


__all__ = ["discover"]
