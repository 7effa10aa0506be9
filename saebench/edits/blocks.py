"""Edits of several sites at once: each of a size of its own, side by side in one activation."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saebench.dictionaries.codes import SparseCodes
from saebench.edits.few_latents import Edit

K = TypeVar("K")


def of_latents(codes: SparseCodes, latents: slice) -> Bool[Tensor, "nnz"]:
    """Which codes are of a site's latents."""
    return (codes.latent >= latents.start) & (codes.latent < latents.stop)


def within(codes: SparseCodes, latents: slice) -> SparseCodes:
    """The codes of a site's latents, as those of its own dictionary."""
    size = latents.stop - latents.start
    if size == codes.d_sae:
        return codes
    mine = of_latents(codes, latents)
    return SparseCodes(codes.row[mine], codes.latent[mine] - latents.start, codes.value[mine], codes.n, size)


def detectors_within(table: Float[Tensor, "n_detectors *m"], d_sae: int, latents: slice) -> Tensor:
    """Rows of a table over detectors (latents, and again for their other sign) that are a site's."""
    return table.unflatten(0, (-1, d_sae))[:, latents].flatten(0, 1)


def acts_beside(found: Sequence[Mapping[K, Float[Tensor, "n _"]]]) -> dict[K, Float[Tensor, "n d_in"]]:
    """Edited activations of each site, by what the edits are, side by side."""
    return {key: torch.cat([each[key] for each in found], 1) for key in found[0]}


def edits_beside(found: Sequence[Mapping[K, Edit]]) -> dict[K, Edit]:
    """Edits of each site as one: latents changed add up, and the weight taken away is the mean over sites."""
    out = {}
    for key in found[0]:
        each = [edits[key] for edits in found]
        changed = torch.stack([e.n_changed for e in each]).sum(0)
        lost = torch.stack([e.removed_weight for e in each]).mean(0)
        out[key] = Edit(torch.cat([e.acts for e in each], 1), changed, lost)
    return out
