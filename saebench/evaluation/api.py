"""One call that scores one dictionary: names resolved to task, model, site and dictionary."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saebench.errors import OptionError, SiteError
from saebench.evaluation.arena import Arena, Tick
from saebench.evaluation.contestants import SAE, Contestant, from_object, resolve
from saebench.evaluation.naming import only_task
from saebench.evaluation.options import Options, parameters
from saebench.evaluation.sources import source_of
from saebench.records.result import Result
from saebench.spec import Task


def make_arena(
    task: str | Task, model: Any = "demo", options: Options | None = None, tick: Tick = lambda _: None
) -> Arena:
    """A task and a model, by name or already loaded."""
    options = options or Options()
    chosen = only_task(task, options) if isinstance(task, str) else task
    return Arena(chosen, source_of(chosen, model, options), options, tick)


@dataclass(frozen=True)
class Prepared:
    """A task on a model, ready to score: what all dictionaries share is made once and kept.

    Prompts, clean runs, the supervised dictionary and the references stay in memory for every site that
    was asked for, on the model's device, until the object goes.
    """

    arena: Arena

    def evaluate(
        self,
        sae: Any,
        site: str | None = None,
        *,
        out: str | Path | None = None,
        force: bool = False,
        name: str | None = None,
    ) -> Result:
        """Scores one dictionary at one site, as `saebench.evaluate` does.

        Raises:
            SaebenchError: one short paragraph for everything the input can get wrong.
        """
        contestant = _one(sae, self.arena.options.architecture, name)
        self.arena.require_place(contestant, site)
        sites = self.arena.sites([contestant.hook], site)
        if len(sites) != 1:
            raise SiteError(
                f"`evaluate` scores at one site; got {', '.join(map(str, sites))}. Name one: site=…"
            )
        folder = Path(out).expanduser() if out else None
        return self.arena.score_or_reuse(contestant, sites[0], folder, force)


def _one(sae: Any, architecture: str | None, name: str | None) -> Contestant:
    """The one dictionary of a path, a name or an object, under the name asked for."""
    named = isinstance(sae, str | Path)
    contestants = resolve(str(sae), architecture) if named else [from_object(sae, name)]
    if len(contestants) != 1:
        raise OptionError(f"{sae!r} names {len(contestants)} dictionaries; `evaluate` scores one at a time.")
    found = contestants[0]
    return found.called(name) if name and isinstance(found, SAE) else found


def prepare(task: str | None = None, model: Any = "demo", budget: str = "quick", **options: Any) -> Prepared:
    """A task on a model for many dictionaries: `prepare("ioi", model).evaluate(sae, site=…)`.

    In a training loop the first call makes what all dictionaries share, and later ones only encode and
    edit. Arguments are those of `evaluate`.

    Raises:
        SaebenchError: one short paragraph for a wrong name or option.
    """
    chosen = Options.of({"budget": budget, **options})
    return Prepared(make_arena(task or ("ravel" if chosen.ravel_data else "ioi"), model, chosen))


def evaluate(
    sae: Any,
    task: str | None = None,
    model: Any = "demo",
    site: str | None = None,
    budget: str = "quick",
    *,
    out: str | Path | None = None,
    force: bool = False,
    name: str | None = None,
    **options: Any,
) -> Result:
    """Scores one dictionary on one task at one site; all five axes, with intervals.

    `sae` is a path or name as on the command line, a SAELens SAE, or any object with `encode`,
    `decode` and `W_dec` (then `site` is required unless the object names its hook point). Touches
    the disk only if `out` is given: then a finished result is shown again unless `force`. `name` is
    what the results call it (`k8/step_1000` makes curves over training). In a
    training loop use `prepare`, which keeps what every call shares; a `LanguageModel` from
    `saebench.load_model` as `model` is loaded once.

    `task` is `ioi` unless said otherwise. The further options are those of `saebench evaluate`
    (`help(saebench.evaluation.options.Options)` lists them): `seed`, `device`, `dtype`, `tasks`,
    `ravel_data` (a directory of the published RAVEL data, or `hij/ravel` for the hub's copy: then
    `task` is `ravel` or, of several entity types, one such as `ravel/city`), `ravel_attributes`,
    `architecture`, `supervised`, `parametrization`, `memory`, `allow_incompetent`, `force_mismatch`.

    Raises:
        SaebenchError: one short paragraph for everything the input can get wrong.
    """
    prepared = prepare(task, model, budget, **options)
    return prepared.evaluate(sae, site, out=out, force=force, name=name)


def _with_options(signature: inspect.Signature) -> inspect.Signature:
    """The signature with every option in place of `**options`, for `help` and for editors."""
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    return signature.replace(parameters=own + [p for p in parameters() if p.name not in signature.parameters])


for function in (evaluate, prepare):
    vars(function)["__signature__"] = _with_options(inspect.signature(function))
