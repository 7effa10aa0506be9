"""Interchange interventions: parts of a residual go from a base prompt to a source prompt's.

The parts are the planted subspaces and what is orthogonal to all of them. What the model is to answer
then follows from the spec alone [interchange intervention training, Geiger et al. 2022, arXiv 2112.00826].
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.planting.geometry import Geometry
from saebench.planting.network import Halves
from saebench.planting.world import World


class Prompts(NamedTuple):
    """Questions about entities, as rows of `World.texts` and `World.entities`."""

    template: Int[Tensor, "b"]
    entity: Int[Tensor, "b"]


class Interchange(NamedTuple):
    """Base and source prompts, how far each part goes from base (0) to source (1), and the answers wanted."""

    base: Prompts
    source: Prompts
    strength: Float[Tensor, "b n_parts"]
    """At the entity: the carried variables in order, then the rest."""
    end: Float[Tensor, "b n_parts"]
    """The same at the last token; moved for variables with a copy there."""
    own: Float[Tensor, "b n_carried"]
    """1 for the subspaces that the question is answered from."""
    outside: Float[Tensor, "b"]
    """At the entity: how far all that is orthogonal to its own subspaces goes."""
    wanted: Int[Tensor, "b"]
    other: Int[Tensor, "b"]
    """The other answer, where base and source are to count half each."""
    share: Float[Tensor, "b"]
    """Probability of `wanted`: 1, or ½."""


def variable_of(world: World, prompts: Prompts) -> Int[Tensor, "b"]:
    """What each prompt asks for, −1 for filler."""
    return world.texts.variable[prompts.template]


def token_ids(world: World, prompts: Prompts) -> Int[Tensor, "b t"]:
    """Padded tokens of the questions, with room for their answers."""
    ids, words = world.texts.ids[prompts.template], world.entity_ids[prompts.entity]
    slot, extra = world.texts.slot[prompts.template, None], world.entity_length[prompts.entity, None] - 1
    spare, last = words.shape[1] - 1, ids.shape[1] - 1
    place = torch.arange(len(ids[0]) + spare) - slot
    entity = words.gather(1, place.clamp(0, spare))
    text = ids.gather(1, (slot + place - torch.where(place > extra, extra, 0)).clamp(max=last))
    return torch.where((place >= 0) & (place <= extra), entity, text)


def at_entity(world: World, prompts: Prompts) -> Int[Tensor, "b"]:
    """Position of the entity's last token."""
    return world.texts.slot[prompts.template] + world.entity_length[prompts.entity] - 1


def lengths(world: World, prompts: Prompts) -> Int[Tensor, "b"]:
    """Tokens of each question; its answer follows."""
    return world.texts.length[prompts.template] + world.entity_length[prompts.entity] - 1


def draw_templates(
    world: World, variable: Int[Tensor, "b"], held_out: int, generator: torch.Generator
) -> Int[Tensor, "b"]:
    """A template for each variable asked for (−1: filler), trained on or held out."""
    texts = world.texts
    out = torch.zeros_like(variable)
    for about in variable.unique().tolist():
        known = ((texts.variable == about) & (texts.held_out == held_out)).nonzero()[:, 0]
        at = variable == about
        out[at] = known[torch.randint(len(known), (int(at.sum()),), generator=generator)]
    return out


def draw_entities(
    world: World, variable: Int[Tensor, "b"], entities: Int[Tensor, "m"], generator: torch.Generator
) -> tuple[Int[Tensor, "b"], Int[Tensor, "b"]]:
    """Two entities a row with different values of the variable, every value equally likely.

    Entities drawn at once would mostly have the frequent value, or the same one twice.
    """
    first, second = torch.zeros_like(variable), torch.zeros_like(variable)
    for about in variable.unique().tolist():
        rows = (variable == about).nonzero()[:, 0]
        held = world.labels[entities, about]
        values, counts = held.unique(return_counts=True)
        ordered, starts = entities[held.argsort(stable=True)], counts.cumsum(0) - counts
        one = torch.randint(len(values), (len(rows),), generator=generator)
        other = (one + torch.randint(1, len(values), (len(rows),), generator=generator)) % len(values)
        for out, which in ((first, one), (second, other)):
            place = torch.rand(len(rows), generator=generator) * counts[which]
            out[rows] = ordered[starts[which] + place.long().clamp(max=counts[which] - 1)]
    return first, second


def draw_pairs(
    world: World,
    variable: Int[Tensor, "b"],
    entities: Int[Tensor, "m"],
    held_out: int,
    generator: torch.Generator,
) -> tuple[Prompts, Prompts]:
    """Base and source prompts that ask for the same, about entities that differ in it."""
    first, second = draw_entities(world, variable, entities, generator)
    base, source = (
        Prompts(draw_templates(world, variable, held_out, generator), which) for which in (first, second)
    )
    return base, source


def wanted_values(
    world: World,
    variable: Int[Tensor, "b"],
    base: Prompts,
    source: Prompts,
    swapped: Float[Tensor, "b n_carried"],
) -> Int[Tensor, "b"]:
    """Index of the value to be answered when the subspaces marked in `swapped` (0 or 1) are the source's."""
    spec, names = world.spec, list(world.variables)
    own, new = world.labels[base.entity], world.labels[source.entity]
    out = own[torch.arange(len(own)), variable].clone()
    mixed = own.clone()
    for i, name in enumerate(spec.carried):
        if spec.variables[name].used:
            at = names.index(name)
            mixed[:, at] = torch.where(swapped[:, i] > 0.5, new[:, at], own[:, at])
    for at, name in enumerate(names):
        parts = spec.variables[name].computed_from
        value = mixed[:, at]
        if parts:
            a, b = (mixed[:, names.index(part)] for part in parts)
            value = (a + b) % spec.variables[name].n_values
        out = torch.where(variable == at, value, out)
    return out


def value_tokens(world: World, variable: Int[Tensor, "b"], value: Int[Tensor, "b"]) -> Int[Tensor, "b"]:
    """Tokens of values of the variables asked for."""
    out = torch.zeros_like(value)
    for at, ids in enumerate(world.answer_ids):
        rows = variable == at
        out[rows] = ids[value[rows]]
    return out


class Parts:
    """Moves parts of residuals, as a geometry cuts them."""

    def __init__(self, geometry: Geometry) -> None:
        names = list(geometry.rows)
        self.rows = torch.cat([geometry.rows[name] for name in names])
        sizes = torch.tensor([len(geometry.rows[name]) for name in names])
        self.owner = torch.repeat_interleave(torch.arange(len(names)), sizes)
        self.span = geometry.span

    def inside(
        self, change: Float[Tensor, "b d"], strength: Float[Tensor, "b n_carried"]
    ) -> Float[Tensor, "b d"]:
        """`Σ_A s_A P_A change`."""
        return (change @ self.rows.T * strength[:, self.owner]) @ self.rows

    def outside(
        self, change: Float[Tensor, "b d"], own: Float[Tensor, "b n_carried"]
    ) -> Float[Tensor, "b d"]:
        """`(I − P_own) change`."""
        return change - self.inside(change, own)

    def move(
        self, change: Float[Tensor, "b d"], strength: Float[Tensor, "b n_parts"]
    ) -> Float[Tensor, "b d"]:
        """The part of `change` that strengths let through; the last one is that of the rest."""
        rest = change - change @ self.span.T @ self.span
        return self.inside(change, strength[:, :-1]) + strength[:, -1:] * rest


def run(
    halves: Halves, world: World, parts: Parts, pairs: Interchange, added: Float[Tensor, "b d"] | None = None
) -> Float[Tensor, "b vocab"]:
    """Logits at the answer position with the parts moved; `added` goes on top at the entity."""
    slots = [at_entity(world, p) for p in (pairs.base, pairs.source)]
    lasts = [lengths(world, p) - 1 for p in (pairs.base, pairs.source)]
    here, there = (halves.before(token_ids(world, p)) for p in (pairs.base, pairs.source))
    at = torch.arange(len(here))
    edited = here.clone()
    change = there[at, slots[1]] - here[at, slots[0]]
    change = parts.move(change, pairs.strength) + pairs.outside[:, None] * parts.outside(change, pairs.own)
    edited[at, slots[0]] = here[at, slots[0]] + (change if added is None else change + added)
    if bool(pairs.end.any()):
        moved = parts.move(there[at, lasts[1]] - here[at, lasts[0]], pairs.end)
        edited[at, lasts[0]] = edited[at, lasts[0]] + moved
    return halves.after(edited, lasts[0])


def own_subspaces(world: World, about: Int[Tensor, "b"]) -> Float[Tensor, "b n_carried"]:
    """Which subspaces each question is answered from: its variable's, or those it is computed from."""
    spec, carried = world.spec, world.spec.carried
    table = torch.zeros(len(world.variables), len(carried))
    for at, name in enumerate(world.variables):
        for part in spec.variables[name].computed_from or (name,):
            if part in carried and spec.variables[part].used:
                table[at, carried.index(part)] = 1.0
    return table[about]


def targets(
    world: World,
    base: Prompts,
    source: Prompts,
    strength: Float[Tensor, "b n_parts"],
    at_end: Float[Tensor, "b n_carried"],
    outside: Float[Tensor, "b"] | None = None,
) -> Interchange:
    """The answers wanted under these strengths; a variable with a copy moves at the end where `at_end` is 1."""
    spec, about = world.spec, variable_of(world, base)
    own = own_subspaces(world, about)
    copied = torch.tensor([float(spec.variables[name].copies == 2) for name in spec.carried])
    end = torch.cat([own * copied * at_end, torch.zeros(len(about), 1)], 1)
    mixed = strength[:, :-1] * own
    wanted = value_tokens(world, about, wanted_values(world, about, base, source, mixed))
    moved_end = torch.where(copied * own > 0, end[:, :-1], mixed)
    other = value_tokens(world, about, wanted_values(world, about, base, source, moved_end))
    share = torch.where((own * copied).sum(1) > 0, 0.5, 1.0)
    outside = torch.zeros(len(about)) if outside is None else outside
    return Interchange(base, source, strength, end, own, outside, wanted, other, share)
