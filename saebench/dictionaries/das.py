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

from saebench.cross_section import CrossSection, Split
from saebench.dictionaries.base import Intervention
from saebench.interchange import STEPS, Batch, Pairs, Tick, balances, stacked_sources, train

RATE = 0.01
CHECKS = 4
"""How often during training the rotation is looked at on `select`."""
PARTS = (16, 8, 4, 2)
"""Ranks that are trained, as parts of the width."""
SETTINGS = {"rate": RATE, "looks": CHECKS, "parts": PARTS}
"""What a rotation depends on beyond its pairs; enters a result's id."""


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
    """Ranks between 0 and d that are trained: d/16, d/8, d/4, d/2."""
    return tuple(sorted({max(1, d_in // part) for part in PARTS} - {d_in}))


def orthonormal(free: Float[Tensor, "k r d_in"]) -> Float[Tensor, "k r d_in"]:
    """Rows of an orthonormal basis of each free matrix's row space."""
    return torch.linalg.qr(free.transpose(1, 2)).Q.transpose(1, 2)


def start(section: CrossSection, rank: int, seed: int) -> Float[Tensor, "n_attributes r d_in"]:
    """Rows spanning the directions in which an attribute's class means differ most, filled at random.

    Directions of little variance have little gradient and would stay where chance put them.
    """
    generator = torch.Generator().manual_seed(seed)
    fit, found = section.fit, []
    for at, attribute in enumerate(section.attributes):
        label, n = fit.labels[:, at].cpu(), len(attribute.values)
        acts = (fit.acts - section.mean).double().cpu()
        sums = acts.new_zeros(n, acts.shape[1]).index_add_(0, label, acts)
        means = sums / torch.bincount(label, minlength=n).clamp(min=1)[:, None]
        _, strength, rows = torch.linalg.svd(means, full_matrices=False)
        rows = rows[strength > 1e-6 * strength[0].clamp(min=1e-30)][:rank]
        noise = torch.randn(rank - len(rows), acts.shape[1], generator=generator).double()
        found.append(torch.cat([rows, noise]))
    return torch.stack(found).to(fit.acts)


def fit_das(
    section: CrossSection,
    seed: int = 0,
    isolate: bool = True,
    ranks: Sequence[int] | None = None,
    skip: Sequence[str] = (),
    steps: int = STEPS,
    tick: Tick = lambda _: None,
) -> DAS:
    """Trains a rotation per rank on `fit` and keeps, for each attribute, the best rank and step.

    Rank, step and whether anything is swapped at all are chosen on `select` by ½ (cause + isolate);
    0 (no edit) and d (the whole source) are among the ranks; of equals the smallest rank and the last
    step count. `skip` names attributes that stay at rank 0. A rank is trained for all attributes
    together and every attribute chooses for itself; once nothing is left to gain no larger rank is
    tried.
    """
    d_in, select = section.d_in, section.select
    ranks = candidate_ranks(d_in) if ranks is None else ranks
    edited = [at for at, a in enumerate(section.attributes) if a.name not in skip]
    empty, full = section.mean.new_zeros(0, d_in), torch.eye(d_in).to(section.mean)
    found: dict[int, list[Found]] = {}
    if edited:
        edges = balances(section, select, {at: _swaps(section, select, at, {"0": empty, "d": full})
                                           for at in edited})  # fmt: skip
        for at in edited:
            found[at] = [Found(edges[at]["0"], 0, 0, empty), Found(edges[at]["d"], d_in, 0, full)]
        for rank in sorted(ranks):
            if all(max(one.score for one in found[at]) == 1 for at in edited):
                break
            seen = _train_rank(section, rank, seed, isolate, edited, steps)
            for at in edited:
                found[at].append(seen[at])
            tick(f"DAS of rank {rank}")
    rows = {}
    for at, attribute in enumerate(section.attributes):
        rows[attribute.name] = _choose(found[at]).rows if at in found else empty
    return DAS("control:das" if isolate else "control:das:single", rows)


def _choose(found: list[Found]) -> Found:
    return max(found, key=lambda one: (one.score, -one.rank))


def _swaps(
    section: CrossSection, split: Split, at: int, rows: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    source = split.source_acts[section.attributes[at].name]
    return {name: swap(split.acts, source, r) for name, r in rows.items()}


def _train_rank(
    section: CrossSection, rank: int, seed: int, isolate: bool, edited: list[int], steps: int
) -> dict[int, Found]:
    """Trains one rotation per attribute together; returns each one's best step."""
    fit, select = section.fit, section.select
    free = start(section, rank, seed).requires_grad_()
    sources = stacked_sources(section, fit)
    best: dict[int, Found] = {}

    def edit(batch: Batch, step: int) -> Tensor:
        base = fit.acts[batch.rows]
        change = sources[batch.rows, batch.attribute] - base
        rows = orthonormal(free)[batch.attribute.to(base.device)]
        return base + torch.einsum("brd,br->bd", rows, torch.einsum("brd,bd->br", rows, change))

    def look(step: int) -> None:
        if step % max(1, steps // CHECKS) and step != steps:
            return
        with torch.no_grad():
            rows = orthonormal(free)
            now = balances(section, select, {at: _swaps(section, select, at, {"": rows[at]})
                                             for at in edited})  # fmt: skip
        for at in edited:
            if at not in best or now[at][""] >= best[at].score:
                best[at] = Found(now[at][""], rank, step, rows[at].clone())

    look(0)
    train([free], edit, Pairs(section, fit, seed, isolate), fit, steps, RATE, look)
    return best


def overlap(
    rows: Float[Tensor, "r d_in"], planted: Float[Tensor, "p d_in"]
) -> tuple[float, Float[Tensor, "m"]]:
    """How far two subspaces agree: `Σ cos² / min(r, p)` in [0, 1], and the principal angles in degrees.

    Cosines of principal angles are the singular values of `R Pᵀ`; both have orthonormal rows.
    """
    if not len(rows) or not len(planted):
        return 0.0, torch.empty(0)
    cosines = torch.linalg.svdvals(rows.double().cpu() @ planted.double().cpu().T).clamp(max=1)
    return float(cosines.square().mean()), torch.rad2deg(cosines.acos())
