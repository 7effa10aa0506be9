"""Activations like those that SAEs are trained on: a hook point at any token, not at a task's own."""

import random
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.models.language_model import LanguageModel
from saebench.patching.capture import remembered
from saebench.patching.placement import Placement

TOKENS = 4
"""Tokens of each prompt that are read."""


def ordinary_activations(
    model: LanguageModel, tokens: Sequence[Sequence[int]], places: Sequence[Placement]
) -> Float[Tensor, "m d_in"]:
    """The places' hook points at four tokens of every prompt, side by side, drawn the same way each time.

    A task edits one position, and norms differ between positions: on the demo model the scale of an
    SAE's input is 0.48 at the site alone, 0.94 here and 0.95 on ordinary sentences. The first token is
    left out, since its norm is often hundreds of times that of others.
    """
    rng = random.Random(0)
    drawn = [torch.tensor([_later(rng, len(t)) for t in tokens]) for _ in range(TOKENS)]
    there = {(i, j): p._replace(positions=at) for i, at in enumerate(drawn) for j, p in enumerate(places)}
    found = remembered(model, tokens, there)
    return torch.cat([torch.cat([found[i, j] for j in range(len(places))], 1) for i in range(TOKENS)])


def _later(rng: random.Random, length: int) -> int:
    """A position behind the first, where there is one."""
    return rng.randrange(min(1, length - 1), length)
