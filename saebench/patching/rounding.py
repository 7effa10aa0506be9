"""How far two ways of computing the same may differ by rounding alone."""

import torch
from torch import Tensor

# Largest difference, absolute and relative to the largest value.
ABSOLUTE = 1e-4
RELATIVE = {torch.float32: 1e-5, torch.bfloat16: 0.05, torch.float16: 0.01}
# What a model of an unforeseen build may raise where a pass asks for more than it can do.
UNFIT = (RuntimeError, ValueError, TypeError, LookupError, AttributeError)


def allowed(values: Tensor, dtype: torch.dtype) -> float:
    """The largest difference from `values` that rounding explains, computed in `dtype`."""
    return max(ABSOLUTE, RELATIVE[dtype] * values.abs().max().item())


def difference(a: Tensor, b: Tensor) -> float:
    """The largest difference between two values; infinite where their shapes differ."""
    return (a - b).abs().max().item() if a.shape == b.shape else torch.inf
