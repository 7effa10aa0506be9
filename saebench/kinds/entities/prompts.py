"""Prompts about entities: their tokens, where their site is, and the activations there."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from saebench.kinds.entities.facts import Entity, Phrase
from saebench.models.language_model import LanguageModel
from saebench.patching import Placement, remembered_beside
from saebench.site import Site


class Prompt(NamedTuple):
    """A prompt about entity number `entity` of its split that asks for attribute `query`."""

    entity: int
    query: int
    tokens: tuple[int, ...]
    name_end: int
    """Place of the name's last token."""
    template: int
    """Number of its phrasing; −1 for a text that asks nothing."""

    def at(self, position: str) -> int:
        """The token of a semantic position."""
        return self.name_end if position == "entity" else len(self.tokens) - 1


def write_prompt(entity: int, query: int, phrase: Phrase, name: str, model: LanguageModel) -> Prompt | None:
    """Tokens of a phrasing and where the name ends; None if that is inside a token."""
    start = model.tokens(phrase.before + name)
    tokens = model.tokens(phrase.before + name + phrase.after)
    if tokens[: len(start)] != start or len(tokens) > model.n_ctx:
        return None
    return Prompt(entity, query, tuple(tokens), len(start) - 1, phrase.number)


def draw_prompts(
    entities: Sequence[Entity],
    phrases: Sequence[Sequence[Phrase]],
    per: int,
    model: LanguageModel,
    rng: np.random.Generator,
) -> list[Prompt]:
    """`per` phrasings of every attribute for every entity, drawn without repetition."""
    prompts = []
    for number, entity in enumerate(entities):
        for query, texts in enumerate(phrases):
            for choice in sorted(rng.permutation(len(texts))[:per]):
                prompt = write_prompt(number, query, texts[choice], entity.name, model)
                if prompt is not None:
                    prompts.append(prompt)
    return prompts


def placements(prompts: Sequence[Prompt], site: Site) -> list[Placement]:
    """The token of each of the site's parts in every prompt."""
    return [
        Placement(part.hook, torch.tensor([p.at(part.position) for p in prompts]), part.head)
        for part in site.parts
    ]


def activations(prompts: Sequence[Prompt], model: LanguageModel, site: Site) -> Tensor:
    """Activations at the site."""
    return remembered_beside(model, [p.tokens for p in prompts], placements(prompts, site))
