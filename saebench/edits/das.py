"""DAS: an attribute lives in a subspace, found by swapping it [Geiger et al. 2023; RAVEL §3].

`h = h_b + Rᵀ R (h_s − h_b)` with orthonormal rows R, one R per attribute, trained so that the model
gives the wanted answers. *Multi-task* DAS is trained on cause and isolate examples in one loss; DAS
on cause examples alone. It is the skyline of control where no prompt differs in one attribute alone.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.cache.tensors import cached
from saebench.cross_section import CrossSection, Split
from saebench.dictionary import Intervention
from saebench.edits.pairs import Batch, Pairs, Tick, balances, stacked_sources, train
from saebench.scoring.settings import PAIRS, ROTATIONS


@final
class DAS(Intervention):
    """Swaps the projection onto each attribute's subspace. `rows[attribute]` is `[rank, d_in]`."""

    def __init__(self, name: str, rows: Mapping[str, Float[Tensor, "rank d_in"]]) -> None:
        self.name, self.rows = name, dict(rows)

    def edit(
        self, attribute: str, base: Float[Tensor, "n d_in"], source: Float[Tensor, "n d_in"]
    ) -> Float[Tensor, "n d_in"]:
        return swap(base, source, self.rows[attribute])


def swap(
    base: Float[Tensor, "n d_in"], source: Float[Tensor, "n d_in"], rows: Float[Tensor, "r d_in"]
) -> Float[Tensor, "n d_in"]:
    """`h_b + Rᵀ R (h_s − h_b)`; rank 0 leaves the base, rank d puts the source in its place."""
    if len(rows) == rows.shape[1]:
        return source
    return base + (source - base) @ rows.T @ rows


class Found(NamedTuple):
    """The best rotation of one attribute so far."""

    score: float
    rank: int
    step: int
    rows: Tensor


def candidate_ranks(d_in: int) -> tuple[int, ...]:
    """Ranks between 0 and d that are trained: d/32, d/16, d/8, d/4, d/2."""
    return tuple(sorted({max(1, d_in // part) for part in ROTATIONS.parts} - {d_in}))


def orthonormal(free: Float[Tensor, "k r d_in"]) -> Float[Tensor, "k r d_in"]:
    """Rows of an orthonormal basis of each free matrix's row space."""
    return torch.linalg.qr(free.transpose(1, 2)).Q.transpose(1, 2)


def leads(section: CrossSection, seed: int) -> list[Float[Tensor, "_ d_in"]]:
    """For each attribute, which directions its answers respond to, one a row.

    Gradients of `logit(wanted) − logit(own answer)` by the activation, on cause pairs of `fit`, at the
    base and at the source.
    """
    fit, pairs = section.fit, Pairs(section, section.fit, seed, isolate=False)
    sources = stacked_sources(section, fit)
    found: list[list[Tensor]] = [[fit.acts[:0]] for _ in section.attributes]
    for _ in range(ROTATIONS.leads):
        rows, attribute, wanted = pairs.draw()
        own = fit.readout.answer[rows]
        for acts in (fit.acts[rows], sources[rows, attribute]):
            point = acts.clone().requires_grad_()
            logits = fit.readout.logits(point, rows)
            tokens = torch.stack([wanted.to(own.device), own], 1)
            new, old = logits.gather(1, tokens).unbind(1)
            (gradient,) = torch.autograd.grad((new - old).sum(), point)
            for at, mine in enumerate(found):
                mine.append(gradient[(attribute == at).to(gradient.device)])
    return [torch.cat(mine) for mine in found]


def start(
    gradients: Sequence[Float[Tensor, "_ d_in"]], rank: int, seed: int
) -> Float[Tensor, "n_attributes r d_in"]:
    """Rows spanning the directions that answers about each attribute respond to most, filled at random.

    Where attributes depend on each other, class means differ along all of them at once, and much of a
    rotation that starts there stays in subspaces of other attributes.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for gradient in gradients:
        _, strength, rows = torch.linalg.svd(gradient.double().cpu(), full_matrices=False)
        rows = rows[strength > 1e-6 * strength.sum()][:rank]
        noise = torch.randn(rank - len(rows), gradient.shape[1], generator=generator).double()
        found.append(torch.cat([rows, noise]))
    return torch.stack(found).to(gradients[0])


def fit_das(
    section: CrossSection,
    seed: int = 0,
    isolate: bool = True,
    ranks: Sequence[int] | None = None,
    skip: Sequence[str] = (),
    steps: int = PAIRS.steps,
    tick: Tick = lambda _: None,
) -> DAS:
    """Trains a rotation per rank on `fit` and keeps, for each attribute, the best rank and step.

    Rank, step and whether anything is swapped at all are chosen on `select` by ½ (cause + isolate);
    0 (no edit) and d (the whole source) are among the ranks. Of equals the smallest rank and the first
    step count: nothing is moved once there is nothing left to gain, and no direction is kept that is
    not needed. `skip` names attributes that stay at rank 0. A rank is trained for all attributes
    together and every attribute chooses for itself; once nothing is left to gain no larger rank is
    tried.
    """
    ranks = candidate_ranks(section.d_in) if ranks is None else ranks
    parts = section.made_from and [section.made_from, seed, isolate, list(ranks), list(skip), steps]

    def make() -> dict[str, Tensor]:
        return _fit(section, seed, isolate, ranks, skip, steps, tick)

    rows = cached("das", parts, make, section.mean.device)
    return DAS("control:das" if isolate else "control:das:single", rows)


def _fit(
    section: CrossSection,
    seed: int,
    isolate: bool,
    ranks: Sequence[int],
    skip: Sequence[str],
    steps: int,
    tick: Tick,
) -> dict[str, Float[Tensor, "_ d_in"]]:
    """Rows of the rotation of every attribute."""
    d_in, select = section.d_in, section.select
    edited = [at for at, a in enumerate(section.attributes) if a.name not in skip]
    empty, full = section.mean.new_zeros(0, d_in), torch.eye(d_in).to(section.mean)
    found: dict[int, list[Found]] = {}
    if edited:
        edges = balances(
            section, select, {at: _swaps(section, select, at, {"0": empty, "d": full}) for at in edited}
        )
        for at in edited:
            found[at] = [Found(edges[at]["0"], 0, 0, empty), Found(edges[at]["d"], d_in, 0, full)]
        first = leads(section, seed)
        for rank in sorted(ranks):
            if all(max(one.score for one in found[at]) == 1 for at in edited):
                break
            free = start(first, rank, seed)
            seen = _train_rank(section, free, seed, isolate, edited, steps)
            for at in edited:
                found[at].append(seen[at])
            tick(f"DAS of rank {rank}")
    rows = {}
    for at, attribute in enumerate(section.attributes):
        rows[attribute.name] = _choose(section, at, found[at]).rows if at in found else empty
    return rows


def _choose(section: CrossSection, at: int, found: list[Found]) -> Found:
    """The best one, without directions that it can do without on `select`."""
    best = max(found, key=lambda one: (one.score, -one.rank))
    below = max(one.rank for one in found if one.rank < max(1, best.rank))
    ranks = {
        below + (best.rank - below) * i // (ROTATIONS.between + 1) for i in range(1, ROTATIONS.between + 1)
    }
    ranks = sorted(ranks - {below, best.rank})
    if best.rank == section.d_in or not ranks:
        return best
    select = section.select
    moved = (select.source_acts[section.attributes[at].name] - select.acts) @ best.rows.T
    # first the directions along which sources differ most from their bases
    order = torch.linalg.eigh((moved.T @ moved).float()).eigenvectors.flip(1)
    rows = order.T.to(best.rows) @ best.rows
    fewer = {str(rank): rows[:rank] for rank in ranks}
    scores = balances(section, select, {at: _swaps(section, select, at, fewer)})[at]
    enough = [rank for rank in ranks if scores[str(rank)] >= best.score]
    return Found(best.score, enough[0], best.step, rows[: enough[0]]) if enough else best


def _swaps(section: CrossSection, split: Split, at: int, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
    source = split.source_acts[section.attributes[at].name]
    return {name: swap(split.acts, source, r) for name, r in rows.items()}


def _train_rank(
    section: CrossSection,
    free: Float[Tensor, "n_attributes r d_in"],
    seed: int,
    isolate: bool,
    edited: list[int],
    steps: int,
) -> dict[int, Found]:
    """Trains one rotation per attribute together, from `free`; returns each one's first best step."""
    fit, select = section.fit, section.select
    free.requires_grad_()
    sources = stacked_sources(section, fit)
    best: dict[int, Found] = {}

    def edit(batch: Batch, step: int) -> Tensor:
        base = fit.acts[batch.rows]
        change = sources[batch.rows, batch.attribute] - base
        rows = orthonormal(free)[batch.attribute.to(base.device)]
        return base + torch.einsum("brd,br->bd", rows, torch.einsum("brd,bd->br", rows, change))

    def look(step: int) -> None:
        if step % max(1, steps // ROTATIONS.looks) and step != steps:
            return
        with torch.no_grad():
            rows = orthonormal(free)
            now = balances(
                section, select, {at: _swaps(section, select, at, {"": rows[at]}) for at in edited}
            )
        for at in edited:
            if at not in best or now[at][""] > best[at].score:
                best[at] = Found(now[at][""], free.shape[1], step, rows[at].clone())

    look(0)
    train([free], edit, Pairs(section, fit, seed, isolate), fit, steps, ROTATIONS.rate, look)
    return best
