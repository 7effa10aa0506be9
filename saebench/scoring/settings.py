"""What numbers depend on besides weights and data: sizes of edits, and how masks and rotations are learned.

They are part of a result's id, and stand here so that an id can be computed without torch.
"""

from dataclasses import dataclass

EDIT_SIZES = (1, 2, 4, 8, 16, 32)
"""How many latents an edit may change."""


@dataclass(frozen=True)
class Pairs:
    """How pairs of prompts are drawn, and how long anything is trained on them."""

    steps: int = 200
    batch: int = 128
    groups: int = 4
    """Groups of prompts that share a pass, per batch: more of them cost time, fewer make batches alike."""


@dataclass(frozen=True)
class Masks:
    """What a mask depends on beyond its pairs."""

    starts: tuple[tuple[float, float], ...] = ((0.0, 0.1), (1.0, 0.03))
    """Where a training run's logits begin and its learning rate: half swapped, or most of all latents swapped."""
    temperature: tuple[float, float] = (1.0, 0.01)
    """At the first and the last step, evenly spaced in its logarithm between."""
    looks: int = 4
    """How often during training the hard mask is looked at on `select`."""


@dataclass(frozen=True)
class Rotations:
    """What a rotation depends on beyond its pairs."""

    rate: float = 0.01
    looks: int = 4
    """How often during training the rotation is looked at on `select`."""
    parts: tuple[int, ...] = (32, 16, 8, 4, 2)
    """Ranks that are trained, as parts of the width."""
    between: int = 4
    """How many ranks between the best one and the next smaller one trained are tried, by leaving
    directions out."""
    leads: int = 8
    """Batches of pairs from whose gradients a rotation starts."""


PAIRS, MASKS, ROTATIONS = Pairs(), Masks(), Rotations()
