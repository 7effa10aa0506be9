"""What a planted model is told about: entities with their values, and the text that speaks of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from saebench.errors import PlantingError
from saebench.planting.network import CONTEXT
from saebench.planting.spec import ABSENT, PlantSpec, VariableSpec
from saebench.planting.tokens import build_tokenizer, padded

SPLITS = ("fit", "select", "test")
SHARES = (0.4, 0.3, 0.3)
"""Shares of the entities in each split of the task; those of `test` are in no interchange."""
TRAIN, TEST = 0, 1
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"


class Texts(NamedTuple):
    """All templates of the text as padded token ids, with the slot where the entity goes."""

    ids: Int[Tensor, "t length"]
    slot: Int[Tensor, "t"]
    """Its first token's position."""
    length: Int[Tensor, "t"]
    """Tokens of the question, the entity counted as one; its answer follows."""
    variable: Int[Tensor, "t"]
    """What it asks for; −1 for filler."""
    held_out: Int[Tensor, "t"]


@dataclass(frozen=True)
class World:
    """Entities, their values, and templates as tokens."""

    spec: PlantSpec
    values: tuple[tuple[str, ...], ...]
    entities: tuple[str, ...]
    labels: Int[Tensor, "n_entities n_variables"]
    split: Int[Tensor, "n_entities"]
    tokenizer: Any
    texts: Texts
    entity_ids: Int[Tensor, "n_entities m"]
    """Tokens of every entity, padded; the site is the last one."""
    entity_length: Int[Tensor, "n_entities"]
    value_ids: tuple[Int[Tensor, "_ w"], ...]
    """Tokens of every value, by variable, padded; the answer is the first one."""

    @property
    def variables(self) -> tuple[str, ...]:
        return tuple(self.spec.variables)

    @cached_property
    def known(self) -> Int[Tensor, "_"]:
        """Entities that interchange interventions are trained on."""
        return (self.split != SPLITS.index("test")).nonzero()[:, 0]

    @cached_property
    def held_out(self) -> Int[Tensor, "_"]:
        """Entities that no interchange intervention has seen."""
        return (self.split == SPLITS.index("test")).nonzero()[:, 0]

    @property
    def answer_ids(self) -> tuple[Int[Tensor, "_"], ...]:
        """The token that answers for every value, by variable."""
        return tuple(ids[:, 0] for ids in self.value_ids)

    @cached_property
    def answers(self) -> Int[Tensor, "n_entities n_variables w"]:
        """Tokens of every entity's value of every variable, padded."""
        columns = [ids[self.labels[:, i]] for i, ids in enumerate(self.value_ids)]
        return torch.stack(columns, 1)


def make_world(spec: PlantSpec) -> World:
    """Entities, values and text of a spec, drawn from its seed.

    Raises:
        PlantingError: for a template without {entity} or too long, a held-out one with words that are never
            trained, or values that begin alike.
    """
    rng = np.random.default_rng([spec.training.seed, 18])
    taken = {word.strip(".,").lower() for text in _all_texts(spec) for word in text.split()}
    taken |= {name.lower() for v in spec.variables.values() for name in v.names} | {ABSENT}
    values = tuple(_value_names(v, taken, rng) for v in spec.variables.values())
    count = spec.entities
    entities = _words(count, taken, rng) if isinstance(count, int) else count
    tokenizer = _tokenizer(spec, values, entities)
    words = [_tokens(tokenizer, entity) for entity in entities]
    answers = _answers(spec, tokenizer, values)
    labels = _labels(spec, rng)
    split = _split(labels, rng)
    return World(
        spec,
        values,
        tuple(entities),
        torch.from_numpy(labels),
        torch.from_numpy(split),
        tokenizer,
        _texts(spec, tokenizer, words, answers[0].shape[1]),
        padded(words, tokenizer.pad_token_id),
        torch.tensor([len(word) for word in words]),
        answers,
    )


def _answers(
    spec: PlantSpec, tokenizer: Any, values: Sequence[Sequence[str]]
) -> tuple[Int[Tensor, "_ w"], ...]:
    """Tokens of every variable's values, all padded to the longest."""
    rows = [[_tokens(tokenizer, value) for value in names] for names in values]
    for name, of_variable in zip(spec.variables, rows, strict=True):
        first = [row[0] for row in of_variable]
        if len(set(first)) < len(first):
            word = next(token for token in first if first.count(token) > 1)
            raise PlantingError(
                f"Two values of {name!r} in {spec.name!r} begin with {tokenizer.decode([word]).strip()!r}."
                " Expected values that their first words tell apart: it is the answer."
            )
    together = padded([row for of_variable in rows for row in of_variable], tokenizer.pad_token_id)
    return together.split([len(of_variable) for of_variable in rows])


def _all_texts(spec: PlantSpec) -> list[str]:
    found = list(spec.filler)
    for name in spec.variables:
        phrasings = spec.phrasings(name)
        found += [*phrasings.train, *phrasings.test]
    return found


def _words(n: int, taken: set[str], rng: np.random.Generator) -> tuple[str, ...]:
    """Pronounceable words that mean nothing, different from all taken before; `taken` grows."""
    found: list[str] = []
    while len(found) < n:
        letters = [str(rng.choice(list(part))) for part in (_CONSONANTS, _VOWELS) * 2]
        word = "".join(letters) + str(rng.choice(list("nrsl")))
        if word not in taken:
            taken.add(word)
            found.append(word)
    return tuple(found)


def _value_names(variable: VariableSpec, taken: set[str], rng: np.random.Generator) -> tuple[str, ...]:
    names = variable.names or _words(variable.n_values, taken, rng)
    return (ABSENT, *names) if variable.present < 1 else names


def _labels(spec: PlantSpec, rng: np.random.Generator) -> np.ndarray:
    """Values of every entity [n, n_variables]: balanced where they are drawn, else as they follow."""
    names, n = list(spec.variables), spec.n_entities
    if spec.table:
        given = [[spec.variables[v].names.index(value) for value in spec.table[v]] for v in names]
        return np.array(given).T
    columns: list[np.ndarray] = []
    for variable in spec.variables.values():
        count = variable.n_values
        column = rng.permutation(np.arange(n) % count)
        if variable.computed_from:
            a, b = (columns[names.index(other)] for other in variable.computed_from)
            column = (a + b) % count
        elif variable.follows:
            above = columns[names.index(variable.follows)]
            follows = _within(above, count, rng) if variable.nested else above % count
            column = np.where(rng.random(n) < variable.dependence, follows, column)
        if variable.present < 1:
            column = np.where(rng.random(n) < variable.present, column + 1, 0)
        columns.append(column)
    return np.stack(columns, 1)


def _within(above: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """A child value for every parent value: those equal to it modulo the number of parents, balanced."""
    parents = int(above.max()) + 1
    column = np.zeros_like(above)
    for parent in range(parents):
        at = np.flatnonzero(above == parent)
        children = np.arange(parent, count, parents)
        column[at] = rng.permutation(children[np.arange(len(at)) % len(children)])
    return column


def _split(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Splits dealt within every value of the rarest kind, so that each value is in each split."""
    order = np.lexsort([rng.random(len(labels)), *labels.T])
    pattern = np.repeat(np.arange(3), [4, 3, 3])
    dealt = np.concatenate([rng.permutation(pattern) for _ in range(-(-len(labels) // 10))])
    split = np.empty(len(labels), dtype=np.int64)
    split[order] = dealt[: len(labels)]
    return split


def _tokenizer(spec: PlantSpec, values: Sequence[Sequence[str]], entities: Sequence[str]) -> Any:
    texts = [part for text in _all_texts(spec) for part in text.split(" {entity}")]
    texts += [word for text in spec.text for word in text.vocabulary()]
    if not spec.table:
        # a token that no text has and that models planted earlier count; raise VERSION to drop it
        texts.append(" x")
    return build_tokenizer([*texts, *(f" {word}" for words in (*values, entities) for word in words), "."])


def _tokens(tokenizer: Any, word: str) -> list[int]:
    return tokenizer(f" {word}", add_special_tokens=False)["input_ids"]


def _misplaced(times: int) -> str:
    """What is wrong with a template that names no entity, several, or one without a space before it."""
    if times == 1:
        return "has no space before {entity}"
    return f"holds {{entity}} {times} times" if times else "lacks {entity}"


def _texts(spec: PlantSpec, tokenizer: Any, entities: list[list[int]], answer: int) -> Texts:
    rows: list[list[int]] = []
    slots, variable, held_out = [], [], []
    listed = [(text, -1, TRAIN) for text in spec.filler]
    for at, name in enumerate(spec.variables):
        phrasings = spec.phrasings(name)
        listed += [(text, at, TRAIN) for text in phrasings.train]
        listed += [(text, at, TEST) for text in phrasings.test]
    for text, about, held in listed:
        if text.count("{entity}") != 1 or " {entity}" not in text:
            raise PlantingError(
                f"The template {text!r} of {spec.name!r} {_misplaced(text.count('{entity}'))}. Expected it"
                ' exactly once, after a space and not as the first word: "The colour of {entity} is".'
            )
        before, after = (
            tokenizer(part, add_special_tokens=False)["input_ids"] if part else []
            for part in text.split(" {entity}")
        )
        rows.append([tokenizer.bos_token_id, *before, entities[0][0], *after])
        slots.append(1 + len(before))
        variable.append(about)
        held_out.append(held)
    trained = {token for row, held in zip(rows, held_out, strict=True) if held == TRAIN for token in row}
    for (text, _, held), row in zip(listed, rows, strict=True):
        new = [tokenizer.decode([token]).strip() for token in row if token not in trained]
        if held == TEST and new:
            raise PlantingError(
                f"The held-out template {text!r} of {spec.name!r} has words that no trained one has"
                f" ({', '.join(new)}). Expected words that the model can learn: use them in `train` too."
            )
    lengths = torch.tensor([len(row) for row in rows])
    ids = padded(rows, tokenizer.pad_token_id, spare=1 + answer)
    longest = int(lengths.max()) + max(map(len, entities)) - 1 + answer
    if longest > CONTEXT:
        raise PlantingError(
            f"The longest question of {spec.name!r} has {longest} words with its answer. Expected at most"
            f" {CONTEXT}: shorten the template."
        )
    return Texts(ids, torch.tensor(slots), lengths, torch.tensor(variable), torch.tensor(held_out))
