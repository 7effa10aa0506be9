"""Cuts of latents that have no natural threshold."""

import torch
from sparse import sparse

from saebench.measures.detection import f1_table
from saebench.measures.thresholds import best_cuts, cut, dense_latents


def test_negative_and_never_zero_latents_are_dense():
    codes = torch.tensor([[0.0, 1.0, -1.0, 0.0], [2.0, 3.0, 0.0, 0.0], [0.0, 0.5, 4.0, 0.0]])
    assert dense_latents(sparse(codes)).tolist() == [1, 2]


def test_a_shifted_code_is_read_as_well_as_a_sparse_one():
    label = torch.arange(60) % 3
    clean = (label[:, None] == torch.arange(3)).float()
    shifted = sparse(clean + 1e-3)
    at_zero = f1_table(shifted, label, 3, signed=True).f1_star
    found = cut(shifted, best_cuts(shifted, dense_latents(shifted), label, 3))
    at_cut = f1_table(found, label, 3, signed=True).f1_star
    assert float(at_zero.max()) < 1e-6
    assert at_cut[:3].diagonal().tolist() == [1.0] * 3


def test_the_cut_is_the_best_of_all():
    g = torch.Generator().manual_seed(0)
    codes, label = torch.randn(40, 3, generator=g), torch.randint(4, (40,), generator=g)
    cuts = best_cuts(sparse(codes), torch.arange(3), label, 4)
    best = f1_table(cut(sparse(codes), cuts), label, 4, signed=True).f1_star.max(1).values.view(2, 3)
    for side, sign in enumerate((1, -1)):
        for j in range(3):
            tried = [
                f1_table(
                    sparse((sign * codes[:, j : j + 1] >= t).float()), label, 4, signed=False
                ).f1_star.max()
                for t in sign * codes[:, j]
            ]
            assert torch.isclose(best[side, j], max(tried), atol=1e-6)


def test_sparse_codes_are_left_as_they_are():
    codes = sparse(torch.tensor([[0.0, 1.0], [2.0, 0.0]]))
    assert cut(codes, best_cuts(codes, dense_latents(codes), torch.tensor([0, 1]), 2)) is codes
