"""Subspaces that were trained into the bundled model: where its facts about cities are."""

import torch
from torch import Tensor

from saebench.models.known import DEMO
from saebench.models.language_model import LanguageModel
from saebench.site import Site

SITE = Site.parse("blocks.1.hook_resid_pre@entity")
"""The one site at which `demo.lm` plants them."""


def planted_subspaces(model: LanguageModel, site: Site) -> dict[str, Tensor]:
    """Orthonormal rows `[rank, d_in]` by attribute; empty for other models and sites."""
    if model.name != "demo" or site != SITE:
        return {}
    from safetensors.torch import load_file

    found = load_file(DEMO / "planted.safetensors")
    return {name: rows.to(model.device, torch.float32) for name, rows in found.items()}
