"""Prompts of a task as text to train SAEs on: drawn at random, in phrasings that are not held out."""

from collections.abc import Callable
from typing import Any

import numpy as np

from saebench.kinds.entities import prompts as entity_prompts
from saebench.kinds.entities.facts import SPLITS, in_other_words, read_facts
from saebench.kinds.names.prompts import Case, write_prompt
from saebench.kinds.names.words import usable_words
from saebench.models.language_model import LanguageModel
from saebench.patching.pairs import Passage
from saebench.spec import EntitiesSpec, NamesSpec, Task

Draw = Callable[[Task[Any], LanguageModel, np.random.Generator, int], list[Passage]]


def names_passages(
    task: Task[NamesSpec], model: LanguageModel, rng: np.random.Generator, n: int
) -> list[Passage]:
    """Sentences about any two of the names, in the templates of `fit` and `select`."""
    words = usable_words(task, model)
    templates, found = words.of_split("fit"), []
    for _ in range(n):
        io, s = (int(i) for i in rng.choice(len(words.names), 2, replace=False))
        template = templates[int(rng.integers(len(templates)))]
        place, thing = (str(rng.choice(listed)) for listed in (words.places, words.objects))
        case = Case(io, s, int(rng.integers(2)), template, place, thing)
        found.append(Passage(*write_prompt(case, words, model)))
    return found


def entity_passages(
    task: Task[EntitiesSpec], model: LanguageModel, rng: np.random.Generator, n: int
) -> list[Passage]:
    """Questions about any of the entities, in the phrasings of `fit` of every set that the model can read."""
    facts = read_facts(task, model, None, 0)
    entities = [entity for split in SPLITS for entity in facts.entities[split]]
    sets = [facts, *(in_other_words(facts, task, name) for name in task.spec.phrasings)]
    unknown = {model.tokenizer.unk_token_id} - {model.tokenizer.bos_token_id}
    phrases = [
        (query, text)
        for one in sets
        for query, texts in enumerate(one.phrases["fit"])
        for text in texts
        if not unknown & set(model.tokens(text.before + entities[0].name + text.after))
    ]
    found: list[Passage] = []
    while len(found) < n:
        entity = entities[int(rng.integers(len(entities)))]
        query, phrase = phrases[int(rng.integers(len(phrases)))]
        prompt = entity_prompts.write_prompt(0, query, phrase, entity.name, model)
        if prompt is not None:
            tokens = list(prompt.tokens)
            found.append(Passage(tokens, {where: prompt.at(where) for where in task.spec.positions}))
    return found
