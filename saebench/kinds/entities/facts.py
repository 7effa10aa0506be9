"""What can be asked about the entities of a table, under a tokenizer: values, answers, phrasings."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from saebench.cross_section import Attribute
from saebench.errors import TaskError
from saebench.models.language_model import LanguageModel
from saebench.spec import EntitiesSpec, EntityTemplates, Task

SPLITS = ("fit", "select", "test")
SHARES = (0.4, 0.3, 0.3)
"""Shares of entities per split, within every combination of values."""


class Entity(NamedTuple):
    name: str
    labels: tuple[int, ...]


class Phrase(NamedTuple):
    """A template cut at its entity."""

    before: str
    after: str
    number: int = -1
    """Its place among all phrasings of the task; −1 for texts that ask nothing."""


@dataclass(frozen=True)
class Facts:
    """Entities that a tokenizer leaves, by split, and how to ask for their values."""

    attributes: tuple[Attribute, ...]
    answers: tuple[Int[Tensor, "_"], ...]
    """For each attribute the first token of every value."""
    canonical: Int[Tensor, "vocab"]
    """Every token to itself, an alias's first token to that of the value it stands for."""
    entities: Mapping[str, tuple[Entity, ...]]
    phrases: Mapping[str, tuple[tuple[Phrase, ...], ...]]
    """By split, then by attribute."""
    templates: tuple[str, ...]
    """All phrasings, in the order of their numbers."""
    context: Mapping[str, tuple[Phrase, ...]]
    """By split: texts that name an entity and ask nothing; sources may come from them."""
    notes: tuple[str, ...]


def read_facts(task: Task[EntitiesSpec], model: LanguageModel, limit: int | None, seed: int) -> Facts:
    """Reads the task's table and keeps what the tokenizer can tell apart.

    Values whose first tokens collide, or which it does not know, are dropped with their entities
    and counted. At most `limit` entities are kept, drawn at random.

    Raises:
        TaskError: for a wrong table or template, or if an attribute has fewer than two values left.
    """
    spec = task.spec
    rows = _checked_rows(task)
    rng = np.random.default_rng([seed, 2])
    if limit is not None and len(rows) > limit:
        rows = [rows[i] for i in sorted(rng.permutation(len(rows))[:limit])]
    notes = [*task.notes]
    tokens: dict[str, dict[str, int]] = {}
    for name in spec.attributes:
        tokens[name], dropped = _distinct(sorted({row[name] for row in rows}), model)
        if dropped:
            notes.append(
                f"{name}: {len(dropped)} values are dropped, their first token is shared or unknown"
                f" ({', '.join(dropped[:4])}{'…' if len(dropped) > 4 else ''})"
            )
    phrases, templates = _phrases(task, spec.templates)
    usable = [row for row in rows if all(row[a] in tokens[a] for a in spec.attributes)]
    attributes = []
    for name in spec.attributes:
        # a value may be left without an entity when another attribute's value was dropped
        values = tuple(sorted({row[name] for row in usable}))
        if len(values) < 2:
            raise TaskError(
                f"Task {task.name!r}: the tokenizer of {model.name!r} tells {len(values)} values of"
                f" {name!r} apart by their first token. Expected at least 2: leave the attribute"
                " out, or use a model with a larger vocabulary."
            )
        attributes.append(Attribute(name, values, spec.nested.get(name)))
    answers = tuple(torch.tensor([tokens[a.name][v] for v in a.values]) for a in attributes)
    canonical, unusable = _aliases(spec, tokens, model)
    if unusable:
        notes.append(f"aliases left out, since their first token means something else: {unusable}")
    return Facts(
        tuple(attributes),
        answers,
        canonical,
        _deal(usable, attributes, spec, rng),
        phrases,
        templates,
        _context(task),
        tuple(notes),
    )


def _checked_rows(task: Task[EntitiesSpec]) -> list[dict[str, str]]:
    spec = task.spec
    rows, where = task.rows(spec.table), f"{task.folder / spec.table}"
    for column in (spec.entity, *spec.attributes):
        if rows and column not in rows[0]:
            raise TaskError(f"{where} has no column {column!r}; it has {', '.join(rows[0])}.")
    seen: set[str] = set()
    for row in rows:
        name = row[spec.entity]
        if name in seen:
            raise TaskError(
                f"{where}: {name!r} occurs twice. Expected one row an entity: an answer about a name"
                " that two of them share is neither right nor wrong."
            )
        seen.add(name)
        empty = [c for c in (spec.entity, *spec.attributes) if not (row[c] or "").strip()]
        if empty:
            raise TaskError(
                f"{where}: {name!r} has no value for {empty[0]!r}. Expected a value in every column;"
                " remove the row or fill it in."
            )
    if not rows:
        raise TaskError(f"{where} has no rows. Expected one row an entity.")
    return rows


def first_token(text: str, model: LanguageModel) -> int | None:
    """The first token of ` text` where it continues a prompt, or None if it is not known."""
    before = model.tokenizer("a", add_special_tokens=False)["input_ids"]
    after = model.tokenizer("a " + text, add_special_tokens=False)["input_ids"]
    new = after[len(before) :]
    if not new or after[: len(before)] != before or new[0] == model.tokenizer.unk_token_id:
        return None
    return new[0]


def _distinct(values: Sequence[str], model: LanguageModel) -> tuple[dict[str, int], list[str]]:
    """First tokens of the values that have one of their own, and the values that do not."""
    tokens = {value: first_token(value, model) for value in values}
    count = Counter(tokens.values())
    kept = {v: t for v, t in tokens.items() if t is not None and count[t] == 1}
    return kept, [v for v in values if v not in kept]


def _aliases(
    spec: EntitiesSpec, tokens: Mapping[str, Mapping[str, int]], model: LanguageModel
) -> tuple[Int[Tensor, "vocab"], str]:
    canonical = torch.arange(model.d_vocab)
    taken = {t for values in tokens.values() for t in values.values()}
    unusable = []
    for attribute, table in spec.aliases.items():
        for value, others in table.items():
            target = tokens.get(attribute, {}).get(value)
            for other in others:
                token = first_token(other, model)
                if target is None or token is None or token == target:
                    continue
                if token in taken:
                    unusable.append(other)
                    continue
                canonical[token] = target
                taken.add(token)
    return canonical, ", ".join(unusable)


def _deal(
    rows: Sequence[Mapping[str, str]],
    attributes: Sequence[Attribute],
    spec: EntitiesSpec,
    rng: np.random.Generator,
) -> dict[str, tuple[Entity, ...]]:
    """Entities by split: as the table says, else dealt within every combination of values."""
    index = [{v: i for i, v in enumerate(a.values)} for a in attributes]
    found: dict[str, list[Entity]] = {split: [] for split in SPLITS}
    strata: dict[tuple[int, ...], list[Entity]] = {}
    for row in rows:
        labels = tuple(index[i][row[a.name]] for i, a in enumerate(attributes))
        entity = Entity(row[spec.entity], labels)
        if spec.split is not None:
            found[row[spec.split]].append(entity)
        else:
            strata.setdefault(labels, []).append(entity)
    edges = np.cumsum(SHARES)
    for labels in sorted(strata):
        members = strata[labels]
        # the start is drawn, so that small groups do not all lose the same split
        place = (rng.permutation(len(members)) + rng.random()) / len(members)
        for entity, at in zip(members, place, strict=True):
            split = int(np.searchsorted(edges, at, side="right"))
            found[SPLITS[min(split, len(SPLITS) - 1)]].append(entity)
    return {split: tuple(entities) for split, entities in found.items()}


def cut(template: str, slot: str, where: str) -> Phrase:
    """A template as the text before and after its slot.

    Raises:
        TaskError: if the slot does not occur exactly once.
    """
    if template.count(slot) != 1:
        raise TaskError(
            f"{where}: the template {template!r} holds {template.count(slot)} times {slot}."
            f" Expected {slot} exactly once, where the entity's name goes."
        )
    before, _, after = template.partition(slot)
    return Phrase(before, after)


def in_other_words(facts: Facts, task: Task[EntitiesSpec], phrasing: str) -> Facts:
    """The same facts asked in another set of templates, without the entities that its examples name.

    Raises:
        TaskError: if a template is wrong or missing.
    """
    spec = task.spec
    phrases, templates = _phrases(task, spec.phrasings[phrasing])
    shown = " ".join(templates)
    entities = {
        split: tuple(e for e in listed if not re.search(rf"\b{re.escape(e.name)}\b", shown))
        for split, listed in facts.entities.items()
    }
    before, after = ({e.name for listed in by.values() for e in listed} for by in (facts.entities, entities))
    gone = sorted(before - after)
    note = f"{len(gone)} stand in worked examples and are not asked about ({', '.join(gone)})"
    notes = (*facts.notes, note) if gone else facts.notes
    return replace(facts, entities=entities, phrases=phrases, templates=templates, notes=notes)


def _phrases(
    task: Task[EntitiesSpec], listed_by: Mapping[str, EntityTemplates]
) -> tuple[dict[str, tuple[tuple[Phrase, ...], ...]], tuple[str, ...]]:
    """Phrasings by split and attribute, and all of them in the order of their numbers.

    Without a list of its own `select` asks as `fit` does: phrasings of `test` are held out.
    """
    spec, where = task.spec, str(task.folder / "task.toml")
    slot = "{" + spec.entity + "}"
    found, numbers = {}, {}
    for split in SPLITS:
        by_attribute = []
        for name in spec.attributes:
            if name not in listed_by:
                raise TaskError(f"{where}: attribute {name!r} has no templates. Expected some.")
            listed = listed_by[name]
            texts = getattr(listed, split) or listed.fit
            by_attribute.append(
                tuple(
                    cut(text, slot, where)._replace(number=numbers.setdefault((name, text), len(numbers)))
                    for text in texts
                )
            )
        found[split] = tuple(by_attribute)
    return found, tuple(text for _, text in numbers)


def _context(task: Task[EntitiesSpec]) -> dict[str, tuple[Phrase, ...]]:
    spec, where = task.spec, str(task.folder / "task.toml")
    slot = "{" + spec.entity + "}"
    return {split: tuple(cut(text, slot, where) for text in spec.context.get(split, ())) for split in SPLITS}
