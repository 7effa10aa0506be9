"""Controls: dictionaries and interventions that know nothing, and show what a score is worth.

docs/methods.md §2. They run through the same functions as the SAE under test.
"""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.dictionary import Dictionary, Encoding, Intervention


@final
class Identity(Dictionary):
    """Neurons: every coordinate of the activation is a latent. Reconstructs without error."""

    name = "control:identity"

    def __init__(self, mean: Float[Tensor, "d_in"]) -> None:
        self.W_dec = torch.eye(len(mean), device=mean.device, dtype=mean.dtype)
        self._zero = torch.zeros_like(mean)

    def encode(self, acts: Float[Tensor, "n d_in"]) -> Encoding:
        return Encoding(acts, self._zero)


@final
class Mean(Dictionary):
    """Reconstructs everything as ā: one latent that never fires. The floor of approximation."""

    name = "control:mean"

    def __init__(self, mean: Float[Tensor, "d_in"]) -> None:
        self.W_dec = torch.zeros(1, len(mean), device=mean.device, dtype=mean.dtype)
        self._mean = mean

    def encode(self, acts: Float[Tensor, "n d_in"]) -> Encoding:
        return Encoding(acts.new_zeros(len(acts), 1), self._mean)


@final
class PCA(Dictionary):
    """The k leading principal components of `fit`, codes of either sign, all of them always on."""

    def __init__(self, acts: Float[Tensor, "n d_in"], k: int) -> None:
        self.name = f"control:pca:{k}"
        self._mean = acts.mean(0)
        # LAPACK in float64: components of nearly equal variance must not depend on thread count
        _, _, rows = torch.linalg.svd((acts - self._mean).double().cpu(), full_matrices=False)
        rows = rows[:k]
        # the sign of a singular vector is arbitrary: make the largest coordinate positive
        flip = rows.gather(1, rows.abs().argmax(1, keepdim=True)).sign()
        self.W_dec = (rows * flip).to(acts)

    def encode(self, acts: Float[Tensor, "n d_in"]) -> Encoding:
        return Encoding((acts - self._mean) @ self.W_dec.T, self._mean)


@final
class Random(Dictionary):
    """Random unit decoder rows, the encoder their transpose, one threshold matched to an L0.

    JumpReLU: codes are projections of `a − ā` above the threshold. All codes are scaled by one
    number, fitted by least squares, so that the row does not look bad for overshooting alone.
    """

    def __init__(self, acts: Float[Tensor, "n d_in"], d_sae: int, l0: float, seed: int = 0) -> None:
        self.name = f"control:random:{l0:g}"
        self._mean = acts.mean(0)
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randn(d_sae, acts.shape[1], generator=generator).to(acts)
        self.W_dec = rows / rows.norm(dim=1, keepdim=True)
        # a sample is enough for one quantile, and keeps this below 100 MB at 65,536 latents
        sample = (acts - self._mean)[: max(64, 2**24 // d_sae)]
        projections = sample @ self.W_dec.T
        keep = min(max(round(l0 * len(sample)), 1), projections.numel() - 1)
        self.threshold = float(projections.flatten().kthvalue(projections.numel() - keep).values)
        self.scale = 1.0
        hat = (self.encode(acts[: len(sample)]).codes @ self.W_dec).double()
        power = float(hat.square().sum())
        self.scale = float((hat * sample).sum()) / power if power > 0 else 1.0

    def encode(self, acts: Float[Tensor, "n d_in"]) -> Encoding:
        z = (acts - self._mean) @ self.W_dec.T
        return Encoding(torch.where(z > max(self.threshold, 0.0), z * self.scale, 0.0), self._mean)


@final
class Permuted(Dictionary):
    """An SAE whose decoder rows are shuffled: its codes tell the same, its directions nothing."""

    def __init__(self, dictionary: Dictionary, seed: int = 0) -> None:
        self.name = f"control:permuted:{dictionary.name}"
        self._inner, self.reads = dictionary, dictionary.reads
        self.W_dec = dictionary.shuffled(seed)

    def encode(self, acts: Float[Tensor, "n d_in"]) -> Encoding:
        return self._inner.encode(acts)


@final
class NoEdit(Intervention):
    """Leaves the activation as it is: the floor of control."""

    name = "control:no-edit"

    def edit(
        self, attribute: str, base: Float[Tensor, "n d_in"], source: Float[Tensor, "n d_in"]
    ) -> Float[Tensor, "n d_in"]:
        return base


@final
class SourcePatch(Intervention):
    """Puts the whole source activation in place: what the site can do at most."""

    name = "control:source-patch"

    def edit(
        self, attribute: str, base: Float[Tensor, "n d_in"], source: Float[Tensor, "n d_in"]
    ) -> Float[Tensor, "n d_in"]:
        return source
