"""The certificate: does the model carry its variables where the spec says? Measured, on what was held out.

Prompts use phrasings that were never trained, about entities that no interchange intervention has seen.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from saebench.planting.beside import AnswerCertificate, certify_answers
from saebench.planting.geometry import Geometry
from saebench.planting.interchange import (
    Interchange,
    Parts,
    Prompts,
    at_entity,
    draw_pairs,
    lengths,
    own_subspaces,
    run,
    targets,
    token_ids,
    value_tokens,
)
from saebench.planting.network import Halves
from saebench.planting.world import TEST, World

THRESHOLDS = {
    "behaviour": 0.99,
    "interchange": 0.98,
    "kept": 0.98,
    "complement": 0.98,
    "decodable": 0.98,
    "purity": 0.98,
}
HALF = (0.35, 0.65)
"""Where the source's share of the answer must lie when one of two copies is swapped."""
DRAWS = 1000
_GRADIENTS = 200
_SINGULAR = 0.1
"""A direction counts for the measured rank if values differ along it at least by this share of the largest."""


class VariableCertificate(BaseModel):
    """What was measured of one variable; shares in [0, 1], 1 is best. None: it does not apply."""

    model_config = ConfigDict(frozen=True)

    behaviour: float
    """Questions answered rightly."""
    interchange: float | None
    """Answers that are the source's after its subspace was swapped; for a computed variable those that
    follow from the values swapped in. None for an unused one."""
    kept: float | None
    """Answers that stay when another variable's subspace is swapped, or an unused one's own."""
    complement: float
    """Answers that stay when all that is orthogonal to its subspace is swapped."""
    half: float | None = None
    """With a copy at the last token: share of the source's answers when one of both is swapped."""
    gradient_inside: float | None = None
    """Share of the squared gradient of logit(source's answer) − logit(own answer) by the residual at the
    entity that lies in its subspace."""
    decodable: float | None = None
    """Entities whose nearest atom, within the subspace, is their own value's."""
    purity: float | None = None
    """Share of the variance between its values' means, outside the other subspaces, that is in its own."""
    norm: float | None = None
    """Mean norm of the values' means within the subspace."""
    rank: int | None = None
    """Dimensions that the values' means span."""


class Certificate(BaseModel):
    """The figures of a planted model, and whether they pass."""

    model_config = ConfigDict(frozen=True)

    certified: bool
    failures: tuple[str, ...]
    thresholds: dict[str, float]
    variables: dict[str, VariableCertificate]
    answers: dict[str, AnswerCertificate] = {}
    """Of other texts that have answers."""
    superposition: float
    """Σ ranks / d_model."""
    coherence: float
    """Largest cosine between directions of two variables' subspaces."""
    dependence: dict[str, float]
    """For every variable that follows another: mutual information as a share of the smaller entropy."""
    parameters: int
    model_sha256: str
    spec_sha256: str


def certify(halves: Halves, world: World, geometry: Geometry, model_sha256: str) -> Certificate:
    """Measures whether the model carries its variables in the subspaces of `geometry`."""
    found = {name: _measure(halves, world, geometry, at) for at, name in enumerate(world.variables)}
    answers = {
        text.name or f"text {i}": certify_answers(halves, world, text, DRAWS)
        for i, text in enumerate(world.spec.text, 1)
        if text.answered
    }
    failures = tuple(
        f"{name}: {score} {value:.3f}, expected at least {least}"
        for name, figures in (*found.items(), *answers.items())
        for score, least in THRESHOLDS.items()
        if (value := getattr(figures, score, None)) is not None and value < least
    )
    failures += tuple(
        f"{name}: half {variable.half:.3f}, expected {HALF[0]} to {HALF[1]}"
        for name, variable in found.items()
        if variable.half is not None and not HALF[0] <= variable.half <= HALF[1]
    )
    return Certificate(
        certified=not failures,
        failures=failures,
        thresholds={**THRESHOLDS, "half_at_least": HALF[0], "half_at_most": HALF[1]},
        variables=found,
        answers=answers,
        superposition=sum(map(len, geometry.rows.values())) / geometry.span.shape[1],
        coherence=geometry.coherence,
        dependence=dependence(world),
        parameters=sum(p.numel() for p in halves.model.parameters()),
        model_sha256=model_sha256,
        spec_sha256=world.spec.sha256,
    )


def dependence(world: World) -> dict[str, float]:
    """`I(A; B) / min(H(A), H(B))` over the entities for each pair that a spec makes depend; 0 to 1."""
    names, found = list(world.variables), {}
    for name, variable in world.spec.variables.items():
        if variable.follows:
            pair = world.labels[:, [names.index(variable.follows), names.index(name)]].numpy()
            found[f"{name} follows {variable.follows}"] = _information(pair)
    return found


def _entropy(labels: np.ndarray) -> float:
    share = np.unique(labels, axis=0, return_counts=True)[1] / len(labels)
    return float(-(share * np.log(share)).sum())


def _information(pair: np.ndarray) -> float:
    one, two = _entropy(pair[:, 0]), _entropy(pair[:, 1])
    return (one + two - _entropy(pair)) / min(one, two)


@torch.no_grad()
def _measure(halves: Halves, world: World, geometry: Geometry, at: int) -> VariableCertificate:
    name = world.variables[at]
    variable, carried = world.spec.variables[name], world.spec.carried
    about = torch.full((DRAWS,), at)
    generator = torch.Generator().manual_seed(10_000 + at)
    base, source = draw_pairs(world, about, world.held_out, TEST, generator)
    own = own_subspaces(world, about)
    parts, none = Parts(geometry), torch.zeros(DRAWS, len(carried) + 1)
    nowhere = torch.zeros_like(own)

    def share(inside: Tensor, at_end: Tensor, outside: float = 0.0) -> float:
        pairs = targets(world, base, source, inside, at_end, torch.full((DRAWS,), outside))
        return float(_right(halves, world, parts, pairs).float().mean())

    swap = own
    if variable.computed_from:
        # one of the two, or both
        some = torch.randint(1, 4, (DRAWS, 1), generator=generator)
        index = [carried.index(part) for part in variable.computed_from]
        swap = nowhere.clone()
        swap[:, index] = torch.cat([some % 2, some // 2], 1).float()
    others = [i for i in range(len(carried)) if not own[0, i]]
    other = nowhere.clone()
    if others:
        which = torch.tensor(others)[torch.randint(len(others), (DRAWS,), generator=generator)]
        other[torch.arange(DRAWS), which] = 1.0
    if not variable.used:
        # every second pair: its own, which nothing is to read
        other[::2] = 0.0
        other[::2, carried.index(name)] = 1.0
    rest = none[:, -1:]
    place = {} if variable.computed_from else _place(halves, world, geometry, at)
    return VariableCertificate(
        behaviour=share(none, nowhere),
        interchange=share(torch.cat([swap, rest], 1), own) if variable.used else None,
        kept=share(torch.cat([other, rest], 1), nowhere) if bool(other.any()) else None,
        complement=share(none, nowhere, 1.0),
        half=_half(halves, world, parts, base, source, own) if variable.copies == 2 else None,
        gradient_inside=_gradient(halves, world, parts, at) if variable.used else None,
        **place,
    )


def _right(halves: Halves, world: World, parts: Parts, pairs: Interchange) -> Tensor:
    return run(halves, world, parts, pairs).argmax(-1) == pairs.wanted


def _half(halves: Halves, world: World, parts: Parts, base: Prompts, source: Prompts, own: Tensor) -> float:
    """Share of the source's answer, among it and the base's own, with the entity's part alone swapped."""
    strength = torch.cat([own, torch.zeros(len(own), 1)], 1)
    pairs = targets(world, base, source, strength, torch.zeros_like(own))
    logits = run(halves, world, parts, pairs).gather(1, torch.stack([pairs.wanted, pairs.other], 1))
    return float(logits.softmax(1)[:, 0].mean())


def _place(halves: Halves, world: World, geometry: Geometry, at: int) -> dict[str, Any]:
    """Where values lie within the claimed subspace: decodability, norm, rank."""
    name = world.variables[at]
    labels = world.labels[:, at]
    acts = activations(halves, world)
    rows, atoms = geometry.rows[name], geometry.atoms[name]
    # what the other variables' atoms add in a subspace that they share is no error of this one
    others = [
        geometry.atoms[n][world.labels[:, world.variables.index(n)]] for n in geometry.atoms if n != name
    ]
    shared = torch.stack(others).sum(0) if others else torch.zeros_like(acts)
    inside = (acts - shared) @ rows.T
    nearest = torch.cdist(inside, atoms @ rows.T).argmin(1)
    held = world.held_out
    values = labels.unique()
    means = torch.stack([inside[labels == v].mean(0) for v in values])
    strength = torch.linalg.svdvals(means - means.mean(0))
    there = values if world.spec.variables[name].present == 1 else values[values > 0]
    norms = torch.stack([inside[labels == v].mean(0).norm() for v in there])
    return {
        "decodable": float((nearest == labels)[held].float().mean()),
        "purity": _purity(acts - acts @ geometry.span.T @ geometry.span, inside, labels),
        "norm": float(norms.mean()),
        "rank": int((strength > _SINGULAR * strength[0]).sum()),
    }


def _purity(rest: Float[Tensor, "n d"], inside: Float[Tensor, "n rank"], labels: Int[Tensor, "n"]) -> float:
    """Between-group variance inside, as a share of that inside and in the rest; both without bias."""
    own, left = (max(0.0, _between(points, labels)) for points in (inside, rest))
    return own / (own + left) if own + left > 0 else 0.0


def _between(points: Float[Tensor, "n m"], labels: Int[Tensor, "n"]) -> float:
    """Variance of the groups' means, less what their sizes make of the variance within."""
    values, index, counts = labels.unique(return_inverse=True, return_counts=True)
    means = torch.stack([points[labels == value].mean(0) for value in values])
    within = (points - means[index]).square().sum() / (len(points) - len(values))
    share = counts / counts.sum()
    off = means - share @ means
    return float(share @ off.square().sum(1) - within * (len(values) - 1) / len(points))


def activations(halves: Halves, world: World) -> Float[Tensor, "n_entities d"]:
    """Residual at every entity, in the first held-out phrasing."""
    template = (world.texts.held_out == TEST).nonzero()[0, 0]
    entity = torch.arange(len(world.entities))
    prompts = Prompts(template.expand(len(entity)), entity)
    with torch.no_grad():
        return halves.before(token_ids(world, prompts))[entity, at_entity(world, prompts)]


def _gradient(halves: Halves, world: World, parts: Parts, at: int) -> float:
    """Share of the squared gradient inside the subspaces that the answer is to be read from."""
    about = torch.full((_GRADIENTS,), at)
    generator = torch.Generator().manual_seed(20_000 + at)
    base, source = draw_pairs(world, about, world.held_out, TEST, generator)
    hidden = halves.before(token_ids(world, base))
    slot, last = at_entity(world, base), lengths(world, base) - 1
    rows = torch.arange(len(hidden))
    with torch.enable_grad():
        point = hidden[rows, slot].detach().clone().requires_grad_()
        edited = hidden.detach().clone()
        edited[rows, slot] = point
        logits = halves.after(edited, last)
        tokens = [value_tokens(world, about, _labels(world, p, at)) for p in (source, base)]
        new, old = logits.gather(1, torch.stack(tokens, 1)).unbind(1)
        (gradient,) = torch.autograd.grad((new - old).sum(), point)
    inside = parts.inside(gradient, own_subspaces(world, about))
    return float((inside * gradient).sum() / gradient.square().sum())


def _labels(world: World, prompts: Prompts, at: int) -> Int[Tensor, "b"]:
    return world.labels[prompts.entity, at]
