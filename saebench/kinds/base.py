"""What a task kind hands over: cross-sections, and how well the model does the task at all."""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from saebench.cross_section import CrossSection, Split
from saebench.dictionaries.supervised import Variable
from saebench.errors import IncompetentModelError, SiteError
from saebench.kinds.templates import TemplateSkill
from saebench.models.language_model import LanguageModel
from saebench.records.outcomes import Key
from saebench.scoring.estimates import Interval, wilson
from saebench.site import Site, Span
from saebench.spec import Task

Tick = Callable[[str], None]
"""Called with a short description whenever a piece of work is done."""


class Settings(NamedTuple):
    """How much of a task to build, and with what."""

    budget: str = "quick"
    seed: int = 0
    tick: Tick = lambda _: None
    sets: Mapping[str, tuple[str, ...]] = {}
    """Attributes that a source has to change at once, by name (`s+pos`), for tasks that can."""


@dataclass(frozen=True)
class Competence:
    """Share of prompts with LD > 0 in the clean run. Answers are also counted by arg-max."""

    accuracy: float
    interval: Interval
    argmax: float
    n: int
    reason: str | None = None
    """Why the model does not do the task although it may be right often enough on the whole."""
    least: float = 0.7
    """The share from which a model does the task; lower where prompts answered wrongly are left out."""
    chance: float = 0.5

    @classmethod
    def of(
        cls,
        ld: np.ndarray,
        right: np.ndarray,
        reason: str | None = None,
        least: float = 0.7,
        chance: float = 0.5,
    ) -> "Competence":
        hits = int((ld > 0).sum())
        interval = wilson(hits, len(ld))
        return cls(hits / len(ld), interval, float(right.mean()), len(ld), reason, least, chance)

    @classmethod
    def on(cls, test: Split, reason: str | None = None) -> "Competence":
        """Of the clean run of a split."""
        clean = test.readout.remembered({"clean": test.acts})["clean"]
        right = (clean.top == test.readout.answer).float().numpy(force=True)
        return cls.of(clean.ld.numpy(force=True), right, reason)

    @property
    def able(self) -> bool:
        """Often enough, credibly above chance, and in enough phrasings."""
        return self.reason is None and self.accuracy >= self.least and self.interval[0] > self.chance

    def require(self, model: str, task: str) -> None:
        """Raises for a model that does not do the task.

        Raises:
            IncompetentModelError: with what it does instead.
        """
        if self.reason is not None:
            raise IncompetentModelError(
                f"Model {model!r} does not do task {task!r} in enough phrasings: {self.reason}: scores would"
                " measure noise. Use a model that can do the task, or --allow-incompetent to score on all"
                " templates and mark it."
            )
        if not self.able:
            low, high = self.interval
            raise IncompetentModelError(
                f"Model {model!r} does not do task {task!r}: on {self.accuracy:.1%} of {self.n} prompts the right"
                f" answer beats the wrong one (95 % interval {low:.1%}–{high:.1%}, chance {self.chance:.0%};"
                f" arg-max right on {self.argmax:.1%}). Expected at least {self.least:.0%}: scores would measure"
                " noise. Use a model that can do the task, or --allow-incompetent to score and mark it."
            )


@dataclass(frozen=True)
class Built:
    """A task on a model at a site, ready for the axes."""

    section: CrossSection
    competence: Competence
    notes: tuple[str, ...] = ()
    """What was left out and why (names, templates, values), for the user."""
    parametrizations: Mapping[str, tuple[Variable, ...]] = field(default_factory=dict)
    """Ways to cut the labels into atoms; the first is the default."""
    shares: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """Numbers of the task itself by score and attribute, e.g. the share of prompts kept."""
    templates: tuple[TemplateSkill, ...] = ()
    """How well the model does on every phrasing, for kinds that measure it."""

    @property
    def facts(self) -> dict[Key, float]:
        """Numbers of the task itself, as they stand among the outcomes."""
        facts = {Key("task", name, attribute): value for (name, attribute), value in self.shares.items()}
        for number, skill in enumerate(self.templates):
            facts[Key("task", "template_accuracy", k=number)] = skill.accuracy
            facts[Key("task", "template_argmax", k=number)] = skill.argmax
        return facts


def digests(texts: Iterable[Sequence[int]]) -> Int[Tensor, "n"]:
    """A number for every text that follows from its tokens alone."""
    return torch.tensor([zlib.crc32(np.asarray(tokens, dtype=np.int64).tobytes()) for tokens in texts])


def require_position(task: Task, site: Site) -> None:
    """Raises if the position of a site is not one of the task's.

    Raises:
        SiteError: naming those it has.
    """
    for part in site.parts:
        if part.position not in task.spec.positions:
            raise SiteError(
                f"Site {str(part)!r} has position {part.position!r}; task {task.name!r} has"
                f" {', '.join(task.spec.positions)}."
            )


def spans_of(model: LanguageModel, site: Site) -> tuple[Span, ...]:
    """Which columns of activations side by side belong to which site; empty for one site."""
    found, start = [], 0
    for part in site.parts if site.beside else ():
        stop = start + model.d_in(part.hook, part.head)
        found.append(Span(str(part), start, stop))
        start = stop
    return tuple(found)


def no_generator(task: Task, device: str) -> NoReturn:
    raise AssertionError(f"tasks of kind {task.spec.kind!r} are about language models")
