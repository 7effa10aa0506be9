"""A residual-stream SAE at one sublayer: what the sublayer adds, told apart over the latents that are on.

docs/methods.md §13. `[ours]` An SAE of the residual stream says which latents are on after a sublayer has added its
output to the stream; the output is then written as a sum of those latents' decoder rows.
"""

from typing import ClassVar, Literal, final

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import nnls
from torch import Tensor

from saebench.dictionary import Dictionary, Encoding

Method = Literal["nnls", "projection"]


@final
class SublayerDictionary(Dictionary):
    """Codes of a sublayer's output `o` over the latents that an SAE of the residual stream has on.

    `o ≈ Σ_{j active on r} c_j w_j`, where `r` is the residual stream at `reads` and `w_j` the SAE's decoder rows.
    `nnls`: `c ≥ 0`, by non-negative least squares (the algorithm of Lawson and Hanson, in SciPy); a latent that
    is on can only have been written to. `projection`: least squares without a sign, the orthogonal projection of
    `o` on the span of the rows. Nothing is added to either: the SAE's bias belongs to the whole stream.
    """

    joins: ClassVar[bool] = True

    def __init__(self, inner: Dictionary, reads: str, method: Method) -> None:
        self.name, self.inner, self.reads = f"{inner.name} by {method}", inner, reads
        self.method: Method = method
        self.W_dec = inner.W_dec

    @torch.no_grad()
    def encode(self, acts: Float[Tensor, "n two_d_in"]) -> Encoding:
        """From the sublayer's output and the residual stream, side by side."""
        out, residual = acts[:, : self.d_in], acts[:, self.d_in :]
        active = self.inner.encode(residual).codes != 0
        rows, targets = self.W_dec.double().numpy(force=True), out.double().numpy(force=True)
        codes = np.zeros(active.shape)
        for i, on in enumerate(active.numpy(force=True)):
            if on.any():
                codes[i, on] = _solve(rows[on], targets[i], self.method)
        return Encoding(torch.from_numpy(codes).to(acts), acts.new_zeros(self.d_in))


def _solve(
    rows: Float[np.ndarray, "m d_in"], target: Float[np.ndarray, "d_in"], method: Method
) -> Float[np.ndarray, "m"]:
    if method == "nnls":
        return nnls(rows.T, target)[0]
    return np.linalg.lstsq(rows.T, target)[0]
