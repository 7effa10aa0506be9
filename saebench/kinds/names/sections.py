"""IOI: sentences about two people, one of them named twice.

Attributes `io`, `s` and `pos` (who is named first) determine the answer [Wang et al. 2022, §2;
PE §2]. Splits are by (IO, S) pair: the names sit on a circle in a seeded order, a pair is a name
and a distance, and each distance belongs to one split. So every name occurs equally often in every
split, in both roles, and a counterfactual that takes another distance of the same split stays in it.
"""

from collections.abc import Sequence
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from saebench.cross_section import Attribute, CrossSection, Listed, Read, Split
from saebench.dictionaries.supervised import Variable, independent, product
from saebench.kinds.base import Built, Competence, Settings, digests, require_position, spans_of
from saebench.kinds.names.prompts import (
    ROLES,
    Case,
    Prompt,
    counterfactual,
    draw_cases,
    split_distances,
    write_prompt,
)
from saebench.kinds.names.words import Words, token, usable_words
from saebench.kinds.sizes import Sizes
from saebench.kinds.templates import TemplateSkill, left_out, too_few, usable
from saebench.models.language_model import LanguageModel
from saebench.patching import PatchedReadout, Placement, remembered_beside
from saebench.patching.ordinary import ordinary_activations
from saebench.site import Site
from saebench.spec import NamesSpec, Task

ORDERS = ("abb", "bab")
"""Values of `pos`: IO first (A B … B), S first (B A … B)."""


class Size(NamedTuple):
    """How many names a budget uses, prompts per name in each split, and per template in the probe."""

    names: int
    fit: int
    select: int
    test: int
    probe: int


SIZES = Sizes(
    {
        "tiny": Size(12, 20, 12, 12, 20),
        "quick": Size(30, 50, 25, 25, 40),
        "standard": Size(100, 50, 30, 30, 100),
        "full": Size(10_000, 100, 50, 50, 200),
    },
    units=lambda size: size.names,
)


class Written(NamedTuple):
    """Cases with their tokens."""

    cases: list[Case]
    prompts: list[Prompt]


class Batch(NamedTuple):
    """Prompts of one split written out, with the sources of each attribute."""

    cases: list[Case]
    prompts: list[Prompt]
    sources: dict[str, Written]


class Drawn(NamedTuple):
    """All prompts of a task for one model, and how well it does on each template."""

    words: Words
    skills: tuple[TemplateSkill, ...]
    batches: dict[str, Batch]


def _labels(cases: Sequence[Case]) -> Tensor:
    return torch.tensor([(c.io, c.s, c.pos) for c in cases])


def _clusters(cases: Sequence[Case], n: int) -> Tensor:
    """The unordered pair of names: who gives and who gets are not independent draws."""
    return torch.tensor([min(c.io, c.s) * n + max(c.io, c.s) for c in cases])


def draw(task: Task[NamesSpec], model: LanguageModel, budget: str, seed: int) -> Drawn:
    """All prompts of a task for a model, seeded: the same seed gives the same prompts.

    Templates that the model cannot do are left out, unless too few would be left: then all stay,
    and the model is not competent. Drawn once for all sites of a model.
    """
    key = ("ioi", task.sha256, budget, seed)
    if key not in model.memo:
        model.memo[key] = _draw(task, model, budget, seed)
    return model.memo[key]


def _draw(task: Task[NamesSpec], model: LanguageModel, budget: str, seed: int) -> Drawn:
    words = usable_words(task, model)
    rng = np.random.default_rng([seed, 1])
    size = SIZES.of(budget)
    names = [words.names[i] for i in rng.permutation(len(words.names))[: size.names]]
    words = words._replace(names=tuple(names))
    n, distances = len(names), split_distances(len(names), rng)
    skills = probe(words, distances["select"], model, size.probe, seed)
    able = range(len(skills)) if too_few(skills) else usable(skills)
    batches = {}
    for split in ("fit", "select", "test"):
        templates = [i for i in words.of_split(split) if i in able]
        cases = draw_cases(n, distances[split], getattr(size, split), words, templates, rng)

        def write(drawn: list[Case]) -> Written:
            return Written(drawn, [write_prompt(c, words, model) for c in drawn])

        sources = {}
        if split == "test":
            for role in ROLES:
                sources[role] = write([counterfactual(c, role, n, distances[split], rng) for c in cases])
        batches[split] = Batch(*write(cases), sources)
    return Drawn(words, skills, batches)


def probe(
    words: Words, distances: Sequence[int], model: LanguageModel, per_template: int, seed: int
) -> tuple[TemplateSkill, ...]:
    """How well the model does on every template, over the same name pairs for each."""
    n, rng = len(words.names), np.random.default_rng([seed, 4])
    every = range(len(words.templates))
    # a turn holds each name once as IO
    turns = -(-per_template // n)
    drawn = draw_cases(n, distances, turns, words, [0], rng)
    picks = rng.permutation(len(drawn))[:per_template]
    cases = [drawn[i]._replace(template=t) for t in every for i in picks]
    prompts = [write_prompt(c, words, model) for c in cases]
    last = Site(f"blocks.{model.n_layers - 1}.hook_resid_post", "end")
    readout = _readout(cases, prompts, words, model, last)
    clean = readout.unedited()
    ahead = (clean.ld > 0).float().reshape(len(every), -1).mean(1).tolist()
    top = (clean.top == readout.answer).float().reshape(len(every), -1).mean(1).tolist()
    return tuple(
        TemplateSkill(text, i in words.held_out, ahead[i], top[i], len(picks))
        for i, text in enumerate(words.templates)
    )


def build(task: Task[NamesSpec], model: LanguageModel, site: Site, settings: Settings) -> Built:
    """Prompts of the task as a cross-section of the model at a site.

    Raises:
        TaskError: if the tokenizer leaves too few names or no template.
        SiteError: if the position is not one of the task's.
    """
    require_position(task, site)
    words, skills, batches = draw(task, model, settings.budget, settings.seed)
    settings.tick("prompts")
    splits = {}
    for name, batch in batches.items():
        splits[name] = _split(batch, words, model, site)
        settings.tick(f"activations of {name}")
    attributes = (Attribute("io", words.names), Attribute("s", words.names), Attribute("pos", ORDERS))
    fit = batches["fit"].prompts
    section = CrossSection(
        attributes,
        conjunctions=(("io", "pos"), ("s", "pos")),
        library=library(words),
        templates=words.templates,
        ordinary=partial(ordinary_activations, model, [p.tokens for p in fit], _placements(fit, site)),
        spans=spans_of(model, site),
        **splits,
    )
    reason = too_few(skills)
    competence = Competence.on(section.test, reason)
    left = None if reason else left_out(skills)
    notes = (*words.notes, left) if left else words.notes
    return Built(section, competence, notes, parametrizations(attributes), templates=skills)


def _placements(prompts: Sequence[Prompt], site: Site) -> list[Placement]:
    """The token of each of the site's parts in every prompt."""
    return [
        Placement(part.hook, torch.tensor([p.positions[part.position] for p in prompts]), part.head)
        for part in site.parts
    ]


def _readout(
    cases: Sequence[Case], prompts: Sequence[Prompt], words: Words, model: LanguageModel, site: Site
) -> PatchedReadout:
    """Answer IO, distractor S."""
    tokens = torch.tensor([token(model, n) for n in words.names])
    io, s, _ = _labels(cases).T
    places = _placements(prompts, site)
    return PatchedReadout(model, [p.tokens for p in prompts], places, tokens[io], tokens[s])


def library(words: Words) -> tuple[Listed, ...]:
    """What latents may stand for beside roles: a name anywhere, first or second, and women's or men's."""
    n, women = len(words.names), torch.tensor([name in words.women for name in words.names]).long()

    def first(labels: torch.Tensor) -> torch.Tensor:
        return torch.where(labels[:, 2] == 0, labels[:, 0], labels[:, 1])[:, None]

    def second(labels: torch.Tensor) -> torch.Tensor:
        return torch.where(labels[:, 2] == 0, labels[:, 1], labels[:, 0])[:, None]

    found = [
        Listed("name anywhere", n, lambda labels: labels[:, :2]),
        Listed("name first", n, first),
        Listed("name second", n, second),
    ]
    if words.women:
        for at, role in enumerate(("io", "s")):
            found.append(Listed(f"{role} gender", 2, partial(_recoded, women, at)))
    return tuple(found)


def _recoded(recode: torch.Tensor, at: int, labels: torch.Tensor) -> torch.Tensor:
    return recode.to(labels.device)[labels[:, at]][:, None]


def _split(batch: Batch, words: Words, model: LanguageModel, site: Site) -> Split:
    def put(labels: Tensor) -> Tensor:
        return labels.to(model.device)

    readout: PatchedReadout = _readout(batch.cases, batch.prompts, words, model, site)
    labels = _labels(batch.cases)
    source_acts = _source_acts(batch, model, site)
    # the answer that a perfect edit gives is the arg-max under the source activation itself [PE]
    patched = readout.remembered(source_acts)
    return Split(
        # where edits are run their clean run is needed anyway
        readout.clean() if batch.sources else activations(batch.prompts, model, site),
        put(labels),
        put(_clusters(batch.cases, len(words.names))),
        readout,
        source_acts,
        {role: put(_labels(source.cases)) for role, source in batch.sources.items()},
        {role: patched[role].top for role in source_acts},
        # names recur across pairs, in either role
        units=put(labels[:, :2]),
        source_units={role: put(_labels(source.cases)[:, :2]) for role, source in batch.sources.items()},
        template=put(torch.tensor([c.template for c in batch.cases])),
        text=put(digests(p.tokens for p in batch.prompts)),
        reader=cache(partial(_read, batch, model, site.position)),
    )


def activations(prompts: Sequence[Prompt], model: LanguageModel, site: Site) -> Tensor:
    """What a site holds on some prompts, in the memory that all processes share."""
    return remembered_beside(model, [p.tokens for p in prompts], _placements(prompts, site))


def _source_acts(batch: Batch, model: LanguageModel, site: Site) -> dict[str, Tensor]:
    """Of all sources together: they share much with each other."""
    if not batch.sources:
        return {}
    together = activations([p for source in batch.sources.values() for p in source.prompts], model, site)
    return dict(zip(batch.sources, together.split(len(batch.prompts)), strict=True))


def _read(batch: Batch, model: LanguageModel, position: str, hook: str) -> Read:
    """What another hook point holds at the same tokens."""
    there = Site(hook, position)
    return Read(activations(batch.prompts, model, there), _source_acts(batch, model, there))


def parametrizations(attributes: tuple[Attribute, ...]) -> dict[str, tuple[Variable, ...]]:
    """`independent` (default); `coupled` {(IO,Pos), (S,Pos)}; `names` {name1, name2, name3} [PE §3].

    `names` asks who stands at a place rather than in a role: a bad choice, kept as a negative
    control.
    """
    n = len(attributes[0].values)
    place = torch.arange(n * n * 2)
    io, s, pos = place // (2 * n), place // 2 % n, place % 2
    strides = (2 * n, 2, 1)
    first, second = torch.where(pos == 0, io, s), torch.where(pos == 0, s, io)
    by_place = tuple(
        Variable(name, (0, 1, 2), strides, n, recode)
        for name, recode in (("name1", first), ("name2", second), ("name3", s))
    )
    coupled = (product(attributes, ("io", "pos")), product(attributes, ("s", "pos")))
    return {"independent": independent(attributes), "coupled": coupled, "names": by_place}
