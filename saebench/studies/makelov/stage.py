"""IOI on a model at a site, and the dictionaries that are looked at there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from saebench.axes.base import Bench, Subject
from saebench.dictionary import Intervention
from saebench.evaluation.api import make_arena
from saebench.evaluation.arena import Arena
from saebench.evaluation.contestants import resolve
from saebench.evaluation.options import Options
from saebench.models.language_model import LanguageModel
from saebench.scoring import Context
from saebench.scoring.estimates import Estimate, Maybe
from saebench.site import Site
from saebench.spec import NamesSpec, Task, load_task
from saebench.studies.rows import Row


@dataclass(frozen=True)
class Stage:
    """The bench of one site, with what names a row of a table."""

    arena: Arena
    task: Task[NamesSpec]
    site: Site

    @classmethod
    def of(
        cls, model: str, site: str | None, budget: str, seed: int = 0, sets: Sequence[str] = ()
    ) -> "Stage":
        """IOI on a model by name; without a site at the task's first. `sets` are attributes to edit at once.

        Raises:
            SaebenchError: for a wrong name.
        """
        task = load_task("ioi")
        arena = make_arena(task, model, Options(budget=budget, seed=seed, joint_edits=tuple(sets)))
        return cls(arena, cast(Task[NamesSpec], task), arena.sites([], site)[0])

    @cached_property
    def bench(self) -> Bench:
        return self.arena.bench(self.site)[1]

    @cached_property
    def ctx(self) -> Context:
        """Resamples of the prompts, those of every score."""
        return Context.of(self.bench.outcomes, self.arena.options.seed)

    @property
    def model(self) -> LanguageModel:
        model = self.arena.model
        assert isinstance(model, LanguageModel), "only tasks on language models have prompts"
        return model

    def subjects(self, names: Sequence[str]) -> Iterator[tuple[Row, Subject]]:
        """What begins a row, and the dictionary with its codes; what only edits is left out."""
        for contestant in (one for name in names for one in resolve(name)):
            realised = self.arena.realise(contestant, self.site)
            if not isinstance(realised.scorable, Intervention):
                yield self.row(contestant.name), Subject(realised.scorable, self.bench.section)

    def row(self, dictionary: str) -> Row:
        """Where something was measured, and of what."""
        options = self.arena.options
        return {
            "model": self.model.name,
            "task": self.task.name,
            "site": str(self.site),
            "budget": options.budget,
            "dictionary": dictionary,
        }


def cells(name: str, value: Maybe) -> Row:
    """A number with its interval; empty where it is undefined."""
    if not isinstance(value, Estimate):
        return {name: "", f"{name}_low": "", f"{name}_high": ""}
    low, high = value.interval()
    return {name: float(value), f"{name}_low": low, f"{name}_high": high}
