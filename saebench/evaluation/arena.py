"""Scoring dictionaries: one bench per task and site, shared by everything that is scored there."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from saebench.axes import select_axes
from saebench.axes.base import Bench, Measure
from saebench.axes.bench import make_bench
from saebench.dictionaries.supervised import Method, fit_supervised
from saebench.edits.few_latents import EDIT_SIZES
from saebench.errors import IncompetentModelError, OptionError, SiteError, TrainingDataError, unknown
from saebench.evaluation.contestants import Contestant, Realised
from saebench.kinds import KINDS
from saebench.kinds.base import Built, Settings
from saebench.models.devices import exact
from saebench.records import provenance, store
from saebench.records.outcomes import Outcomes
from saebench.records.result import ModelInfo, Result, SplitSizes, TaskInfo
from saebench.scoring import score, write_entry, write_headline
from saebench.site import Site, residual
from saebench.spec import BUDGETS, Task

if TYPE_CHECKING:
    from saebench.models.language_model import LanguageModel
    from saebench.synthetic.generator import Generator

Tick = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """Everything of an evaluation that is not the dictionary, the task or the model."""

    budget: str = "quick"
    seed: int = 0
    supervised: str | None = None
    """Kind of supervised dictionary, `mean` or `mse`; None takes the task kind's default."""
    parametrization: str = "independent"
    allow_incompetent: bool = False
    memory_bytes: int | None = None
    force_mismatch: bool = False
    """Scores an SAE also on a synthetic task that it was not trained on, and marks the result."""

    def __post_init__(self) -> None:
        if self.budget not in BUDGETS:
            raise OptionError(unknown("budget", self.budget, BUDGETS))
        if self.supervised not in (None, "mean", "mse"):
            raise OptionError(unknown("supervised dictionary", self.supervised, ("mean", "mse")))


class Scored(NamedTuple):
    """A result and the outcomes it was computed from."""

    result: Result
    outcomes: Outcomes


@dataclass
class Arena:
    """A task and a model, with the benches of the sites that were asked for so far."""

    task: Task
    model: "LanguageModel | Generator"
    options: Options = field(default_factory=Options)
    tick: Tick = lambda _: None
    _benches: dict[Site, tuple[Built, Bench]] = field(default_factory=dict)

    def sites(self, hooks: Sequence[str | None], asked: str | None) -> list[Site]:
        """The sites to score at: those asked for, else where SAEs were trained, else the task's.

        Raises:
            SiteError: if none of the three says where.
        """
        listed = [Site.parse(text) for text in self.task.spec.sites.get(self.model.name, ())]
        if self.task.spec.generates:
            return self._only_site(asked)
        everywhere = [Site.parse(t) for texts in self.task.spec.sites.values() for t in texts]
        position = next((s.position for s in (*listed, *everywhere)), "end")
        if asked == "all":
            points = {*residual(self.model.hook_points()), *filter(None, hooks)}
            return sorted((Site(h, position) for h in points), key=Site.sort_key)
        if asked:
            return [Site.parse(part, position) for part in asked.split(",")]
        found = {Site(hook, _position(hook, listed, position)) for hook in hooks if hook}
        if not found and not listed:
            raise SiteError(
                f"No site to score at: the SAE does not name its hook point, and task"
                f" {self.task.name!r} has no default site for model {self.model.name!r}."
                f" Add --site HOOK@POSITION, for example --site blocks.1.hook_resid_pre@{position}."
            )
        return sorted(found, key=Site.sort_key) or listed

    def _only_site(self, asked: str | None) -> list[Site]:
        """A generator's one site."""
        only = Site(self.model.hook_points()[0], self.task.spec.positions[0])
        if asked not in (None, "all", str(only), only.hook):
            raise SiteError(f"Task {self.task.name!r} has the one site {only}, not {asked!r}.")
        return [only]

    def bench(self, site: Site) -> tuple[Built, Bench]:
        """Activations, ceiling and reference outcomes of a site, made once."""
        if site not in self._benches:
            with exact(self.model.device):
                self._benches[site] = self._make(site)
        return self._benches[site]

    def _make(self, site: Site) -> tuple[Built, Bench]:
        options = self.options
        settings = Settings(options.budget, options.seed, options.memory_bytes, self.tick)
        built = KINDS[self.task.spec.kind].build(self.task, self.model, site, settings)
        self._require_competence(built)
        section, method = built.section, self.supervised(built)
        variables = built.parametrizations.get(options.parametrization)
        if variables is None:
            known = built.parametrizations
            raise OptionError(unknown("parametrization", options.parametrization, known))
        atoms = fit_supervised(section)
        ceiling = section.truth or fit_supervised(section, method, variables)
        further = self.task.spec.further_axes
        bench = make_bench(section, ceiling, atoms, further, built.facts, options.seed, self.tick)
        return built, bench

    def supervised(self, built: Built) -> Method:
        """`mean`, or `mse` where the task's attributes depend on each other."""
        asked = self.options.supervised
        if asked == "mean" or asked == "mse":
            return asked
        return "mse" if any(a.parent for a in built.section.attributes) else "mean"

    def _require_competence(self, built: Built) -> None:
        skill = built.competence
        if skill.reason is not None and not self.options.allow_incompetent:
            raise IncompetentModelError(
                f"Model {self.model.name!r} does not do task {self.task.name!r} in enough phrasings:"
                f" {skill.reason}: scores would measure noise. Use a model that can do the task, or"
                " --allow-incompetent to score on all templates and mark it."
            )
        if not skill.able and not self.options.allow_incompetent:
            low, high = skill.interval
            raise IncompetentModelError(
                f"Model {self.model.name!r} does not do task {self.task.name!r}: on"
                f" {skill.accuracy:.1%} of {skill.n} prompts the right answer beats the wrong one"
                f" (95 % interval {low:.1%}–{high:.1%}, chance 50 %; arg-max right on"
                f" {skill.argmax:.1%}). Expected at least 70 %: scores would measure noise. Use a"
                " model that can do the task, or --allow-incompetent to score and mark it."
            )

    @property
    def axes(self) -> dict[str, Measure]:
        """What is measured: the five axes, and those that the task's kind brings."""
        return select_axes(self.task.spec.further_axes)

    @property
    def versions(self) -> dict[str, int]:
        """Versions of the axes measured, the five first."""
        further = self.task.spec.further_axes
        return {name: axis.version for name, axis in sorted(self.axes.items(), key=lambda a: a[0] in further)}

    def id(self, sha256: str, site: Site) -> str:
        """Digest of everything that can change a number."""
        options = self.options
        settings = [axis.settings for axis in self.axes.values()]
        return provenance.identity(
            dictionary=sha256,
            model=self.model.sha256,
            task=self.task.sha256,
            site=str(site),
            supervised=options.supervised,
            parametrization=options.parametrization,
            edit_sizes=EDIT_SIZES,
            axes=self.versions,
            **{name: value for each in settings for name, value in each.items()},
            budget=options.budget,
            seed=options.seed,
            dtype=str(self.model.dtype),
            device=self.model.device.type,
        )

    def realise(self, contestant: Contestant, site: Site) -> Realised:
        """The contestant as it stands at a site (a control is made from the site's activations).

        Raises:
            TrainingDataError: for an SAE that was not trained on the task's own data.
        """
        strange = self._not_its_data(contestant)
        if self.refuses(contestant):
            raise TrainingDataError(
                f"{strange} Expected an SAE trained on this data: `saebench train --task"
                f" {self.task.name} …` trains one; --force-mismatch scores it all the same and marks"
                " the result."
            )
        _, bench = self.bench(site)
        with exact(self.model.device):
            realised = contestant.realise(bench)
        marked = (*realised.warnings, f"scored with --force-mismatch: {strange}")
        return replace(realised, warnings=marked) if strange else realised

    def refuses(self, contestant: Contestant) -> bool:
        """Whether `realise` would raise for an SAE that was trained on other data."""
        return not self.options.force_mismatch and self._not_its_data(contestant) is not None

    def _not_its_data(self, contestant: Contestant) -> str | None:
        """Why an SAE does not belong to this task; None for controls and where it does."""
        if contestant.d_sae is None or contestant.task_sha256 == self.task.sha256:
            return None
        own = self.task.spec.generates
        if contestant.task_sha256 is None:
            where = f"{contestant.name} does not say that it was trained on synthetic data, and"
            return f"{where} {self.task.name!r} is a synthetic task." if own else None
        at = f"{contestant.task!r} (digest {contestant.task_sha256[:12]})"
        here = f"{self.task.name!r} (digest {self.task.sha256[:12]})"
        return f"{contestant.name} was trained on the data of {at}, not of {here}."

    def score(self, realised: Realised, site: Site) -> Scored:
        """Measures all axes and scores them."""
        started = time.perf_counter()
        built, bench = self.bench(site)
        with exact(self.model.device):
            out = bench.measure(realised.scorable, self.options.seed, self.tick)
        result = self._write(realised, site, built, out, started)
        return Scored(result, out)

    def _write(self, realised: Realised, site: Site, built: Built, out: Outcomes, started: float) -> Result:
        scored = score(out, seed=self.options.seed)
        out.headlines = scored.draws
        scores = tuple(write_entry(entry) for entry in scored.entries)
        l0 = next((s.value for s in scores if s.name == "l0"), None)
        info = realised.info.model_copy(update={"l0": l0})
        skill, section, options = built.competence, built.section, self.options
        why = skill.reason or f"accuracy {skill.accuracy:.3f}"
        marked = () if skill.able else (f"model not competent: {why}",)
        return Result(
            id=self.id(info.sha256, site),
            created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            dictionary=info,
            model=ModelInfo(
                name=self.model.name,
                sha256=self.model.sha256,
                n_layers=self.model.n_layers,
                d_model=self.model.d_model,
            ),
            task=TaskInfo(
                name=self.task.name,
                version=self.task.spec.version,
                sha256=self.task.sha256,
                model_accuracy=skill.accuracy,
                n=SplitSizes(fit=len(section.fit), select=len(section.select), test=len(section.test)),
            ),
            site=str(site),
            budget=options.budget,
            seed=options.seed,
            axis_versions=self.versions,
            axes={name: write_headline(headline) for name, headline in scored.axes.items()},
            scores=scores,
            warnings=(*realised.warnings, *built.notes, *marked),
            provenance=provenance.gather(
                str(self.model.device),
                str(self.model.dtype).removeprefix("torch."),
                time.perf_counter() - started,
            ),
        )

    def score_or_reuse(
        self, contestant: Contestant, site: Site, out: Path | None, force: bool = False
    ) -> Result:
        """A finished result with the same id, under the name asked for, else a new one, saved."""
        realised = self.realise(contestant, site)
        if out is not None and not force:
            path = store.lookup(out, self.id(realised.info.sha256, site))
            if path is not None:
                found = store.load(path).result
                info = realised.info.model_copy(update={"l0": found.dictionary.l0})
                return found.model_copy(update={"dictionary": info})
        scored = self.score(realised, site)
        if out is None:
            # nothing is on disk to compare it by later
            return scored.result.with_outcomes(scored.outcomes)
        store.save(scored.result, scored.outcomes, out)
        return scored.result


def _position(hook: str, listed: Sequence[Site], default: str) -> str:
    return next((site.position for site in listed if site.hook == hook), default)
