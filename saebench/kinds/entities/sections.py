"""RAVEL: prompts that ask for one of several facts about an entity [Huang et al. 2024].

docs/methods.md §2 and §5. No prompt differs from another in one attribute alone (continent follows from
country), so a source is another entity of the same split with a different value of the edited
attribute; a perfect edit gives the source's value where it is asked for (*cause*) and leaves every
other answer as it was (*isolate*). Prompts that the model answers wrongly are filtered first.
"""

from collections.abc import Sequence
from functools import cache, partial

import numpy as np
import torch

from saebench.cross_section import CrossSection, Read, Split
from saebench.dictionaries.supervised import independent, unidentified_parents
from saebench.errors import IncompetentModelError
from saebench.kinds.base import Built, Competence, Settings, digests, require_position, spans_of
from saebench.kinds.entities.asking import SIZES, Asked, answers_of, ask, best_asked, known
from saebench.kinds.entities.facts import SPLITS, Entity, Facts
from saebench.kinds.entities.lenient import LenientReadout
from saebench.kinds.entities.planted import oracle, read_truth
from saebench.kinds.entities.prompts import Prompt, activations, draw_prompts, placements, write_prompt
from saebench.models.language_model import LanguageModel
from saebench.patching import PatchedReadout
from saebench.patching.ordinary import ordinary_activations
from saebench.site import Site
from saebench.spec import EntitiesSpec, Task

ENOUGH = 0.3
"""Share of prompts on which the right value must be ahead: the others are left out, and enough must stay."""


def draw_source(
    attribute: int, base: Entity, pool: Sequence[int], entities: Sequence[Entity], rng: np.random.Generator
) -> int:
    """An entity of the pool with another value of the attribute.

    First the new value is drawn, every one equally likely, then in the same way the value of each
    other attribute among those left, then the entity: entities drawn at once would make most
    sources those of a few large countries.
    """
    left = [i for i in pool if entities[i].labels[attribute] != base.labels[attribute]]
    order = [attribute, *(a for a in range(len(base.labels)) if a != attribute)]
    for a in order:
        values = sorted({entities[i].labels[a] for i in left})
        value = values[int(rng.integers(len(values)))]
        left = [i for i in left if entities[i].labels[a] == value]
    return left[int(rng.integers(len(left)))]


def build(task: Task[EntitiesSpec], model: LanguageModel, site: Site, settings: Settings) -> Built:
    """Prompts of the task as a cross-section of the model at a site.

    Raises:
        TaskError: if the task's table or templates are wrong.
        SiteError: if the position is not one of the task's.
        IncompetentModelError: if too few prompts are answered rightly to pair them.
    """
    require_position(task, site)
    size = SIZES.of(settings.budget)
    facts = best_asked(task, model, site, size, settings)
    rng = np.random.default_rng([settings.seed, 3])
    splits, asked = {}, {}
    for name in SPLITS:
        entities = facts.entities[name]
        phrases = facts.phrases[name]
        per = getattr(size, name)
        prompts = draw_prompts(entities, phrases, per, model, rng)
        _require(bool(prompts), "no prompt can be written", facts, model, name)
        found = ask(prompts, entities, facts, model, site)
        splits[name] = _split(found, name, facts, model, site, rng)
        asked[name] = found
        settings.tick(f"activations of {name}")
    fit = asked["fit"].kept
    ordinary = partial(ordinary_activations, model, [p.tokens for p in fit], placements(fit, site))
    planted = read_truth(task, task.spec.planted, facts.attributes, model, site)
    section = CrossSection(
        facts.attributes,
        **splits,
        truth=oracle(planted, facts.attributes, splits["fit"]),
        planted=planted.subspaces,
        planted_atoms=planted.atoms,
        templates=facts.templates,
        spans=spans_of(model, site),
        ordinary=ordinary,
    )
    test = asked["test"]
    ahead = test.ahead.float().numpy(force=True)
    # LD > 0 says the same as "beats every other value of its attribute"
    competence = Competence.of(
        ahead - 0.5, test.right.float().numpy(force=True), least=ENOUGH, chance=_chance(facts)
    )
    kept, notes = _shares_kept(asked, facts)
    notes = (*facts.notes, *planted.notes, *notes, *_unidentified(section))
    return Built(section, competence, notes, {"independent": independent(facts.attributes)}, kept)


def _unidentified(section: CrossSection) -> list[str]:
    """Parent values with one child: a supervised dictionary cannot tell the two apart there."""
    return [
        f"{child} cannot be told from what it follows to where that has one {child}: {', '.join(parents)}"
        for child, parents in unidentified_parents(section).items()
    ]


def _chance(facts: Facts) -> float:
    """Share of right answers of a model that names any value of the attribute asked for."""
    return sum(1 / len(a.values) for a in facts.attributes) / len(facts.attributes)


def _shares_kept(asked: dict[str, Asked], facts: Facts) -> tuple[dict[tuple[str, str], float], list[str]]:
    """Of the prompts of each attribute, over all splits, the share answered rightly."""
    kept, words = {}, []
    query = torch.tensor([p.query for found in asked.values() for p in found.prompts])
    right = torch.cat([found.right for found in asked.values()])
    for at, attribute in enumerate(facts.attributes):
        share = float(right[query == at].float().mean())
        kept["kept", attribute.name] = share
        words.append(f"{attribute.name} {share:.1%}")
    counted = [
        f"{attribute.name} {sum(len(known(found, at)) for found in asked.values())}"
        for at, attribute in enumerate(facts.attributes)
    ]
    return kept, [
        f"prompts answered rightly and kept: {', '.join(words)}",
        f"entities all of whose questions are answered rightly: {', '.join(counted)}",
    ]


def _require(met: bool, seen: str, facts: Facts, model: LanguageModel, split: str) -> None:
    if not met:
        names = ", ".join(a.name for a in facts.attributes)
        raise IncompetentModelError(
            f"Model {model.name!r} cannot be scored on {names}: in split {split!r} {seen}. Expected"
            " right answers about at least two entities with different values of every attribute:"
            " use a model that knows them, or fewer attributes."
        )


def _split(
    found: Asked, split: str, facts: Facts, model: LanguageModel, site: Site, rng: np.random.Generator
) -> Split:
    entities = facts.entities[split]
    keep = found.right.nonzero()[:, 0]
    prompts = found.kept
    for at, attribute in enumerate(facts.attributes):
        some = any(p.query == at for p in prompts)
        _require(some, f"no question for {attribute.name!r} is answered rightly", facts, model, split)
    readout = PatchedReadout(
        model, [p.tokens for p in prompts], placements(prompts, site), found.said[keep], found.runner_up[keep]
    )
    device = found.acts.device
    answer = answers_of(prompts, entities, facts).to(device)
    query = torch.tensor([p.query for p in prompts], device=device)
    source_acts, source_labels, expected, source_units = {}, {}, {}, {}
    written: dict[str, list[Prompt]] = {}
    for at, attribute in enumerate(facts.attributes):
        pool = known(found, at)
        values = {entities[i].labels[at] for i in pool}
        _require(
            len(values) > 1, f"only {len(values)} value of {attribute.name!r} is known", facts, model, split
        )
        drawn = [draw_source(at, entities[p.entity], pool, entities, rng) for p in prompts]
        sources = [
            write_source(p, i, split, facts, model, site, rng) for p, i in zip(prompts, drawn, strict=True)
        ]
        written[attribute.name] = sources
        source_acts[attribute.name] = activations(sources, model, site)
        labels = torch.tensor([entities[i].labels for i in drawn], device=device)
        source_labels[attribute.name] = labels
        source_units[attribute.name] = torch.tensor(drawn, device=device)[:, None]
        wanted = facts.answers[at].to(device)[labels[:, at]]
        expected[attribute.name] = torch.where(query == at, wanted, answer)
    return Split(
        found.acts[keep.to(device)],
        torch.tensor([entities[p.entity].labels for p in prompts], device=device),
        torch.tensor([p.entity for p in prompts], device=device),
        LenientReadout(readout, answer, facts.canonical),
        source_acts,
        source_labels,
        expected,
        query,
        source_units=source_units,
        template=torch.tensor([p.template for p in prompts], device=device),
        text=digests(p.tokens for p in prompts).to(device),
        reader=cache(partial(_read, prompts, written, model, site.position)),
    )


def _read(
    prompts: list[Prompt], sources: dict[str, list[Prompt]], model: LanguageModel, position: str, hook: str
) -> Read:
    """What another hook point holds at the same tokens."""
    there = Site(hook, position)
    return Read(
        activations(prompts, model, there),
        {name: activations(p, model, there) for name, p in sources.items()},
    )


def write_source(
    base: Prompt,
    entity: int,
    split: str,
    facts: Facts,
    model: LanguageModel,
    site: Site,
    rng: np.random.Generator,
) -> Prompt:
    """A prompt about the source entity that asks for what the base asks for, in any phrasing.

    At the entity's own token what follows it does not matter, so plain texts serve as well.
    """
    phrases = list(facts.phrases[split][base.query])
    if all(part.position == "entity" for part in site.parts):
        phrases += facts.context[split]
    for choice in rng.permutation(len(phrases)):
        name = facts.entities[split][entity].name
        prompt = write_prompt(entity, base.query, phrases[choice], name, model)
        if prompt is not None:
            return prompt
    # the entity is in the pool because a prompt about it could be written
    raise AssertionError(f"no phrasing fits {facts.entities[split][entity].name}")
