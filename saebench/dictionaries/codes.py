"""Latent codes kept sparse: what is active where, without an array of prompts × latents."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saebench.dictionary import Encodes, Known, encode_any
from saebench.errors import CheckpointError


class SparseCodes(NamedTuple):
    """Non-zero codes in row order (coordinate format). Active means non-zero: codes may be negative."""

    row: Int[Tensor, "nnz"]
    latent: Int[Tensor, "nnz"]
    value: Float[Tensor, "nnz"]
    n: int
    d_sae: int

    @property
    def per_row(self) -> Int[Tensor, "n"]:
        """Number of active latents of each row."""
        return torch.bincount(self.row, minlength=self.n)

    @property
    def detector(self) -> Int[Tensor, "nnz"]:
        """Index of the detector (latent and sign) that each code makes fire: j, or d_sae + j if < 0."""
        return torch.where(self.value > 0, self.latent, self.latent + self.d_sae)

    @property
    def crowded(self) -> bool:
        """Whether half of all codes are active, as neurons are: one product with all latents is then faster."""
        return 2 * len(self.row) >= self.n * self.d_sae

    def all_dense(self) -> Float[Tensor, "n d_sae"]:
        """Codes of all latents as a dense array."""
        out = torch.zeros(self.n, self.d_sae, device=self.value.device, dtype=self.value.dtype)
        out[self.row, self.latent] = self.value
        return out

    def dense(self, latents: Int[Tensor, "m"]) -> Float[Tensor, "n m"]:
        """Codes of a few latents as a dense array."""
        slot = torch.full((self.d_sae,), -1, device=self.row.device)
        slot[latents] = torch.arange(len(latents), device=self.row.device)
        keep = slot[self.latent] >= 0
        out = torch.zeros(self.n, len(latents), device=self.value.device, dtype=self.value.dtype)
        out[self.row[keep], slot[self.latent[keep]]] = self.value[keep]
        return out

    def fires(self, detectors: Int[Tensor, "m"]) -> Bool[Tensor, "n m"]:
        """Which of a few detectors fire on which rows."""
        slot = torch.full((2 * self.d_sae,), -1, device=self.row.device)
        slot[detectors] = torch.arange(len(detectors), device=self.row.device)
        hit = slot[self.detector]
        keep = hit >= 0
        out = torch.zeros(self.n, len(detectors), dtype=torch.bool, device=self.row.device)
        out[self.row[keep], hit[keep]] = True
        return out

    def padded(self) -> tuple[Int[Tensor, "n m"], Float[Tensor, "n m"]]:
        """Active latents and codes of each row, filled up with latent 0 at code 0."""
        count = self.per_row
        width = max(1, int(count.max())) if self.n else 1
        start = count.cumsum(0) - count
        column = torch.arange(len(self.row), device=self.row.device) - start[self.row]
        latents = torch.zeros(self.n, width, dtype=torch.long, device=self.row.device)
        values = torch.zeros(self.n, width, dtype=self.value.dtype, device=self.row.device)
        latents[self.row, column] = self.latent
        values[self.row, column] = self.value
        return latents, values


class Encoded(NamedTuple):
    """Everything that axes need of one encoding of a split, made in one pass over its blocks."""

    codes: SparseCodes
    reconstruction: Float[Tensor, "n d_in"]
    offset: Float[Tensor, "n d_in"]

    @property
    def by_latents(self) -> Float[Tensor, "n d_in"]:
        """`Σ_j α_j w_j`: the part of the reconstruction that latents write."""
        return self.reconstruction - self.offset


@torch.no_grad()
def encode_split(
    dictionary: Encodes, acts: Float[Tensor, "n d_in"], known: Known, block: int = 512
) -> Encoded:
    """Encodes in blocks and keeps the non-zero codes, the reconstruction and the offset.

    Dense codes exist for `block` rows at a time: 65,536 latents take 128 MB, whatever n is.
    """
    rows, latents, values, recon, offsets = [], [], [], [], []
    for at in torch.arange(len(acts), device=acts.device).split(block):
        encoding = encode_any(dictionary, acts[at], known.at(at))
        r, j = encoding.codes.nonzero(as_tuple=True)
        rows.append(at[r])
        latents.append(j)
        values.append(encoding.codes[r, j])
        recon.append(dictionary.decode(encoding))
        offsets.append(encoding.offset.expand(len(at), -1))
    codes = SparseCodes(torch.cat(rows), torch.cat(latents), torch.cat(values), len(acts), dictionary.d_sae)
    bad = ~torch.cat(recon).isfinite().all(1)
    if bad.any():
        raise CheckpointError(
            f"{dictionary.name} gives values that are not finite on {int(bad.sum())} of {len(acts)} activations, so"
            " that no score of it is defined. Its weights are finite: they overflow on what they are multiplied with."
        )
    return Encoded(codes, torch.cat(recon), torch.cat(offsets))


def at_rows(codes: SparseCodes, rows: Int[Tensor, "m"]) -> SparseCodes:
    """Codes of some rows, in the order asked for, each as often as asked."""
    count = codes.per_row
    start, take = (count.cumsum(0) - count)[rows], count[rows]
    row = torch.arange(len(rows), device=rows.device).repeat_interleave(take)
    within = torch.arange(len(row), device=rows.device) - (take.cumsum(0) - take)[row]
    place = start[row] + within
    return SparseCodes(row, codes.latent[place], codes.value[place], len(rows), codes.d_sae)


def difference(alpha: SparseCodes, beta: SparseCodes) -> SparseCodes:
    """β − α over the latents active in either, in row order, latents ascending; zeros dropped.

    Latents in which the two agree contribute nothing to any edit.
    """
    key = torch.cat([alpha.row * alpha.d_sae + alpha.latent, beta.row * beta.d_sae + beta.latent])
    value = torch.cat([-alpha.value, beta.value])
    unique, inverse = key.unique(return_inverse=True)
    total = torch.zeros(len(unique), dtype=value.dtype, device=value.device)
    total.index_add_(0, inverse, value)
    keep = total != 0
    unique, total = unique[keep], total[keep]
    return SparseCodes(unique // alpha.d_sae, unique % alpha.d_sae, total, alpha.n, alpha.d_sae)
