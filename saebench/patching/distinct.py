"""Edits that are the same activation of the same prompt need one pass."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Distinct(NamedTuple):
    """Every prompt's edits without repetition. Edits by few latents repeat where none is left.

    Edits are told apart by their product with a random direction, in float64.
    """

    slot: Int[Tensor, "e n"]
    """Which of its prompt's distinct edits an edit is. The first edit has a slot 0 of its own."""
    count: Int[Tensor, "n"]
    """Slots that a prompt needs, 1 to e. On the CPU."""

    @classmethod
    def of(cls, edits: Sequence[Float[Tensor, "n d_in"]], device: torch.device) -> "Distinct":
        generator = torch.Generator().manual_seed(0)
        draw = torch.randn(edits[0].shape[1], generator=generator, dtype=torch.float64)
        found = [edit.double() @ draw.to(edit.device) for edit in edits]
        key = torch.stack([one.to(device) for one in found])
        # NaN equals nothing: what is not finite is run as it is, and seen
        key = key.where(key.isfinite(), torch.nan)
        key[0] = -torch.inf
        ordered, order = key.sort(dim=0, stable=True)
        begins = torch.ones_like(order)
        begins[1:] = ordered[1:] != ordered[:-1]
        number = begins.cumsum(0) - 1
        slot = torch.empty_like(order).scatter_(0, order, number)
        return cls(slot, number[-1].cpu() + 1)
