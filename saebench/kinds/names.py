"""IOI: sentences about two people, one of them named twice.

Attributes `io`, `s` and `pos` (who is named first) determine the answer [Wang et al. 2022, §2;
PE §2]. Splits are by (IO, S) pair: the names sit on a circle in a seeded order, a pair is a name
and a distance, and each distance belongs to one split. So every name occurs equally often in every
split, in both roles, and a counterfactual that takes another distance of the same split stays in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from saebench.cross_section import Attribute, CrossSection, Readout, Split
from saebench.dictionaries.supervised import Variable, independent, product
from saebench.errors import SiteError, TaskError
from saebench.kinds.base import Built, Competence, Settings
from saebench.models.language_model import LanguageModel
from saebench.patching import PatchedReadout, Placement, capture
from saebench.site import Site
from saebench.spec import NamesSpec, Task

POSITIONS = ("io", "s1", "s1+1", "s2", "end")
MIN_NAMES = 20
ORDERS = ("abb", "bab")
"""Values of `pos`: IO first (A B … B), S first (B A … B)."""


class Size(NamedTuple):
    """How many names a budget uses, and prompts per name in each split."""

    names: int
    fit: int
    select: int
    test: int


SIZES = {"quick": Size(30, 50, 25, 25), "standard": Size(100, 50, 30, 30), "full": Size(10_000, 100, 50, 50)}


class Case(NamedTuple):
    """One prompt before it is written out."""

    io: int
    s: int
    pos: int
    template: int
    place: str
    object: str


@dataclass(frozen=True)
class Words:
    """What of a task's word lists a tokenizer can use."""

    names: tuple[str, ...]
    templates: tuple[str, ...]
    places: tuple[str, ...]
    objects: tuple[str, ...]
    notes: tuple[str, ...]


class Prompt(NamedTuple):
    tokens: list[int]
    positions: dict[str, int]


def usable_words(task: Task, model: LanguageModel) -> Words:
    """Names that are one token after a space, and templates in which names stay whole tokens.

    Raises:
        TaskError: if fewer than 20 names or no template is left.
    """
    spec = task.spec
    assert isinstance(spec, NamesSpec)
    listed = task.words(spec.lists["names"])
    names = tuple(n for n in listed if model.single_token(" " + n) is not None)
    if len(names) < MIN_NAMES:
        raise TaskError(
            f"Task {task.name!r} needs names that are one token with a leading space; {model.name!r}"
            f" has {len(names)} of {len(listed)} ({', '.join(names[:5]) or 'none'}…)."
            f" Expected at least {MIN_NAMES}: use a model with a larger vocabulary, or a task folder"
            " with names it knows (`--tasks DIR`)."
        )
    templates = tuple(t for t in spec.templates if _aligns(t, names[:3], model))
    if not templates:
        raise TaskError(
            f"No template of task {task.name!r} keeps its names as single tokens under the tokenizer"
            f" of {model.name!r}. Expected `{{first}}`, `{{second}}` and `{{s}}` after a space."
        )
    notes = []
    if len(names) < len(listed):
        notes.append(f"{len(names)} of {len(listed)} names are single tokens of this model")
    if len(templates) < len(spec.templates):
        notes.append(f"{len(templates)} of {len(spec.templates)} templates align in this model")
    places, objects = task.words(spec.lists["place"]), task.words(spec.lists["object"])
    return Words(names, templates, places, objects, tuple(notes))


def _fill(template: str, case: Case, names: Sequence[str]) -> str:
    pair = (names[case.io], names[case.s])
    first, second = pair if case.pos == 0 else pair[::-1]
    return template.format(first=first, second=second, s=names[case.s], place=case.place, object=case.object)


def _aligns(template: str, names: Sequence[str], model: LanguageModel) -> bool:
    """Whether the names are found, once and twice, as tokens of the filled template."""
    tokens = model.tokens(_fill(template, Case(0, 1, 0, 0, "park", "book"), names))
    io, s = (_token(model, n) for n in names[:2])
    return tokens.count(io) == 1 and tokens.count(s) == 2


def _token(model: LanguageModel, name: str) -> int:
    token = model.single_token(" " + name)
    assert token is not None, f"{name} was kept as a single token"
    return token


def write_prompt(case: Case, words: Words, model: LanguageModel) -> Prompt:
    """Tokens of a case, and where its semantic positions are."""
    tokens = model.tokens(_fill(words.templates[case.template], case, words.names))
    io, s = (_token(model, words.names[n]) for n in (case.io, case.s))
    first = tokens.index(s)
    second = tokens.index(s, first + 1)
    found = {"io": tokens.index(io), "s1": first, "s1+1": first + 1, "s2": second}
    return Prompt(tokens, found | {"end": len(tokens) - 1})


def split_distances(n: int, rng: np.random.Generator) -> dict[str, list[int]]:
    """Distances on the circle of n names, dealt 40 : 30 : 30; d and n − d go together."""
    folded = rng.permutation(np.arange(1, n // 2 + 1))
    fit, select = round(0.4 * len(folded)), round(0.7 * len(folded))
    parts = {"fit": folded[:fit], "select": folded[fit:select], "test": folded[select:]}
    return {name: sorted({int(d) for d in part} | {int(n - d) for d in part}) for name, part in parts.items()}


def draw_cases(
    n: int, distances: Sequence[int], per_name: int, words: Words, rng: np.random.Generator
) -> list[Case]:
    """`per_name` prompts for every name as IO, and as many as S; orders and templates balanced."""
    cases = []
    for turn in range(per_name):
        distance = distances[turn % len(distances)]
        for io in range(n):
            cases.append(
                Case(
                    io,
                    (io + distance) % n,
                    (turn + io) % 2,
                    int(rng.integers(len(words.templates))),
                    words.places[int(rng.integers(len(words.places)))],
                    words.objects[int(rng.integers(len(words.objects)))],
                )
            )
    return cases


def counterfactual(
    case: Case, attribute: str, n: int, distances: Sequence[int], rng: np.random.Generator
) -> Case:
    """The same sentence with one attribute changed, its pair in the same split.

    `pos`: the order is flipped. `s`: replaced in both places. `io`: replaced.
    """
    if attribute == "pos":
        return case._replace(pos=1 - case.pos)
    now = (case.s - case.io) % n
    others = [d for d in distances if d != now]
    distance = others[int(rng.integers(len(others)))]
    if attribute == "s":
        return case._replace(s=(case.io + distance) % n)
    return case._replace(io=(case.s - distance) % n)


class Batch(NamedTuple):
    """Prompts of one split written out, with the sources of each attribute."""

    cases: list[Case]
    prompts: list[Prompt]
    sources: dict[str, tuple[list[Case], list[Prompt]]]


def _labels(cases: Sequence[Case]) -> torch.Tensor:
    return torch.tensor([(c.io, c.s, c.pos) for c in cases])


def _clusters(cases: Sequence[Case], n: int) -> torch.Tensor:
    """The unordered pair of names: who gives and who gets are not independent draws."""
    return torch.tensor([min(c.io, c.s) * n + max(c.io, c.s) for c in cases])


def draw(task: Task, model: LanguageModel, budget: str, seed: int) -> tuple[Words, dict[str, Batch]]:
    """All prompts of a task for a tokenizer, seeded: the same seed gives the same prompts."""
    words = usable_words(task, model)
    rng = np.random.default_rng([seed, 1])
    size = SIZES[budget]
    names = [words.names[i] for i in rng.permutation(len(words.names))[: size.names]]
    words = Words(tuple(names), words.templates, words.places, words.objects, words.notes)
    n = len(names)
    distances = split_distances(n, rng)
    batches = {}
    for split in ("fit", "select", "test"):
        cases = draw_cases(n, distances[split], getattr(size, split), words, rng)
        sources = {}
        if split == "test":
            for attribute in ("io", "s", "pos"):
                others = [counterfactual(c, attribute, n, distances[split], rng) for c in cases]
                sources[attribute] = (others, [write_prompt(c, words, model) for c in others])
        batches[split] = Batch(cases, [write_prompt(c, words, model) for c in cases], sources)
    return words, batches


def build(task: Task, model: LanguageModel, site: Site, settings: Settings) -> Built:
    """Prompts of the task as a cross-section of the model at a site.

    Raises:
        TaskError: if the tokenizer leaves too few names or no template.
        SiteError: if the position is not one of the task's.
    """
    if site.position not in POSITIONS:
        raise SiteError(
            f"Site {str(site)!r} has position {site.position!r}; task {task.name!r} has"
            f" {', '.join(POSITIONS)}."
        )
    words, batches = draw(task, model, settings.budget, settings.seed)
    splits = {}
    for name, batch in batches.items():
        splits[name] = _split(batch, words, model, site, settings.memory_bytes)
        settings.tick(f"activations of {name}")
    attributes = (Attribute("io", words.names), Attribute("s", words.names), Attribute("pos", ORDERS))
    section = CrossSection(attributes, conjunctions=(("io", "pos"), ("s", "pos")), **splits)
    clean = section.test.readout.run({"clean": section.test.acts})["clean"]
    right = (clean.top == section.test.readout.answer).float().numpy(force=True)
    competence = Competence.of(clean.ld.numpy(force=True), right)
    return Built(section, competence, words.notes, parametrizations(attributes))


def _split(batch: Batch, words: Words, model: LanguageModel, site: Site, memory_bytes: int | None) -> Split:
    def acts(prompts: list[Prompt]) -> torch.Tensor:
        return capture(model, [p.tokens for p in prompts], {site: place(prompts)})[site]

    def place(prompts: list[Prompt]) -> Placement:
        at = torch.tensor([p.positions[site.position] for p in prompts])
        return Placement(site.hook, at, site.head)

    names = torch.tensor([_token(model, n) for n in words.names])
    labels = _labels(batch.cases)
    readout: Readout = PatchedReadout(
        model,
        [p.tokens for p in batch.prompts],
        [place(batch.prompts)],
        names[labels[:, 0]],
        names[labels[:, 1]],
        memory_bytes=memory_bytes,
    )
    source_acts = {a: acts(prompts) for a, (_, prompts) in batch.sources.items()}
    # the answer that a perfect edit gives is the arg-max under the source activation itself [PE]
    patched = readout.run(source_acts)
    return Split(
        acts(batch.prompts),
        labels.to(model.device),
        _clusters(batch.cases, len(words.names)).to(model.device),
        readout,
        source_acts,
        {a: _labels(cases).to(model.device) for a, (cases, _) in batch.sources.items()},
        {a: patched[a].top for a in source_acts},
    )


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
