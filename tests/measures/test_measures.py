"""Measures against naive loops."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse import random_codes, sparse

from saebench.dictionaries.codes import difference
from saebench.measures.detection import (
    best_detectors,
    correct,
    explain,
    f1_table,
    f1_tables,
    first_hit,
    grow_union,
    squared_norm,
)


def naive_f1(fires: list[bool], positive: list[bool]) -> float:
    tp = sum(f and p for f, p in zip(fires, positive, strict=True))
    fp = sum(f and not p for f, p in zip(fires, positive, strict=True))
    fn = sum(p and not f for f, p in zip(fires, positive, strict=True))
    return 0.0 if tp == 0 else 2 * tp / (2 * tp + fp + fn)


@given(seed=st.integers(0, 50), values=st.integers(2, 6))
@settings(max_examples=20, deadline=None)
def test_f1_table_equals_counting_by_hand(seed, values):
    codes = random_codes(seed=seed)
    label = torch.randint(values, (60,), generator=torch.Generator().manual_seed(seed))
    table = f1_table(sparse(codes), label, values, signed=True)
    for j, v in itertools.product(range(9), range(values)):
        positive = (label == v).tolist()
        assert float(table.f1[j, v]) == pytest.approx(naive_f1((codes[:, j] > 0).tolist(), positive))
        assert float(table.f1[9 + j, v]) == pytest.approx(naive_f1((codes[:, j] < 0).tolist(), positive))


def test_without_signs_the_table_has_no_negative_detectors():
    codes = random_codes(signed=False)
    table = f1_table(sparse(codes), torch.zeros(60, dtype=torch.long), 1, signed=False)
    assert len(table.fires) == 9
    assert table.fires.tolist() == (codes > 0).sum(0).tolist()


def test_correction_gives_an_always_on_detector_zero():
    for share in (0.01, 0.3, 0.5, 0.9):
        p = torch.tensor(share)
        assert float(correct(2 * p / (1 + p), p)) == pytest.approx(0, abs=1e-6)
        assert float(correct(torch.tensor(1.0), p)) == pytest.approx(1)
        assert float(correct(torch.tensor(0.0), p)) < 0


def test_best_detectors_are_all_that_tie_and_none_if_nothing_is_right():
    codes = torch.zeros(6, 3)
    codes[:2, 0] = codes[:2, 2] = 1.0
    label = torch.tensor([0, 0, 1, 1, 1, 1])
    table = f1_table(sparse(codes), label, 2, signed=False)
    assert best_detectors(table, 0).tolist() == [0, 2]
    assert best_detectors(table, 1).tolist() == []


def naive_union(codes: torch.Tensor, positive: torch.Tensor) -> float:
    """The best F1 of any set of positive detectors, by trying all sets."""
    best = 0.0
    for size in range(1, codes.shape[1] + 1):
        for chosen in itertools.combinations(range(codes.shape[1]), size):
            fires = (codes[:, chosen] > 0).any(1)
            best = max(best, naive_f1(fires.tolist(), positive.tolist()))
    return best


@pytest.mark.parametrize("seed", range(6))
def test_greedy_union_is_near_the_best_of_all_sets_and_never_above(seed):
    codes = random_codes(n=50, d=7, seed=seed, signed=False)
    label = (codes[:, 0] > 0).long()
    label[::7] = 1
    table = f1_table(sparse(codes), label, 2, signed=False)
    union = grow_union(sparse(codes), table, label == 1, 1)
    fires = (codes[:, union.detectors] > 0).any(1)
    reached = naive_f1(fires.tolist(), (label == 1).tolist())
    prevalence = torch.tensor(float((label == 1).float().mean()))
    assert float(union.f1_star[-1]) == pytest.approx(
        float(correct(torch.tensor(reached), prevalence)), abs=1e-5
    )
    best = naive_union(codes, label == 1)
    assert 0.9 * best <= reached <= best + 1e-9


def test_fragments_are_united_although_a_dense_latent_has_a_higher_f1():
    n = 200
    label = torch.arange(n) % 2
    fragments = torch.zeros(n, 11)
    for i in range(10):
        fragments[(label == 1) & (torch.arange(n) % 20 // 2 == i), i] = 1.0
    fragments[torch.arange(n) > 3, 10] = 1.0  # on nearly everywhere: F1 about 0.67 by itself
    codes = sparse(fragments)
    table = f1_table(codes, label, 2, signed=False)
    assert float(table.f1[10, 1]) > float(table.f1[:10, 1].max())
    union = grow_union(codes, table, label == 1, 1)
    assert sorted(union.detectors.tolist()) == list(range(10))
    assert float(union.f1_star[-1]) == pytest.approx(1)


def test_first_hit_is_the_place_of_the_first_detector_that_fires():
    codes = random_codes(seed=3)
    order = torch.tensor([4, 9 + 2, 0])
    found = first_hit(sparse(codes), order).tolist()
    for row in range(60):
        signs = [codes[row, 4] > 0, codes[row, 2] < 0, codes[row, 0] > 0]
        assert found[row] == next((i for i, hit in enumerate(signs) if hit), 3)


def naive_explain(codes: torch.Tensor, select: torch.Tensor, test: torch.Tensor, keep, d) -> float:
    """One positive detector: the best prefix by F1* on `select`, its F1* on `test`."""
    fires = codes[:, d] > 0

    def star(union: list[int], label: torch.Tensor) -> float:
        positive = torch.isin(label, torch.tensor(union))
        if positive.all():
            return float("-inf")
        f1 = naive_f1(fires.tolist(), positive.tolist())
        return float(correct(torch.tensor(f1), positive.float().mean()))

    ranked = sorted(keep, key=lambda v: -naive_f1(fires.tolist(), (select == v).tolist()))
    prefixes = [ranked[: i + 1] for i in range(min(10, len(ranked)))]
    best = max(prefixes, key=lambda union: star(union, select))
    return star(best, test)


def test_explained_latents_try_every_prefix():
    codes = random_codes(seed=5, signed=False)
    g = torch.Generator().manual_seed(5)
    select, test = (torch.randint(6, (60,), generator=g) for _ in range(2))
    keep = torch.tensor([True, True, False, True, True, True])
    tables = [f1_table(sparse(codes), label, 6, signed=False) for label in (select, test)]
    found = explain(*tables, keep).f1_star
    for d in range(9):
        wanted = naive_explain(codes, select, test, keep.nonzero()[:, 0].tolist(), d)
        assert float(found[d]) == pytest.approx(wanted, abs=1e-5)


def test_a_latent_for_three_of_six_values_is_explained_by_their_union():
    label = torch.arange(120) % 6
    codes = sparse(((label < 3).float())[:, None])
    table = f1_table(codes, label, 6, signed=False)
    assert float(explain(table, table, torch.ones(6, dtype=torch.bool)).f1_star[0]) == pytest.approx(1)
    assert float(explain(table, table, torch.ones(6, dtype=torch.bool), most=2).f1_star[0]) < 0.8
    assert float(table.f1_star.max()) < 0.6


def test_difference_of_codes_drops_what_does_not_change():
    a, b = random_codes(seed=1), random_codes(seed=2)
    b[:, 3] = a[:, 3]
    found = difference(sparse(a), sparse(b))
    dense = torch.zeros(60, 9)
    dense[found.row, found.latent] = found.value
    assert torch.allclose(dense, b - a)
    assert (found.latent != 3).all()
    assert bool((found.row.diff() >= 0).all())


def test_padding_and_dense_views_hold_the_same_codes():
    codes = random_codes(seed=4)
    latents, values = sparse(codes).padded()
    rebuilt = torch.zeros_like(codes)
    rebuilt.scatter_add_(1, latents, values)
    assert torch.equal(rebuilt, codes)
    assert torch.equal(sparse(codes).dense(torch.tensor([7, 1])), codes[:, [7, 1]])
    assert sparse(codes).per_row.tolist() == (codes != 0).sum(1).tolist()


def test_squared_norm_is_summed_in_double_precision():
    x = torch.full((1, 100_000), 1.1)
    assert float(squared_norm(x)) == pytest.approx(100_000 * float(torch.tensor(1.1)) ** 2, rel=1e-12)


def test_a_row_with_two_values_is_positive_for_both():
    labels = torch.tensor([[0, 1], [1, 2], [2, 0], [0, 2]])
    codes = torch.tensor([[1.0], [0.0], [1.0], [1.0]])
    table = f1_tables(sparse(codes), labels, 3, signed=False)
    # the latent fires on every row in which value 0 stands, and on no other
    assert table.positives.tolist() == [3, 2, 3]
    assert table.f1[0].tolist() == pytest.approx([1.0, 2 / 5, 4 / 6])
