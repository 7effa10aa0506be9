"""Dictionaries that ought not to score well, and changes that ought to change, or not to change, a score.

Each shows one way in which a number can be had without what it stands for (docs/methods.md §12, specificity and
gaming). They exist in memory only and pass through the same functions as the SAEs.
"""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.dictionary import Dictionary, Encoding

TINY = 1e-3
"""Norm of decoder rows that detect and write nothing."""


@final
class PermutedEncoder(Dictionary):
    """An SAE that reads its input with the coordinates dealt at random: the decoder is untouched."""

    def __init__(self, inner: Dictionary, mean: Float[Tensor, "d_in"], seed: int = 0) -> None:
        self.name, self._inner, self._mean = f"permuted encoder of {inner.name}", inner, mean
        self.W_dec = inner.W_dec
        self._order = torch.randperm(len(mean), generator=torch.Generator().manual_seed(seed)).to(mean.device)

    def encode(self, acts: Float[Tensor, "n d_in"]) -> Encoding:
        return self._inner.encode((acts - self._mean)[:, self._order] + self._mean)


@final
class WithDead(Dictionary):
    """An SAE with as many more latents again, none of which ever fires."""

    def __init__(self, inner: Dictionary, seed: int = 0) -> None:
        self.name, self._inner = f"{inner.name} and dead latents", inner
        more = torch.randn(inner.W_dec.shape, generator=torch.Generator().manual_seed(seed)).to(inner.W_dec)
        self.W_dec = torch.cat([inner.W_dec, more / more.norm(dim=1, keepdim=True)])

    def encode(self, acts: Float[Tensor, "n d_in"]) -> Encoding:
        codes, offset = self._inner.encode(acts)
        return Encoding(torch.cat([codes, torch.zeros_like(codes)], 1), offset)


@final
class Rescaled(Dictionary):
    """An SAE with codes a hundred times as large and decoder rows a hundredth: the same function.

    The factor is a power of two, so that nothing is rounded.
    """

    FACTOR = 128.0

    def __init__(self, inner: Dictionary) -> None:
        self.name, self._inner, self.W_dec = f"{inner.name} rescaled", inner, inner.W_dec / self.FACTOR

    def encode(self, acts: Float[Tensor, "n d_in"]) -> Encoding:
        codes, offset = self._inner.encode(acts)
        return Encoding(codes * self.FACTOR, offset)


@final
class AlwaysOn(Dictionary):
    """An SAE with one more latent that is on everywhere and writes nothing."""

    def __init__(self, inner: Dictionary) -> None:
        self.name, self._inner = f"{inner.name} and an always-on latent", inner
        self.W_dec = torch.cat([inner.W_dec, torch.zeros_like(inner.W_dec[:1])])

    def encode(self, acts: Float[Tensor, "n d_in"]) -> Encoding:
        codes, offset = self._inner.encode(acts)
        return Encoding(torch.cat([codes, torch.ones_like(codes[:, :1])], 1), offset)


@final
class Duplicated(Dictionary):
    """An SAE with every latent several times, each copy writing its share."""

    def __init__(self, inner: Dictionary, copies: int = 2) -> None:
        self.name, self._inner, self._copies = f"{inner.name} with each latent {copies} times", inner, copies
        self.W_dec = inner.W_dec.repeat(copies, 1) / copies

    def encode(self, acts: Float[Tensor, "n d_in"]) -> Encoding:
        codes, offset = self._inner.encode(acts)
        return Encoding(codes.repeat(1, self._copies), offset)


@final
class Chimera(Dictionary):
    """One dictionary that reconstructs beside another that detects; the detectors' rows are tiny."""

    def __init__(self, writer: Dictionary, reader: Dictionary) -> None:
        self.name, self._writer, self._reader = f"{writer.name} and tiny {reader.name}", writer, reader
        self.W_dec = torch.cat([writer.W_dec, reader.W_dec * TINY])

    def encode(self, acts: Float[Tensor, "n d_in"]) -> Encoding:
        written, read = self._writer.encode(acts), self._reader.encode(acts)
        return Encoding(torch.cat([written.codes, read.codes], 1), written.offset)


@final
class Memorised(Dictionary):
    """One latent for each of some stored activations: the nearest one is on, and is what is written."""

    def __init__(self, acts: Float[Tensor, "n d_in"], latents: int, seed: int = 0) -> None:
        order = torch.randperm(len(acts), generator=torch.Generator().manual_seed(seed)).to(acts.device)
        self._stored, self._mean = acts[order[:latents]], acts.mean(0)
        self.name, self.W_dec = f"{len(self._stored)} memorised prompts", self._stored - self._mean

    def encode(self, acts: Float[Tensor, "n d_in"]) -> Encoding:
        nearest = torch.cdist(acts, self._stored).argmin(1)
        codes = acts.new_zeros(len(acts), len(self._stored)).scatter(1, nearest[:, None], 1.0)
        return Encoding(codes, self._mean)


@final
class Frame(Dictionary):
    """Random directions with every latent on: reconstructs without error at an L0 of its whole width."""

    def __init__(self, mean: Float[Tensor, "d_in"], latents: int, seed: int = 0) -> None:
        rows = torch.randn(latents, len(mean), generator=torch.Generator().manual_seed(seed)).to(mean)
        self.name, self._mean = f"{latents} random directions, all on", mean
        self.W_dec = rows / rows.norm(dim=1, keepdim=True)
        self._encoder = torch.linalg.pinv(self.W_dec.double()).to(mean)

    def encode(self, acts: Float[Tensor, "n d_in"]) -> Encoding:
        return Encoding((acts - self._mean) @ self._encoder, self._mean)


@final
class InTheOffset(Dictionary):
    """Puts the whole activation into the offset, which belongs to no latent; its latents detect."""

    def __init__(self, reader: Dictionary) -> None:
        self.name, self._reader = f"reconstruction in the bias and {reader.name}", reader
        self.W_dec = reader.W_dec * TINY

    def encode(self, acts: Float[Tensor, "n d_in"]) -> Encoding:
        codes = self._reader.encode(acts).codes
        return Encoding(codes, acts - codes @ self.W_dec)


@final
class NoisyAtoms(Dictionary):
    """Rows that are class means plus noise of the same norm, each on where it projects most.

    Made from the labels of `fit`, which no SAE sees: it knows what is asked for and blurs it.
    """

    def __init__(
        self, acts: Float[Tensor, "n d_in"], atoms: Float[Tensor, "v d_in"], copies: int, seed: int = 0
    ) -> None:
        rows = atoms[atoms.norm(dim=1) > 0].repeat(copies, 1)
        noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(seed)).to(rows)
        rows = rows + noise * (rows.norm(dim=1) / noise.norm(dim=1))[:, None]
        self.name, self._mean = f"{len(rows)} atoms plus noise", acts.mean(0)
        self.W_dec = rows / rows.norm(dim=1, keepdim=True)
        shown = (acts - self._mean) @ self.W_dec.T
        share = copies / len(rows)
        self._threshold = shown.quantile(1 - share, dim=0)

    def encode(self, acts: Float[Tensor, "n d_in"]) -> Encoding:
        shown = (acts - self._mean) @ self.W_dec.T
        return Encoding(torch.where(shown > self._threshold.clamp(min=0), shown, 0.0), self._mean)
