"""Sparse codes made from dense ones."""

import torch

from saebench.dictionaries.codes import SparseCodes


def sparse(dense: torch.Tensor) -> SparseCodes:
    row, latent = dense.nonzero(as_tuple=True)
    return SparseCodes(row, latent, dense[row, latent], *dense.shape)


def random_codes(n=60, d=9, seed=0, signed=True, share=0.3) -> torch.Tensor:
    """`share` of the codes are active."""
    g = torch.Generator().manual_seed(seed)
    codes = torch.randn(n, d, generator=g) * (torch.rand(n, d, generator=g) < share)
    return codes if signed else codes.abs()
