"""A subspace that was found against the one that was planted."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Agreement(NamedTuple):
    """How far two subspaces agree."""

    overlap: float
    """`Σ cos² / min(ranks)` over principal angles, in [0, 1]; higher is better."""
    angles: Float[Tensor, "_"]
    """Principal angles in degrees, smallest first."""


class Swapped(NamedTuple):
    """What a swap of the found subspace does to the planted ones, over pairs of base and source."""

    carried: float
    """Share of the change in the attribute's own planted subspace that is reproduced; at most 1."""
    leaked: dict[str, float]
    """Size of the change in each other planted subspace, as a share of the whole source's change there."""


def overlap(rows: Float[Tensor, "r d_in"], planted: Float[Tensor, "p d_in"]) -> Agreement:
    """Agreement of the spans of two sets of orthonormal rows; 0 without angles if one is empty.

    Cosines of principal angles are the singular values of `R Pᵀ`.
    """
    if not len(rows) or not len(planted):
        return Agreement(0.0, torch.empty(0))
    cosines = torch.linalg.svdvals(rows.double().cpu() @ planted.double().cpu().T).clamp(max=1)
    return Agreement(float(cosines.square().mean()), torch.rad2deg(cosines.acos()))


def by_chance(rank: int, planted: int, d_in: int) -> float:
    """Expected overlap of random subspaces of these ranks."""
    return max(rank, planted) / d_in


def swapped(
    change: Float[Tensor, "n d_in"],
    rows: Float[Tensor, "r d_in"],
    planted: Mapping[str, Float[Tensor, "_ d_in"]],
    own: str,
) -> Swapped:
    """Reads the swap `RᵀR change` in the coordinates of the planted subspaces (`change = h_s − h_b`).

    carried = 1 − Σ‖P (RᵀR change − change)‖² / Σ‖P change‖², which over- and undershooting both lower.
    """
    moved = change @ rows.T @ rows
    size = {name: float((change @ p.T).square().sum()) for name, p in planted.items()}
    missed = float(((moved - change) @ planted[own].T).square().sum())
    leaked = {
        name: float((moved @ p.T).square().sum()) / size[name] for name, p in planted.items() if name != own
    }
    return Swapped(1 - missed / size[own], leaked)
