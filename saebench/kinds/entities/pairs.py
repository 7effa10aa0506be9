"""RAVEL's prompts beside their sources, and the null: the difference between two answers nobody asks for."""

from dataclasses import replace

import numpy as np
import torch

from saebench.errors import IncompetentModelError
from saebench.kinds.base import Settings
from saebench.kinds.entities.asking import SIZES, ask, best_asked, known
from saebench.kinds.entities.facts import Facts
from saebench.kinds.entities.prompts import Prompt, draw_prompts, write_prompt
from saebench.kinds.entities.sections import draw_source
from saebench.models.language_model import LanguageModel
from saebench.patching.pairs import Number, Pairs, Passage, Questions
from saebench.site import Site
from saebench.spec import EntitiesSpec, Task


def entity_pairs(
    task: Task[EntitiesSpec], model: LanguageModel, settings: Settings, number: Number
) -> Questions:
    """Prompts of `select` and `test` that are answered rightly, each with a source for what it asks for.

    The source asks the same about another entity in the same words. The null has the same prompts, and
    reads the difference between two other values, drawn at random.

    Raises:
        IncompetentModelError: if too few prompts are answered rightly to pair them.
    """
    last = Site(f"blocks.{model.n_layers - 1}.hook_resid_post", "end")
    facts = best_asked(task, model, last, SIZES.of(settings.budget), settings)
    rng = np.random.default_rng([settings.seed, 22])
    sets = {
        split: _pairs(facts, model, last, split, getattr(number, split), rng) for split in ("select", "test")
    }
    return Questions(sets["select"], sets["test"], _null(sets["test"], facts, rng), facts.notes)


def _pairs(
    facts: Facts, model: LanguageModel, last: Site, split: str, number: int, rng: np.random.Generator
) -> Pairs:
    entities, phrases = facts.entities[split], facts.phrases[split]
    prompts = draw_prompts(entities, phrases, 1, model, rng)
    found = ask(prompts, entities, facts, model, last)
    rows: list[tuple[Prompt, Prompt, int]] = []
    for at in range(len(facts.attributes)):
        pool = known(found, at)
        mine = [i for i in found.right.nonzero()[:, 0].tolist() if prompts[i].query == at]
        if len({entities[i].labels[at] for i in pool}) < 2:
            continue
        for i in rng.permutation(mine)[:number]:
            base = prompts[i]
            entity = draw_source(at, entities[base.entity], pool, entities, rng)
            phrase = next(p for p in phrases[at] if p.number == base.template)
            source = write_prompt(entity, at, phrase, entities[entity].name, model)
            # a name that ends inside a token in this phrasing is not asked about in it
            if source is not None:
                rows.append((base, source, int(i)))
    if not rows:
        raise IncompetentModelError(
            f"Model {model.name!r} answers no question of split {split!r} about two entities that differ."
            " Expected right answers to pair: use a model that knows them."
        )
    kept = torch.tensor([i for _, _, i in rows])
    return Pairs(
        tuple(_passage(base) for base, _, _ in rows),
        tuple(_passage(source) for _, source, _ in rows),
        np.array([base.query for base, _, _ in rows]),
        tuple(a.name for a in facts.attributes),
        found.said[kept],
        found.runner_up[kept],
        np.array([base.entity for base, _, _ in rows]),
        None,
        np.array([base.template for base, _, _ in rows]),
    )


def _passage(prompt: Prompt) -> Passage:
    return Passage(list(prompt.tokens), {name: prompt.at(name) for name in ("entity", "end")})


def _null(test: Pairs, facts: Facts, rng: np.random.Generator) -> Pairs | None:
    """The same prompts, between two values drawn in either order from those that the base is not about.

    Attributes with fewer than four values have no two.
    """
    enough = [at for at, answers in enumerate(facts.answers) if len(answers) >= 4]
    rows = np.flatnonzero(np.isin(test.attribute, enough))
    if not len(rows):
        return None
    kept = test.take(rows)
    drawn = []
    for at, answer, distractor in zip(kept.attribute, kept.answer, kept.distractor, strict=True):
        others = [int(t) for t in facts.answers[at] if int(t) not in (int(answer), int(distractor))]
        drawn.append(rng.permutation(others)[:2])
    answer, distractor = torch.tensor(np.array(drawn)).T
    return replace(kept, answer=answer, distractor=distractor)
