"""A board on which dictionaries are measured: headlines with draws that are paired across all of them."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from jaxtyping import Float
from torch import Tensor

from saebench.audit.committed import definition, numbers
from saebench.audit.rows import Row
from saebench.axes.base import Bench
from saebench.axes.bench import make_bench
from saebench.dictionaries.supervised import CEILING, fit_supervised
from saebench.dictionary import Scorable
from saebench.evaluation.api import make_arena
from saebench.evaluation.contestants import resolve
from saebench.evaluation.options import Options
from saebench.kinds import KINDS
from saebench.kinds.base import Settings
from saebench.models.devices import exact
from saebench.records.outcomes import Outcomes
from saebench.scoring import Scored, score
from saebench.scoring.axes import AXES, EVERY, with_what_they_read
from saebench.scoring.base import Headline
from saebench.scoring.estimates import N_RESAMPLES


class Stand:
    """One task at one site, drawn with one seed and budget.

    `light` leaves out control where a further axis heads it: on RAVEL it learns masks and rotations, which
    takes minutes a dictionary.
    """

    def __init__(
        self, task: str, model: Any, seed: int, budget: str, site: str | None = None, light: bool = False
    ) -> None:
        self.task, self.seed, self.budget = task, seed, budget
        self.arena = make_arena(task, model, Options(budget=budget, seed=seed))
        self.site = self.arena.sites([], site)[0]
        further = self.arena.task.spec.further_axes
        heavy = [name for name in further if EVERY[name].heads]
        self.bench: Bench = self._light(heavy) if light and heavy else self.arena.bench(self.site)[1]
        left_out = {EVERY[name].heads for name in heavy} if light else set()
        self.axes = tuple(name for name in AXES if name not in left_out)

    def _light(self, heavy: list[str]) -> Bench:
        kind, settings = KINDS[self.arena.task.spec.kind], Settings(self.budget, self.seed)
        built = kind.build(self.arena.task, self.arena.model, self.site, settings)
        atoms = fit_supervised(built.section)
        further = [name for name in self.arena.task.spec.further_axes if name not in heavy]
        ceiling = built.section.truth or fit_supervised(built.section, CEILING)
        return make_bench(built.section, ceiling, atoms, further, built.facts, self.seed)

    @property
    def board(self) -> str:
        """The name of the board, as the leaderboard titles it."""
        return f"{self.task} · {self.arena.model.name} · {self.site}"

    @property
    def acts(self) -> Float[Tensor, "n d_in"]:
        """Activations of `fit`."""
        return self.bench.section.fit.acts

    def dictionary(self, name: str) -> Any:
        """A dictionary by its name on the command line, made for this site."""
        (found,) = resolve(name)
        return found.at(self.bench).scorable

    def scored(
        self, dictionary: Scorable, axes: Collection[str] = (), n_resamples: int = N_RESAMPLES
    ) -> tuple[Outcomes, Scored]:
        """Per-prompt outcomes and what they give, of all axes or of those named and what heads them."""
        asked = with_what_they_read(axes or self.axes)
        measures = {k: m for k, m in self.bench.measures.items() if k in asked or EVERY[k].heads in asked}
        if not axes:
            measures |= {k: m for k, m in self.bench.measures.items() if EVERY[k].further}
        with exact(self.acts.device):
            out = replace(self.bench, measures=measures).measure(dictionary, self.seed)
        return out, score(out, self.seed, n_resamples)

    def headlines(
        self, dictionary: Scorable, axes: Collection[str] = (), n_resamples: int = N_RESAMPLES
    ) -> Mapping[str, Headline]:
        """Headlines of all axes, or of those named."""
        found = self.scored(dictionary, axes, n_resamples)[1].axes
        return {name: found[name] for name in axes or self.axes}

    def rows(
        self, dictionary: Scorable, group: str, name: str, draws: bool = True, **fields: Any
    ) -> list[Row]:
        """A row for every axis."""
        base = Row(self.board, group, name, "", None, task_seed=self.seed, budget=self.budget, **fields)
        known, digest = self.arena.versions, self.arena.task.sha256
        return [
            base._replace(
                axis=axis, definition=definition(axis, known, self.task, digest), **numbers(headline, draws)
            )
            for axis, headline in self.headlines(dictionary).items()
        ]
