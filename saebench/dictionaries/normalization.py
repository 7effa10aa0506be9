"""Input scales of SAEs, found while encoding and handed on with the codes.

An SAE may be trained on rescaled activations. Here no scale stays on a module for `decode` to
pick up: `normalize` returns what goes into the encoder together with the scale and the shift that
lead back, and the adapter multiplies the scale into the codes.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.errors import CheckpointError, unknown


class Normalized(NamedTuple):
    """`acts = inner * scale + shift`, up to the small constant that layer norm adds."""

    inner: Float[Tensor, "n d_in"]
    scale: Float[Tensor, "n 1"] | float
    """Units of activation per unit of the encoder's input."""
    shift: Float[Tensor, "n 1"] | float


def _none(acts: Float[Tensor, "n d_in"], factor: float | None) -> Normalized:
    return Normalized(acts, 1.0, 0.0)


def _layer_norm(acts: Float[Tensor, "n d_in"], factor: float | None) -> Normalized:
    """SAELens and Gao et al. 2024 (arXiv 2406.04093): divide by `std + 1e-5`, multiply by `std`."""
    mean = acts.mean(-1, keepdim=True)
    std = (acts - mean).std(-1, keepdim=True)
    return Normalized((acts - mean) / (std + 1e-5), std, mean)


def _constant_norm(acts: Float[Tensor, "n d_in"], factor: float | None) -> Normalized:
    """Every example is brought to the norm `√d_in`; a zero example stays zero."""
    scale = acts.norm(dim=-1, keepdim=True) / acts.shape[-1] ** 0.5
    return Normalized(acts / torch.where(scale > 0, scale, torch.ones_like(scale)), scale, 0.0)


def _factor(acts: Float[Tensor, "n d_in"], factor: float | None) -> Normalized:
    """One constant factor, so that the mean norm over the training data is `√d_in`."""
    if factor is None:
        raise CheckpointError(
            "This SAE was trained on activations times a constant, and the constant is not in the"
            " checkpoint. Measure it on the fit split (`Loaded.fitted(acts)`), or give it"
            " (`Loaded.scaled(factor)`)."
        )
    return Normalized(acts * factor, 1.0 / factor, 0.0)


NORMALIZATIONS: dict[str, Callable[[Float[Tensor, "n d_in"], float | None], Normalized]] = {
    "none": _none,
    "layer_norm": _layer_norm,
    "constant_norm_rescale": _constant_norm,
    "expected_average_only_in": _factor,
    "constant_scalar_rescale": _factor,
}


def normalize(acts: Float[Tensor, "n d_in"], kind: str, factor: float | None = None) -> Normalized:
    """The encoder's input, with the scale and shift back to activation units.

    Raises:
        CheckpointError: for an unknown kind, or a constant factor that is not known.
    """
    if kind not in NORMALIZATIONS:
        raise CheckpointError(unknown("activation normalisation", kind, NORMALIZATIONS))
    return NORMALIZATIONS[kind](acts, factor)


def average_factor(acts: Float[Tensor, "n d_in"]) -> float:
    """`√d_in / mean‖a‖`: the factor of `expected_average_only_in`, measured on given activations.

    Raises:
        CheckpointError: if the activations are all zero or not finite.
    """
    norm = acts.double().norm(dim=-1).mean().item()
    if not 0 < norm < float("inf"):
        raise CheckpointError(
            f"Cannot measure the input scale: the mean norm of the activations is {norm}."
            " Give activations that are finite and not all zero."
        )
    return acts.shape[-1] ** 0.5 / norm
