"""Edits against dense loops over every latent."""

import pytest
import torch
from sparse import random_codes, sparse

from saebench.dictionaries.codes import difference
from saebench.edits.few_latents import Exchange, aware, greedy, random_swap, swap_all
from saebench.measures.detection import f1_table


def world(n=20, d_sae=30, d_in=12, seed=0, share=0.3):
    g = torch.Generator().manual_seed(seed)
    rows = torch.randn(d_sae, d_in, generator=g)
    alpha, beta = (random_codes(n, d_sae, seed=seed * 2 + i, share=share) for i in (1, 2))
    base, source = (torch.randn(n, d_in, generator=g) for _ in range(2))
    return rows, alpha, beta, base, source


def naive_greedy(base, source, alpha, beta, rows, k):
    """One row: the definition of docs/methods.md §5, every latent tried at every step."""
    change, left = torch.zeros_like(base), set(range(len(rows)))
    delta, picks = source - base, []
    for _ in range(k):
        distance = {j: float((change + (beta[j] - alpha[j]) * rows[j] - delta).square().sum()) for j in left}
        j = min(distance, key=distance.__getitem__)
        if distance[j] >= float((change - delta).square().sum()):
            break
        change = change + (beta[j] - alpha[j]) * rows[j]
        left.remove(j)
        picks.append(j)
    return base + change, picks


@pytest.mark.parametrize(("seed", "share"), [(0, 0.1), (1, 0.1), (2, 0.6), (3, 1.0)])
def test_greedy_picks_what_the_definition_picks(seed, share):
    """Where few latents change and where most do, which is another way of computing the same."""
    rows, alpha, beta, base, source = world(seed=seed, share=share)
    assert difference(sparse(alpha), sparse(beta)).crowded == (share > 0.3)
    found = greedy(base, source, sparse(alpha), sparse(beta), rows, (1, 2, 4, 32))
    stopped_early = False
    for k, edit in found.items():
        for i in range(len(base)):
            wanted, picks = naive_greedy(base[i], source[i], alpha[i], beta[i], rows, k)
            assert torch.allclose(edit.acts[i], wanted, atol=1e-4)
            assert int(edit.n_changed[i]) == len(picks)
            stopped_early |= len(picks) < k
    assert stopped_early, "the case that nothing lowers the distance any more was never met"


def test_greedy_ties_go_to_the_larger_contribution_then_to_the_lower_index():
    # both moves end at the same distance from the source: 1 → 4 is 3 short, 7 is 3 beyond
    rows = torch.tensor([[1.0, 0], [2.0, 0], [2.0, 0]])
    base, source = torch.zeros(1, 2), torch.tensor([[3.0, 0.0]])
    alpha, beta = torch.zeros(1, 3), torch.tensor([[2.0, 2.0, 2.0]])
    edit = greedy(base, source, sparse(alpha), sparse(beta), rows, (1,))[1]
    assert edit.acts.tolist() == [[4.0, 0.0]]


def test_greedy_does_not_depend_on_the_block():
    rows, alpha, beta, base, source = world(n=40)
    whole = greedy(base, source, sparse(alpha), sparse(beta), rows, (4,))[4].acts
    parts = [
        greedy(
            base[i : i + 1], source[i : i + 1], sparse(alpha[i : i + 1]), sparse(beta[i : i + 1]), rows, (4,)
        )[4].acts
        for i in range(40)
    ]
    assert torch.allclose(whole, torch.cat(parts), atol=1e-5)


def test_removed_weight_is_what_is_really_taken_out_of_the_base():
    """A code that shrinks is taken out in part, one that grows not at all."""
    rows, alpha, beta, base, source = world()
    gone = torch.where(alpha * beta > 0, (alpha.abs() - beta.abs()).clamp(min=0) * alpha.sign(), alpha)
    explained = alpha @ rows
    weight = explained / explained.square().sum(1, keepdim=True)
    shares = alpha * (weight @ rows.T)
    assert torch.allclose(shares.sum(1), torch.ones(20), atol=1e-4)
    shares = gone * (weight @ rows.T)
    edit = greedy(base, source, sparse(alpha), sparse(beta), rows, (3,), weight)[3]
    for i in range(20):
        _, picks = naive_greedy(base[i], source[i], alpha[i], beta[i], rows, 3)
        assert float(edit.removed_weight[i]) == pytest.approx(float(shares[i, picks].sum()), abs=1e-4)


def naive_aware(base, alpha, beta, rows, f1, old, new, e):
    def top(codes, value):
        active = [j for j in range(len(codes)) if codes[j] != 0]
        detector = {j: j if codes[j] > 0 else len(codes) + j for j in active}
        return sorted(active, key=lambda j: (-float(f1[detector[j], value]), j))[:e]

    out = base.clone()
    for j in top(alpha, old):
        out = out - alpha[j] * rows[j]
    for j in top(beta, new):
        out = out + beta[j] * rows[j]
    return out


@pytest.mark.parametrize("e", [1, 2, 8])
def test_aware_edit_removes_the_old_value_and_adds_the_new_one(e):
    rows, alpha, beta, base, _ = world()
    g = torch.Generator().manual_seed(9)
    old, new = (torch.randint(4, (20,), generator=g) for _ in range(2))
    f1 = f1_table(sparse(alpha), old, 4, signed=True).f1
    found = aware(base, sparse(alpha), sparse(beta), rows, [Exchange(f1, old, new)], (e,))[e]
    for i in range(20):
        wanted = naive_aware(base[i], alpha[i], beta[i], rows, f1, int(old[i]), int(new[i]), e)
        assert torch.allclose(found.acts[i], wanted, atol=1e-5)
        assert int(found.n_changed[i]) <= 2 * e


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_swap_all_adds_the_difference_of_all_codes(share):
    rows, alpha, beta, base, _ = world(share=share)
    found = swap_all(base, sparse(alpha), sparse(beta), rows)
    assert torch.allclose(found, base + (beta - alpha) @ rows, atol=1e-5)


def test_random_swap_moves_exactly_k_of_the_latents_that_differ():
    rows, alpha, beta, base, _ = world(d_in=30)  # as many dimensions as latents: moves can be read off
    found = random_swap(base, sparse(alpha), sparse(beta), rows, (2, 1000), seed=0)
    moved = torch.linalg.lstsq(rows.T, (found[2] - base).T).solution.T
    change = beta - alpha
    used = moved.abs() > 1e-3
    assert used.sum(1).tolist() == [min(2, int(n)) for n in (change != 0).sum(1)]
    assert torch.allclose(moved[used], change[used], atol=1e-3)
    assert torch.allclose(found[1000], base + change @ rows, atol=1e-4)
    other = random_swap(base, sparse(alpha), sparse(beta), rows, (2,), seed=1)[2]
    assert not torch.allclose(found[2], other)
