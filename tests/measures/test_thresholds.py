"""Cuts of latents that have no natural threshold."""

import torch
from sparse import sparse

from saebench.measures.detection import f1_table
from saebench.measures.thresholds import best_cuts, best_levels, cut, dense_latents, from_level


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


def naive_level(code: torch.Tensor, label: torch.Tensor, values: list[int]) -> float:
    """Every code tried as a threshold, the highest of the best."""
    best, level = 0.0, float("inf")
    for t in sorted(set(code[code > 0].tolist()), reverse=True):
        table = f1_table(sparse((code >= t).float()[:, None]), label, 4, signed=False)
        star = max([float(table.f1_star[0, v]) for v in values])
        if star > best + 1e-7:
            best, level = star, t
    return level


def test_the_level_of_a_sparse_latent_is_the_best_of_all():
    g = torch.Generator().manual_seed(0)
    codes = torch.randn(80, 12, generator=g).relu() * (torch.rand(80, 12, generator=g) < 0.6)
    codes[:, :6] = (4 * codes[:, :6]).round()  # with equal codes
    codes[:, 3] = 0.0
    label = torch.randint(4, (80,), generator=g)
    codes[:, 8] += 3.0 * (label == 2) * (torch.rand(80, generator=g) < 0.8)
    for common in ([True] * 4, [False, True, True, False]):
        level = best_levels(sparse(codes), label, torch.tensor(common))
        values = [v for v in range(4) if common[v]]
        wanted = [naive_level(codes[:, j], label, values) for j in range(12)]
        assert level.tolist() == wanted


def test_weak_activity_beside_a_strong_one_hides_nothing():
    label = torch.arange(90) % 3
    clean = 2.0 * (label[:, None] == torch.arange(3)).float()
    weak = 0.1 * torch.rand(90, 3, generator=torch.Generator().manual_seed(0))
    sparsely = torch.rand(90, 3, generator=torch.Generator().manual_seed(1)) < 0.7
    codes = sparse(torch.where(sparsely, clean + weak, clean))
    level = best_levels(codes, label, torch.ones(3, dtype=torch.bool))
    found = f1_table(from_level(codes, level), label, 3, signed=False).f1_star
    assert found.diagonal().tolist() == [1.0] * 3
    assert float(f1_table(codes, label, 3, signed=False).f1_star.max()) < 0.8
