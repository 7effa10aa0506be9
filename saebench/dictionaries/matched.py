"""The matched null: random directions that fire exactly as often as an SAE's latents (docs/methods.md §2) [ours].

What such a dictionary scores, any set of directions of this size and these firing rates would.
"""

from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.dictionaries.codes import SparseCodes
from saebench.dictionary import Dictionary, Encoding

DRAWS = 4
"""Random dictionaries that a floor is the mean over."""
_SORT_BYTES = 64 * 2**20


@final
class MatchedRandom(Dictionary):
    """Random unit rows, the encoder their transpose, a threshold per latent that matches a firing rate.

    As many latents as are live in `codes` (those of the SAE on `acts`), each on as often. JumpReLU over
    `a − ā`; all codes are scaled by one number, fitted by least squares, so that the null does not look bad
    for overshooting alone.
    """

    def __init__(self, name: str, codes: SparseCodes, acts: Float[Tensor, "n d_in"], seed: int = 0) -> None:
        self.name, self._mean = name, acts.mean(0)
        fires = torch.bincount(codes.latent, minlength=codes.d_sae)
        fires = fires[fires > 0]
        generator = torch.Generator().manual_seed(seed)
        # a dictionary of which nothing fires is matched by one latent that never does
        rows = torch.randn(max(1, len(fires)), acts.shape[1], generator=generator).to(acts)
        self.W_dec = rows / rows.norm(dim=1, keepdim=True)
        self._threshold = _thresholds((acts - self._mean), self.W_dec, fires)
        self._scale = 1.0
        top = bottom = 0.0
        for part in acts.split(1024):
            hat = (self.encode(part).codes @ self.W_dec).double()
            top += float((hat * (part - self._mean)).sum())
            bottom += float(hat.square().sum())
        self._scale = top / bottom if bottom > 0 else 1.0

    def encode(self, acts: Float[Tensor, "n d_in"]) -> Encoding:
        z = (acts - self._mean) @ self.W_dec.T
        return Encoding(torch.where(z >= self._threshold, z * self._scale, 0.0), self._mean)


def _thresholds(
    centred: Float[Tensor, "n d_in"], rows: Float[Tensor, "m d_in"], fires: Int[Tensor, "k"]
) -> Float[Tensor, "m"]:
    """The projection that exactly `fires[j]` samples reach, for every latent; +∞ where there is none."""
    found = torch.full((len(rows),), torch.inf, device=rows.device, dtype=rows.dtype)
    block = max(1, _SORT_BYTES // (4 * len(centred)))
    for part in torch.arange(len(fires), device=rows.device).split(block):
        up = _sorted(centred @ rows[part].T)
        found[part] = up.gather(0, len(centred) - fires[part][None])[0]
    return found


def _sorted(x: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """Columns in ascending order."""
    # ten times faster than torch on a CPU
    return torch.from_numpy(np.sort(x.numpy(), axis=0)) if x.device.type == "cpu" else x.sort(0).values
