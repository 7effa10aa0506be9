"""How much of planted subspaces and atoms a decoder has found: pure functions of tensors."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from saebench.measures.recovery import Matching, cosines, random_rows, unit
from saebench.measures.subspaces import overlap

_INDEPENDENT = 1e-3
"""A row whose part outside the span so far is shorter than this adds no direction."""


class Span(NamedTuple):
    """The latents whose decoder rows span a planted subspace best, in the order they were taken."""

    latents: Int[Tensor, "k"]
    overlap: float
    """`Σ cos² / k` over principal angles between their span and the subspace; 1 is best."""


def best_span(
    W: Float[Tensor, "d_sae d_in"], rows: Float[Tensor, "k d_in"], live: Bool[Tensor, "d_sae"]
) -> Span:
    """As many live latents as the subspace has dimensions, taken one by one.

    Each is the one that adds most: with `w⊥` the part of its row outside the span so far, the largest
    `‖P w⊥‖² / ‖w⊥‖²`. A copy of one that was taken adds nothing. Fewer live latents than dimensions
    leave dimensions that are not overlapped.
    """
    left, P = unit(W), rows.double()
    basis = left.new_zeros(0, left.shape[1])
    taken: list[int] = []
    for _ in range(len(rows)):
        size = left.square().sum(1)
        gain = (left @ P.T).square().sum(1) / size.clamp(min=_INDEPENDENT**2)
        gain[(size < _INDEPENDENT**2) | ~live] = -1.0
        best = int(gain.argmax())
        if gain[best] < 0:
            break
        taken.append(best)
        direction = left[best] / left[best].norm()
        basis = torch.cat([basis, direction[None]])
        left = left - (left @ direction)[:, None] * direction
    share = overlap(basis, rows).overlap * len(taken) / len(rows)
    return Span(torch.tensor(taken, dtype=torch.long), share)


def match_atoms(
    W: Float[Tensor, "n d_in"], atoms: Float[Tensor, "n_values d_in"], live: Bool[Tensor, "n"]
) -> Matching:
    """One live row for each atom so that the sum of their cosines is largest.

    Rows are what detectors write. One that points against an atom, or across it, is no match: an atom for
    which no other row is left has −1 and cosine 0.
    """
    cos = torch.where(live, cosines(atoms, W), 0.0).clamp(min=0)
    atom, row = linear_sum_assignment(cos.cpu().numpy(), maximize=True)
    found = torch.full((len(atoms),), -1, dtype=torch.long, device=W.device)
    found[torch.from_numpy(atom).to(W.device)] = torch.from_numpy(row).to(W.device)
    value = cos.gather(1, found.clamp(min=0)[:, None])[:, 0]
    matched = (found >= 0) & (value > 0)
    return Matching(torch.where(matched, found, -1), torch.where(matched, value, 0.0))


class Null(NamedTuple):
    """What random decoders with as many rows reach."""

    overlap: float
    cosine: float


def null(
    sides: Bool[Tensor, "2 n"],
    rows: Float[Tensor, "k d_in"],
    atoms: Float[Tensor, "n_values d_in"],
    seed: int,
    draws: int = 4,
) -> Null:
    """Means over `draws` decoders of independent random rows, one for each live latent.

    `sides` marks the latents that are on with positive and with negative codes.
    """
    overlaps, matched = [], []
    sides = sides[:, sides.any(0)]
    n = sides.shape[1]
    for draw in range(draws):
        W = random_rows(n, rows.shape[1], 1000 * (seed + 1) + draw).to(rows.device)
        overlaps.append(best_span(W, rows, torch.ones_like(sides[0])).overlap)
        matched.append(float(match_atoms(torch.cat([W, -W]), atoms, sides.flatten()).cosine.mean()))
    return Null(sum(overlaps) / draws, sum(matched) / draws)


def detection(active: Bool[Tensor, "n m"], present: Bool[Tensor, "n m"]) -> Float[Tensor, "m"]:
    """`F1* = max(0, (F1 − F1₀) / (1 − F1₀))` of each column, `F1₀ = 2p/(1 + p)` of a latent always on."""
    both = (active & present).sum(0).double()
    f1 = 2 * both / (active.sum(0) + present.sum(0)).clamp(min=1)
    p = present.double().mean(0)
    always = 2 * p / (1 + p)
    return ((f1 - always) / (1 - always).clamp(min=1e-9)).clamp(min=0)
