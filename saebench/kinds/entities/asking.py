"""Asking a model about entities: what it answers, what it knows, and in which words it is asked best."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from saebench.cache.tensors import cached, digest
from saebench.kinds.base import Settings
from saebench.kinds.entities.facts import Entity, Facts, in_other_words, read_facts
from saebench.kinds.entities.prompts import Prompt, draw_prompts, placements
from saebench.kinds.sizes import Sizes
from saebench.models.language_model import LanguageModel
from saebench.patching import PatchedReadout
from saebench.site import Site
from saebench.spec import EntitiesSpec, Task

BLOCK = 256


class Size(NamedTuple):
    """How many entities a budget uses at most, and phrasings per entity and attribute."""

    entities: int | None
    fit: int
    select: int
    test: int


SIZES = Sizes(
    {
        "tiny": Size(100, 1, 1, 1),
        "quick": Size(400, 2, 1, 1),
        "standard": Size(1500, 4, 3, 3),
        "full": Size(None, 8, 8, 8),
    },
    units=lambda size: size.entities or 10**9,
)


class Asked(NamedTuple):
    """Prompts of a split with what the model answers to them."""

    prompts: list[Prompt]
    acts: Tensor
    said: Int[Tensor, "n"]
    """The arg-max token itself."""
    runner_up: Int[Tensor, "n"]
    """The likeliest other answer among the values of the attribute asked for."""
    right: Bool[Tensor, "n"]
    ahead: Bool[Tensor, "n"]
    """Whether the right answer beats every other value."""

    @property
    def kept(self) -> list[Prompt]:
        """Those answered rightly."""
        return [self.prompts[i] for i in self.right.nonzero()[:, 0].tolist()]


def ask(
    prompts: list[Prompt], entities: Sequence[Entity], facts: Facts, model: LanguageModel, site: Site
) -> Asked:
    """Clean activations of prompts, and what the model answers; asked once on a machine, then read."""
    blank = torch.zeros(len(prompts), dtype=torch.long)
    readout = PatchedReadout(model, [p.tokens for p in prompts], placements(prompts, site), blank, blank)
    own = [entities[p.entity].labels[p.query] for p in prompts]
    about = [[p.query for p in prompts], own, [digest(values) for values in facts.answers]]
    found = cached("asked", [readout.made_from, *about], lambda: _ask(readout, prompts, own, facts))
    right = facts.canonical[found["said"]] == answers_of(prompts, entities, facts)
    acts = found["acts"].to(model.device)
    return Asked(prompts, acts, found["said"], found["others"], right, found["ahead"])


def _ask(
    readout: PatchedReadout, prompts: Sequence[Prompt], own: Sequence[int], facts: Facts
) -> dict[str, Tensor]:
    acts = readout.clean()
    said, others, ahead = [], [], []
    with torch.no_grad():
        for rows in torch.arange(len(prompts)).split(BLOCK):
            logits = readout.logits(acts[rows], rows).float()
            said.append(logits.argmax(-1).cpu())
            logits = logits.cpu()  # a GPU would be waited for once a prompt
            for at, row in enumerate(rows.tolist()):
                answers = facts.answers[prompts[row].query]
                values = logits[at, answers]
                right = float(values[own[row]])
                values[own[row]] = -torch.inf
                others.append(int(answers[values.argmax()]))
                ahead.append(right > float(values.max()))
    found = {"others": torch.tensor(others), "ahead": torch.tensor(ahead)}
    return {"acts": acts, "said": torch.cat(said), **found}


def answers_of(prompts: Sequence[Prompt], entities: Sequence[Entity], facts: Facts) -> Int[Tensor, "n"]:
    """The right answers to prompts: the first token of each value."""
    return torch.tensor([int(facts.answers[p.query][entities[p.entity].labels[p.query]]) for p in prompts])


def known(found: Asked, attribute: int) -> list[int]:
    """Entities about which every question for the attribute was answered rightly."""
    right: dict[int, bool] = {}
    for prompt, ok in zip(found.prompts, found.right.tolist(), strict=True):
        if prompt.query == attribute:
            right[prompt.entity] = right.get(prompt.entity, True) and ok
    return [entity for entity, ok in right.items() if ok]


WELL = 0.8
"""Share of right answers from which no other phrasings are tried."""


def best_asked(
    task: Task[EntitiesSpec], model: LanguageModel, site: Site, size: Size, settings: Settings
) -> Facts:
    """The facts in the set of phrasings in which the model is right most often on `select`.

    A model that answers the task's own templates well is not asked in others.
    """
    plain = read_facts(task, model, size.entities, settings.seed)
    spec = task.spec
    if not spec.phrasings:
        return plain
    sets = {"templates": plain} | {name: in_other_words(plain, task, name) for name in spec.phrasings}
    shares: dict[str, float] = {}
    for name, facts in sets.items():
        rng = np.random.default_rng([settings.seed, 9])
        entities = facts.entities["select"]
        prompts = draw_prompts(entities, facts.phrases["select"], size.select, model, rng)
        if prompts:
            found = ask(prompts, entities, facts, model, site)
            shares[name] = float(found.right.float().mean())
        if shares.get("templates", 0.0) >= WELL:
            return plain
    best = max(shares, key=shares.__getitem__, default="templates")
    said = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    note = f"asked in the phrasings {best!r} (right on `select`: {said})"
    return replace(sets[best], notes=(*sets[best].notes, note))
