"""Scoring dictionaries: one bench per task and site, shared by everything that is scored there.

A finished result is looked for before anything is loaded; torch is imported when a bench is made.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from saebench.errors import CheckpointError, OptionError, SiteError, TrainingDataError, unknown
from saebench.evaluation.contestants import Contestant, Realised
from saebench.evaluation.finding import find_sites
from saebench.evaluation.options import Options
from saebench.evaluation.sources import Source
from saebench.records import provenance, store
from saebench.records.memo import Memo
from saebench.records.outcomes import Outcomes
from saebench.records.result import ModelInfo, Result, SplitSizes, TaskInfo
from saebench.records.site_list import read_sites
from saebench.scoring.axes import asked_for, axes_with, versions
from saebench.scoring.settings import EDIT_SIZES
from saebench.site import Site, residual
from saebench.spec import Task

if TYPE_CHECKING:
    from saebench.axes.base import Bench
    from saebench.cross_section import CrossSection
    from saebench.evaluation.sources import Model
    from saebench.kinds.base import Built

Tick = Callable[[str], None]
NOT_COMPETENT = "model not competent"


class Scored(NamedTuple):
    """A result and the outcomes it was computed from."""

    result: Result
    outcomes: Outcomes


@dataclass
class Arena:
    """A task and a model, with the benches of the sites that were asked for so far."""

    task: Task
    source: Source
    options: Options = field(default_factory=Options)
    tick: Tick = lambda _: None
    keep: int | None = None
    """Benches that stay in memory, those asked for last; without a number all of them."""
    _benches: "dict[Site, tuple[Built, Bench]]" = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sets = self.task.spec.sets_of(self.options.joint_edits)

    @property
    def model(self) -> "Model":
        """The language model or generator, loaded when it is first asked for."""
        return self.source.model

    @contextmanager
    def _exact(self) -> Iterator[None]:
        """Full precision, fixed orders of summation, and nothing of the caller's settings moved."""
        from saebench.models.devices import exact, few_threads
        from saebench.models.surroundings import undisturbed

        with undisturbed(), exact(self.model.device), few_threads(self.model.d_model):
            yield

    def sites(self, hooks: Sequence[str | None], asked: str | None) -> list[Site]:
        """The sites to score at: those asked for, else where SAEs were trained, else the task's.

        Where the task has none for the model, discovery looks for them.

        Raises:
            SiteError: if none of these says where.
        """
        known = self.source.facts
        listed = [Site.parse(text) for text in self.task.spec.sites_of(known.name, known.sha256)]
        if self.task.spec.generates:
            return self._only_site(asked)
        everywhere = [Site.parse(t) for texts in self.task.spec.sites.values() for t in texts]
        position = next((s.position for s in (*listed, *everywhere)), "end")
        if asked == "all":
            points = {*residual(list(self.source.facts.hook_points)), *filter(None, hooks)}
            return sorted((Site.parse(h, position) for h in points), key=Site.sort_key)
        if asked and (asked.endswith(".toml") or Path(asked).is_dir()):
            return read_sites(Path(asked).expanduser())
        if asked:
            return [Site.parse(part, position) for part in asked.split(",")]
        if not listed:
            return find_sites(self.task, self.source, self.options, hooks)
        at = {site.place: site.position for site in reversed(listed)}
        found = {Site.parse(hook, at.get(hook, position)) for hook in hooks if hook}
        return sorted(found, key=Site.sort_key) or listed

    def require_place(self, contestant: Contestant, asked: str | None) -> None:
        """Raises for an SAE that does not say where it was trained, where nobody else does.

        A task's default site is for rows that belong to no place; an SAE scored at another place than
        its own gives numbers that mean nothing.

        Raises:
            SiteError: with what to add.
        """
        nowhere = contestant.d_sae is not None and contestant.hook is None
        if nowhere and not asked and not self.task.spec.generates:
            raise SiteError(
                f"{contestant.name} does not name the hook point that it was trained at. Add --site"
                " HOOK@POSITION (in Python: site=…), for example --site blocks.1.hook_resid_pre@end."
            )

    def _only_site(self, asked: str | None) -> list[Site]:
        """A generator's one site."""
        only = Site(self.source.facts.hook_points[0], self.task.spec.positions[0])
        if asked not in (None, "all", str(only), only.hook):
            raise SiteError(f"Task {self.task.name!r} has the one site {only}, not {asked!r}.")
        return [only]

    def bench(self, site: Site) -> "tuple[Built, Bench]":
        """Activations, ceiling and reference outcomes of a site, made once while it is kept."""
        made = self._benches.pop(site, None)
        if made is None:
            while self.keep is not None and len(self._benches) >= self.keep:
                # before the next is made, so that no more than that many are ever there
                del self._benches[next(iter(self._benches))]
            with self._exact():
                made = self._make(site)
        self._benches[site] = made
        return made

    def forget(self) -> None:
        """Lets all benches go."""
        self._benches.clear()

    def _make(self, site: Site) -> "tuple[Built, Bench]":
        from saebench.axes.bench import make_bench
        from saebench.dictionaries.supervised import CEILING, fit_supervised
        from saebench.evaluation.several_sites import make_benches
        from saebench.kinds import KINDS
        from saebench.kinds.base import Settings

        options, spec = self.options, self.task.spec
        built = KINDS[spec.kind].build(
            self.task, self.model, site, Settings(options.budget, options.seed, self.tick, self.sets)
        )
        if not options.allow_incompetent:
            built.competence.require(self.source.name, self.task.name)
        section, method = built.section, "mean" if options.supervised == "mean" else CEILING
        variables = built.parametrizations.get(options.parametrization)
        if variables is None:
            known = built.parametrizations
            raise OptionError(unknown("parametrization", options.parametrization, known))

        def make(section: "CrossSection", axes: list[str]) -> "Bench":
            atoms = fit_supervised(section)
            ceiling = section.truth or fit_supervised(section, method, variables)
            return make_bench(section, ceiling, atoms, (), built.facts, options.seed, self.tick, axes)

        return built, make_benches(section, self.further, make)

    @property
    def further(self) -> tuple[str, ...]:
        """Axes beside those of every task: what the kind brings, and what the options ask for."""
        return (*self.task.spec.further_axes, *asked_for(self.options))

    @property
    def versions(self) -> dict[str, int]:
        """Versions of the axes measured: those of every task, then the further ones."""
        return versions(self.further)

    def id(self, sha256: str, site: Site) -> str:
        """Digest of everything that can change a number."""
        options, axes = self.options, axes_with(self.further)
        sets = {"joint_edits": sorted(self.sets)} if self.sets else {}
        return provenance.identity(
            dictionary=sha256,
            model=self.source.facts.sha256,
            task=self.task.sha256,
            site=str(site),
            supervised=options.supervised,
            parametrization=options.parametrization,
            edit_sizes=EDIT_SIZES,
            axes=self.versions,
            **{name: value for axis in axes.values() for name, value in axis.settings.items()},
            **sets,
            budget=options.budget,
            seed=options.seed,
            dtype=self.source.dtype,
            device=self.source.device,
        )

    def realise(self, contestant: Contestant, site: Site) -> Realised:
        """The contestant as it stands at a site (a control is made from the site's activations).

        Raises:
            TrainingDataError: for an SAE that was not trained on the task's own data.
            CheckpointError: for one that was replaced since it was looked at.
        """
        self.require_its_data(contestant)
        strange = self._not_its_data(contestant)
        from saebench.evaluation import several_sites

        _, bench = self.bench(site)
        with self._exact():
            realised = several_sites.realise(contestant, site, bench, self.options.seed)
        if contestant.sha256 not in (None, realised.info.sha256):
            raise CheckpointError(
                f"{contestant.name} was replaced after it was looked at: its digest was"
                f" {str(contestant.sha256)[:12]}, now it is {realised.info.sha256[:12]}. Expected the same"
                " weights. Give the command again to score what lies there now."
            )
        marked = [*realised.warnings, *self._strangeness(contestant, site)]
        if strange:
            marked.append(f"scored with --force-mismatch: {strange}")
        return realised._replace(warnings=tuple(marked))

    def _strangeness(self, contestant: Contestant, site: Site) -> list[str]:
        """What an SAE says of its training that is otherwise here, as warnings.

        Raises:
            TrainingDataError: with `strict`.
        """
        if contestant.d_sae is None or self.task.spec.generates:
            return []
        from saebench.models.language_model import LanguageModel
        from saebench.models.provenance import elsewhere, strangeness

        assert isinstance(self.model, LanguageModel), "tasks that generate their data have no other model"
        found: list[str] = []
        for part in site.parts:
            sae = contestant.part(part)
            said = [*strangeness(sae.model_name, sae.prepend_bos, self.model), *elsewhere(sae.hook, part)]
            found += [text for text in said if text not in found]
        if found and self.options.strict:
            raise TrainingDataError(
                f"{contestant.name}: {'; '.join(found)}. --strict refuses that; without it the SAE is scored and"
                " the result says so."
            )
        return found

    def require_its_data(self, contestant: Contestant) -> None:
        """Raises for an SAE that was trained on other data than the task's.

        Raises:
            TrainingDataError: with both names.
        """
        if self.refuses(contestant):
            raise TrainingDataError(
                f"{self._not_its_data(contestant)} Expected an SAE trained on this data: `saebench train"
                f" --task {self.task.name} …` trains one; --force-mismatch scores it all the same and marks"
                " the result."
            )

    def refuses(self, contestant: Contestant) -> bool:
        """Whether `realise` would raise for an SAE that was trained on other data."""
        return not self.options.force_mismatch and self._not_its_data(contestant) is not None

    def _not_its_data(self, contestant: Contestant) -> str | None:
        """Why an SAE does not belong to this task; None for controls and where it does."""
        if contestant.d_sae is None or contestant.task_sha256 == self.task.sha256:
            return None
        if contestant.task_sha256 is None:
            where = f"{contestant.name} does not say that it was trained on synthetic data, and"
            return f"{where} {self.task.name!r} is a synthetic task." if self.task.spec.generates else None
        at = f"{contestant.task!r} (digest {contestant.task_sha256[:12]})"
        here = f"{self.task.name!r} (digest {self.task.sha256[:12]})"
        return f"{contestant.name} was trained on the data of {at}, not of {here}."

    def known_l0(self, contestant: Contestant, site: Site) -> float | None:
        """`sample_l0`, if it was measured before."""
        return self._l0_memo(contestant.sha256, site).recall() if contestant.sha256 else None

    def _l0_memo(self, digest: str, site: Site) -> Memo:
        return Memo("l0", id=self.id(digest, site))

    def sample_l0(self, contestant: Contestant, site: Site) -> float:
        """Mean latents on, a site, over the first 512 prompts of `fit`: what random controls are matched to."""
        known = self.known_l0(contestant, site)
        if known is None:
            from saebench.dictionaries.codes import encode_split
            from saebench.dictionary import Dictionary

            section = self.bench(site)[0].section
            dictionary = self.realise(contestant, site).scorable
            assert isinstance(dictionary, Dictionary)
            fit = (section if dictionary.reads is None else section.read_at(dictionary.reads)).fit
            codes = encode_split(dictionary, fit.acts[:512], fit.known.at(slice(0, 512))).codes
            known = float(codes.per_row.float().mean()) / len(site.parts)
            if contestant.sha256:
                self._l0_memo(contestant.sha256, site).keep(known)
        return known

    def score(self, realised: Realised, site: Site) -> Scored:
        """Measures all axes and scores them."""
        from saebench.evaluation import several_sites

        started = time.perf_counter()
        built, bench = self.bench(site)
        with self._exact():
            out = several_sites.measure(realised, bench, self.options.seed, self.tick)
        result = self._write(realised, site, built, out, started)
        return Scored(result, out)

    def _write(self, realised: Realised, site: Site, built: "Built", out: Outcomes, started: float) -> Result:
        from saebench.scoring import score, write_entry, write_headline

        scored = score(out, seed=self.options.seed)
        out.headlines = scored.draws
        scores = tuple(write_entry(entry) for entry in scored.entries)
        l0 = next((s.value for s in scores if s.name == "l0"), None)
        info = realised.info.model_copy(update={"l0": l0})
        skill, section, options = built.competence, built.section, self.options
        why = skill.reason or f"accuracy {skill.accuracy:.3f}"
        marked = () if skill.able else (f"{NOT_COMPETENT}: {why}",)
        return Result(
            id=self.id(info.sha256, site),
            created=provenance.now(),
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
        within = None if force else out
        made = self.reused(contestant, site, within) or self.made(contestant, site, within)
        if isinstance(made, Result):
            return made
        if out is None:
            # nothing is on disk to compare it by later
            return made.result.with_outcomes(made.outcomes)
        store.save(made.result, made.outcomes, out)
        return made.result

    def reused(self, contestant: Contestant, site: Site, out: Path | None) -> Result | None:
        """The finished result in `out` with the same id, under the name asked for.

        Raises:
            TrainingDataError: for what would not be scored now, even if it once was.
        """
        self.require_its_data(contestant)
        if self.options.strict:
            # a finished result may have been scored without it
            self._strangeness(contestant, site)
        return self._stored(contestant, contestant.sha256, site, out)

    def made(self, contestant: Contestant, site: Site, out: Path | None) -> Scored | Result:
        """A new result; one in `out` where only the site's activations have told the digest."""
        realised = self.realise(contestant, site)
        if contestant.sha256 is None:
            # its digest is known only now that its input scale was measured here
            stored = self._stored(contestant, realised.info.sha256, site, out)
            if stored is not None:
                return stored
        return self.score(realised, site)

    def _stored(
        self, contestant: Contestant, sha256: str | None, site: Site, out: Path | None
    ) -> Result | None:
        """The finished result of a digest, if there is one that may be shown without a further check."""
        path = store.lookup(out, self.id(sha256, site)) if out is not None and sha256 else None
        if path is None:
            return None
        result = store.load(path).result
        incompetent = any(warning.startswith(NOT_COMPETENT) for warning in result.warnings)
        if incompetent and not self.options.allow_incompetent:
            return None
        if self.options.strict and any(warning.startswith("trained on") for warning in result.warnings):
            return None
        return result.model_copy(update={"dictionary": contestant.described(result.dictionary)})
