"""Training a planted model: language modelling, anchors, and interchange interventions in one loss."""

import copy
import logging
import math
import pickle
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from saebench.errors import PlantingError
from saebench.planting.beside import beside_loss
from saebench.planting.geometry import Geometry
from saebench.planting.interchange import (
    Interchange,
    Parts,
    Prompts,
    at_entity,
    draw_entities,
    draw_pairs,
    draw_templates,
    lengths,
    own_subspaces,
    run,
    targets,
    token_ids,
    variable_of,
)
from saebench.planting.network import Halves
from saebench.planting.spec import PlantSpec
from saebench.planting.world import TRAIN, World

ANSWER_WEIGHT = 4.0
"""Answers weigh this much more than other words in the language modelling loss."""
ANCHOR_WEIGHT = 2.0
PURITY_WEIGHT = 0.5
CROWDED_WEIGHT = 2.0
"""What interventions weigh where subspaces overlap."""
FILLER_SHARE = 0.15
REACH = (-1.0, 2.0)
"""How far parts that are not asked for are stretched along the line from base to source."""
OTHER_SHARE = 0.15
"""Share of pairs in which one other subspace is swapped, where subspaces overlap."""
PLAIN = 0.4
"""Share of pairs whose other parts are kept or swapped, as in scoring, and not stretched."""
JITTER = 0.3
"""Largest standard deviation, in parts of an atom's norm, of noise outside the part asked for."""
WARM_UP = 0.1
EVERY = 100
"""Steps between saved states."""
LEAST_LOSS = -100.0
"""A loss below this has diverged. All terms but purity are at least 0, and purity estimates what is at least 0
with a batch's noise: healthy runs, a norm ratio of 8 among them, never fell below .9, and a run beyond −100 went
on to −60,000."""
log = logging.getLogger("saebench")
Report = Callable[[int, float], None]


def train(halves: Halves, world: World, geometry: Geometry, state_file: Path, report: Report) -> None:
    """Trains to the spec's number of steps, from `state_file` if a run of the same spec was stopped.

    Every step draws from a generator of its own, so that a run that was stopped ends as one that was not.

    Raises:
        PlantingError: if the loss is not finite or below `LEAST_LOSS`; no state is kept, since the same spec
            would end there again.
    """
    settings, parts = world.spec.training, Parts(geometry)
    optimizer = _optimizer(halves)
    first = _resume(state_file, halves, optimizer, world.spec.sha256)
    if first is None:
        optimizer, first = _optimizer(halves), 0
    for step in range(first, settings.steps):
        generator = torch.Generator().manual_seed(1_000_003 * settings.seed + step)
        loss = text_loss(halves, world, geometry, generator)
        if settings.interchange:
            weight = CROWDED_WEIGHT if world.spec.superposition > 1 else 1.0
            loss = loss + weight * interchange_loss(halves, world, parts, generator)
        if world.spec.beside:
            told, moved = beside_loss(halves, world, generator, ANSWER_WEIGHT)
            loss = loss + told + moved
        if not loss.item() >= LEAST_LOSS or math.isinf(loss.item()):
            state_file.unlink(missing_ok=True)
            raise _diverged(world.spec, step + 1, loss.item())
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _schedule(step / settings.steps)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(halves.model.parameters(), 1.0)
        optimizer.step()
        report(step + 1, loss.item())
        if (step + 1) % EVERY == 0:
            _save(state_file, halves, optimizer, world.spec.sha256, step + 1)


def _optimizer(halves: Halves) -> torch.optim.Optimizer:
    return torch.optim.AdamW(halves.model.parameters(), betas=(0.9, 0.99), weight_decay=0.01)


def _diverged(spec: PlantSpec, step: int, loss: float) -> PlantingError:
    settings = spec.training
    return PlantingError(
        f"Training of {spec.name!r} diverged at step {step} of {settings.steps}: loss {loss:.1f}. Expected it to"
        " stay above 0, so training was stopped and no model was written. Another seed is often enough: under"
        f" [training] set seed = {settings.seed + 1}, or a learning_rate below {settings.learning_rate:g}."
    )


def _schedule(done: float) -> float:
    """Warm-up, then half a cosine down to a hundredth."""
    if done < WARM_UP:
        return done / WARM_UP + 1e-3
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def _save(file: Path, halves: Halves, optimizer: torch.optim.Optimizer, digest: str, step: int) -> None:
    state = {
        "spec": digest,
        "step": step,
        "model": halves.model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(file)
    torch.save(state, partial)
    partial.replace(file)


def partial_of(state_file: Path) -> Path:
    """Where a state is written before it is whole."""
    return state_file.with_suffix(".partial")


def _resume(file: Path, halves: Halves, optimizer: torch.optim.Optimizer, digest: str) -> int | None:
    """Steps already done by a run of the same spec, whose state is loaded; None if the file is damaged."""
    if not file.exists():
        return 0
    fresh = copy.deepcopy(halves.model.state_dict())
    try:
        state = torch.load(file, weights_only=True)
        if state["spec"] != digest:
            return 0
        halves.model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        return int(state["step"])
    except (
        RuntimeError,
        pickle.UnpicklingError,
        EOFError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
    ):
        # a file that was cut off, or is no saved state at all
        log.warning("%s is damaged, so training begins anew at step 1.", file)
        halves.model.load_state_dict(fresh)
        return None


def text_loss(halves: Halves, world: World, geometry: Geometry, generator: torch.Generator) -> Tensor:
    """Next-token cross-entropy over trained templates and all entities, and the anchors' error."""
    n = world.spec.training.batch - world.spec.beside
    about = torch.randint(len(world.variables), (n,), generator=generator)
    about[torch.rand(n, generator=generator) < (FILLER_SHARE if world.spec.filler else 0)] = -1
    every = torch.arange(len(world.entities))
    entity = every[torch.randint(len(every), (n,), generator=generator)]
    asks = (about >= 0).nonzero()[:, 0]
    entity[asks], _ = draw_entities(world, about[asks], every, generator)
    prompts = Prompts(draw_templates(world, about, TRAIN, generator), entity)
    ids, length = token_ids(world, prompts), lengths(world, prompts)
    spelled = world.answers[entity[asks], about[asks]]
    for i, tokens in enumerate(spelled.unbind(1)):
        ids[asks, length[asks] + i] = tokens
    hidden = halves.before(ids)
    logits = halves.after(hidden)[:, :-1]
    steps = torch.arange(logits.shape[1])
    weight = (steps < (length - 1)[:, None]).float()
    for i, tokens in enumerate(spelled.unbind(1)):
        weight[asks, length[asks] - 1 + i] = (tokens != world.tokenizer.pad_token_id).float()
    weight[asks, length[asks] - 1] = ANSWER_WEIGHT
    loss = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    loss = (loss * weight.flatten()).sum() / weight.sum()
    if not world.spec.training.interchange:
        return loss
    acts = hidden[torch.arange(n), at_entity(world, prompts)]
    loss = loss + PURITY_WEIGHT * purity_loss(world, geometry, entity, acts)
    return loss + ANCHOR_WEIGHT * anchor_loss(world, geometry, prompts, hidden)


def purity_loss(
    world: World, geometry: Geometry, entity: Int[Tensor, "b"], acts: Float[Tensor, "b d"]
) -> Tensor:
    """What differs with the variables' values outside all subspaces, in parts of their atoms' energy; 0 is best.

    Interventions see to it that no answer is read there; this, that nothing of a variable lies there. For
    each variable: the mean product of two residuals that share its value, less that of two that do not,
    which estimates without bias how far the values' means are from each other.
    """
    labels = world.labels[entity]
    rest = acts - acts @ geometry.span.T @ geometry.span
    rest = rest - rest.mean(0)
    products, other = rest @ rest.T, ~torch.eye(len(rest), dtype=torch.bool)
    loss = rest.new_zeros(())
    for name in geometry.atoms:
        column = labels[:, list(world.variables).index(name)]
        same = column[:, None] == column
        if bool((same & other).any()) and not bool(same.all()):
            between = products[same & other].mean() - products[~same].mean()
            loss = loss + between / geometry.atoms[name][column].square().sum(1).mean().clamp_min(1e-9)
    return loss


def anchor_loss(world: World, geometry: Geometry, prompts: Prompts, hidden: Float[Tensor, "b t d"]) -> Tensor:
    """Squared distance, within the planted span, to the sum of the values' atoms; 1 is that of the mean.

    It fixes norms and angles of the atoms, which interchange interventions leave open. A variable quieter
    than the loudest has a term of its own, in parts of its own atoms: beside norm 8 one of norm 1 makes a
    66th of the common term, finds its place hundreds of steps after the loud one, and until then all terms
    that are measured in its energy drown in noise.
    """
    names, rows = list(world.variables), torch.arange(len(hidden))
    labels = world.labels[prompts.entity]
    atoms = {name: table[labels[:, names.index(name)]] for name, table in geometry.atoms.items()}
    target = torch.stack(list(atoms.values())).sum(0)
    apart = hidden[rows, at_entity(world, prompts)] - target
    loss = (apart @ geometry.span.T).square().sum(1).mean() / target.square().sum(1).mean()
    for name in world.spec.quiet:
        off, variable = apart @ geometry.rows[name].T, world.spec.variables[name]
        # hardly any entity of a batch may have a value
        least = 0.5 * variable.present * variable.norm**2
        loss = loss + off.square().sum(1).mean() / atoms[name].square().sum(1).mean().clamp_min(least)
    about, last = variable_of(world, prompts), lengths(world, prompts) - 1
    for name in world.spec.carried:
        at = (about == names.index(name)).nonzero()[:, 0]
        if world.spec.variables[name].copies == 2 and len(at):
            atom = geometry.atoms[name][labels[at, names.index(name)]]
            off = (hidden[at, last[at]] - atom) @ geometry.rows[name].T
            loss = loss + off.square().sum(1).mean() / atom.square().sum(1).mean()
    return loss


def interchange_loss(halves: Halves, world: World, parts: Parts, generator: torch.Generator) -> Tensor:
    """Cross-entropy on the answers that interventions are to give."""
    pairs = draw_training(world, generator)
    about = variable_of(world, pairs.base)
    noise = torch.randn(len(about), parts.rows.shape[1], generator=generator)
    scale = JITTER * min(v.norm for v in world.spec.variables.values())
    if world.spec.superposition > 1:
        scale = scale / 3
    noise = noise * scale * torch.rand(len(about), 1, generator=generator)
    logits = run(halves, world, parts, pairs, parts.outside(noise, pairs.own))
    wanted = cross_entropy(logits, pairs.wanted, reduction="none")
    other = cross_entropy(logits, pairs.other, reduction="none")
    return (pairs.share * wanted + (1 - pairs.share) * other).mean()


def draw_training(world: World, generator: torch.Generator) -> Interchange:
    """Pairs for training: what is asked for is swapped in half of them, all else by any strength.

    Where subspaces overlap either another one is swapped, or its own with all that is orthogonal to that:
    stretching several would add up in what they share, and no answer could be wanted.
    """
    spec, n = world.spec, world.spec.training.batch
    carried = len(spec.carried)
    about = torch.randint(len(world.variables), (n,), generator=generator)
    base, source = draw_pairs(world, about, world.known, TRAIN, generator)
    own = own_subspaces(world, about)
    swapped, at_end = (torch.rand(2, n, carried, generator=generator) < 0.5).float()
    if spec.superposition > 1:
        one = torch.nn.functional.one_hot(torch.randint(carried, (n,), generator=generator), carried).float()
        kind, amount = torch.rand(2, n, 1, generator=generator)
        strength = torch.where(kind < OTHER_SHARE, one, own * swapped)
        low, high = REACH
        outside = torch.where(kind < 0.5, 0.0, low + (high - low) * amount)
        strength = torch.cat([strength, torch.zeros(n, 1)], 1)
        return targets(world, base, source, strength, at_end, outside[:, 0])
    low, high = REACH
    free = low + (high - low) * torch.rand(n, carried + 1, generator=generator)
    kept = (torch.rand(n, carried + 1, generator=generator) < 0.5).float()
    free = torch.where(torch.rand(n, 1, generator=generator) < PLAIN, kept, free)
    strength, rest = own * swapped + (1 - own) * free[:, :-1], free[:, -1:]
    return targets(world, base, source, torch.cat([strength, rest], 1), at_end)
