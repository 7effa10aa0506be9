"""Reading activations and running the rest of the model with others in their place.

The only part of saebench that registers hooks. `capture` reads, `PatchedReadout` patches; the same
patched pass exists twice, as a full forward pass (`plain`, the oracle) and as the part of it that
an edit can change (`suffix`).
"""

from saebench.models.memory import Budget
from saebench.patching.all_tokens import capture_all
from saebench.patching.capture import capture, remembered, remembered_beside
from saebench.patching.placement import Placement
from saebench.patching.readout import PatchedReadout

__all__ = [
    "Budget",
    "PatchedReadout",
    "Placement",
    "capture",
    "capture_all",
    "remembered",
    "remembered_beside",
]
