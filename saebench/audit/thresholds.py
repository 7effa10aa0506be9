"""The bars of the audit, in one place. They are written down before a run and change in a commit of their own."""

from typing import NamedTuple


class Thresholds(NamedTuple):
    """What each lens asks for (docs/methods.md §12). Differences are of normalised headlines."""

    ceiling_margin: float = 0.02
    """Order: no SAE is credibly farther above the ceiling than this."""
    above_null: float = 0.0
    """Order: every trained SAE's paired difference to its matched null lies above this."""
    undertrained_axes: int = 3
    """Order: axes on which an under-trained SAE lies credibly below its fully trained twin."""
    fall: float = -1e-6
    """Order: no fall between snapshots of a training run is credible (Bonferroni over all of a board)."""
    truth: float = 0.8
    """Truth: rank correlation with recovery inside L0 bands …"""
    truth_low: float = 0.6
    """… whose interval lies above this."""
    truth_families: int = 4
    """Truth: families of six in which the overall ordering reaches that."""
    lost_families: float = 0.5
    """Truth: share of the families in which an axis may credibly not follow recovery and still order boards."""
    null_task: float = 0.02
    """Specificity: a headline where nothing has an effect is undefined, or credibly no higher than this."""
    unmoved: float = 0.01
    """Specificity: what must not move moves by no more than this."""
    separation: float = 3.0
    """Separation: SD between SAEs over SD of one SAE between draws of prompts."""
    decisions: float = 0.9
    """Separation: pairs that `full` tells apart and `quick` orders alike."""
    covered: float = 0.94
    """Repeatability: pairs of task seeds whose values differ by no more than their intervals say."""
    gamed_axes: int = 1
    """Gaming: axes on which a cheat may lie above every trained SAE."""


BARS = Thresholds()
CHEAT_MARGIN = 1e-3
"""An always-on latent or duplicates may equal the SAE they are made from, on a single axis …"""
ORDERING_MARGIN = 2e-4
"""… and in the ordering. A latent more is one more in the matched null, whose directions are drawn anew, and floors
move: of 48 SAEs with one to eight idle latents more the largest lead is 2e-3 on one axis and 5e-5 in the mean of the
axes that order (`saebench.studies.audit.margin`, results/audit/margin.csv), and its interval is ± 1e-4 wide."""
L0_BANDS = (-0.5, 0.5)
"""Edges of the bands in powers of two about the true L0: below, near, above."""
LEAST_IN_BAND = 8
FALLS = ("permuted-decoder", "permuted-encoder")
"""Changes after which every headline must be lower."""
UNMOVED = ("dead-latents", "rescaled-codes")
"""Changes after which every headline must be what it was."""
ENDS, FOLLOWS = "away from the ends", "follows recovery"
GREYING = (("order", ""), ("specificity", ""), ("gaming", ""), ("separation", ENDS), ("truth", FOLLOWS))
"""Lenses, or single checks of them, of which a failure takes an axis out of the ordering of that board; the
last is put to all families together and takes it out of the ordering of every board."""
