"""One call that scores one dictionary: names resolved to task, model, site and dictionary."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saebench.errors import OptionError, SiteError
from saebench.evaluation.arena import Arena, Options, Tick
from saebench.evaluation.contestants import from_object, resolve
from saebench.kinds import KINDS
from saebench.models.surroundings import undisturbed
from saebench.records.result import Result
from saebench.spec import Task, load_task

if TYPE_CHECKING:
    from saebench.models.language_model import LanguageModel
    from saebench.synthetic.generator import Generator


def named_tasks(
    name: str,
    folders: Sequence[Path] = (),
    ravel_data: str | Path | None = None,
    ravel_attributes: Sequence[str] = (),
) -> list[Task]:
    """The task of that name; with `ravel_data`, `ravel` means all entity types of the published data.

    Raises:
        TaskError: if there is no such task, or its files are wrong.
    """
    if ravel_data is None or name.split("/")[0] != "ravel":
        return [load_task(name, folders)]
    from saebench.kinds.entities.release import choose

    return list(choose(name, str(ravel_data), ravel_attributes))


def _only_task(name: str, found: Sequence[Task]) -> Task:
    if len(found) != 1:
        raise OptionError(
            f"{name!r} names {len(found)} tasks; `evaluate` scores one at a time. Name one of"
            f" {', '.join(task.name for task in found)}."
        )
    return found[0]


def make_arena(
    task: str | Task,
    model: Any = "demo",
    options: Options | None = None,
    *,
    tasks: Sequence[Path] = (),
    device: str = "auto",
    dtype: str = "float32",
    tick: Tick = lambda _: None,
) -> Arena:
    """A task and a model, by name or already loaded."""
    found = load_task(task, tasks) if isinstance(task, str) else task
    loaded = load_subject(found, model, device, dtype)
    tick(f"model {loaded.name}")
    return Arena(found, loaded, options or Options(), tick)


def load_subject(
    task: Task, model: Any = "demo", device: str = "auto", dtype: str = "float32"
) -> "LanguageModel | Generator":
    """What a task's activations come from: its own generator, or the language model asked for.

    Raises:
        ModelError, TaskError: if it cannot be made.
    """
    from saebench.models.language_model import LanguageModel
    from saebench.models.loading import load_model

    if task.spec.generates:
        return KINDS[task.spec.kind].generator(task, device)
    if isinstance(model, LanguageModel):
        return model
    return load_model(model, device=device, dtype=dtype)


@undisturbed()
def evaluate(
    sae: Any,
    task: str | None = None,
    model: Any = "demo",
    site: str | None = None,
    budget: str = "quick",
    *,
    seed: int = 0,
    out: str | Path | None = None,
    force: bool = False,
    device: str = "auto",
    dtype: str = "float32",
    tasks: Sequence[str | Path] = (),
    allow_incompetent: bool = False,
    supervised: str | None = None,
    parametrization: str = "independent",
    force_mismatch: bool = False,
    ravel_data: str | Path | None = None,
    ravel_attributes: Sequence[str] = (),
) -> Result:
    """Scores one dictionary on one task at one site; all five axes, with intervals.

    `task` is `ioi` unless said otherwise. `ravel_data` is a directory of the published RAVEL data, or
    `hij/ravel` for the hub's copy: then `task` is `ravel` or, of several entity types, one such as
    `ravel/city`; `ravel_attributes` keeps some of its attributes.

    `sae` is a path or name as on the command line, a SAELens SAE, or any object with `encode`,
    `decode` and `W_dec` (then `site` is required unless the object names its hook point). Touches
    the disk only if `out` is given. In a training loop pass a `LanguageModel` from
    `saebench.load_model` as `model`, so that it is loaded once.

    Raises:
        SaebenchError: one short paragraph for everything the input can get wrong.
    """
    options = Options(budget, seed, supervised, parametrization, allow_incompetent, None, force_mismatch)
    paths = [Path(p) for p in tasks]
    name = task or ("ravel" if ravel_data else "ioi")
    chosen = _only_task(name, named_tasks(name, paths, ravel_data, ravel_attributes))
    arena = make_arena(chosen, model, options, device=device, dtype=dtype)
    where = str(arena.model.device)
    found = resolve(str(sae), None, where) if isinstance(sae, str | Path) else [from_object(sae)]
    if len(found) != 1:
        raise OptionError(f"{sae!r} names {len(found)} dictionaries; `evaluate` scores one at a time.")
    sites = arena.sites([found[0].hook], site)
    if len(sites) != 1:
        raise SiteError(f"`evaluate` scores at one site; got {', '.join(map(str, sites))}.")
    return arena.score_or_reuse(found[0], sites[0], Path(out) if out else None, force)
