"""Which detectors have found the atoms of values: what is written counts with its sign."""

from itertools import permutations

import pytest
import torch

from saebench.measures.planted import match_atoms, null


def live(rows: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(rows), dtype=torch.bool)


def test_the_sum_of_cosines_is_the_largest_there_is():
    generator = torch.Generator().manual_seed(0)
    for n, m in ((3, 5), (5, 3), (4, 4)):
        atoms, W = (torch.randn(k, 6, generator=generator) for k in (n, m))
        cos = (atoms / atoms.norm(dim=1, keepdim=True)) @ (W / W.norm(dim=1, keepdim=True)).T
        cos = cos.clamp(min=0)
        small, large = (cos, range(m)) if n <= m else (cos.T, range(n))
        best = max(sum(small[i, j] for i, j in enumerate(p)) for p in permutations(large, len(small)))
        found = match_atoms(W, atoms, live(W))
        assert float(found.cosine.sum()) == pytest.approx(float(best), abs=1e-6)
        assert (found.cosine >= 0).all() and ((found.cosine > 0) == found.matched).all()


def test_a_row_against_an_atom_has_not_found_it():
    circle = torch.arange(8) * torch.pi / 4
    atoms = torch.stack([circle.cos(), circle.sin()], 1)
    found = match_atoms(atoms, atoms, live(atoms))
    assert found.latent.tolist() == list(range(8))
    turned = match_atoms(-atoms[:1], atoms[:1], live(atoms[:1]))
    assert turned.latent.tolist() == [-1] and turned.cosine.tolist() == [0]
    # across an atom is no match either, and rows that never fire are none
    across = torch.tensor([[0.0, 1.0]])
    assert match_atoms(across, atoms[:1], live(across)).latent.tolist() == [-1]
    assert not match_atoms(atoms, atoms, ~live(atoms)).matched.any()


def test_the_null_of_latents_with_either_sign_has_both():
    """Signed codes give a random row two chances; latents that never fire give none."""
    atoms = torch.eye(8)[:4]
    n = 40
    one = torch.stack([torch.ones(n), torch.zeros(n)]).bool()
    both, none_more = one.clone(), torch.cat([one, torch.zeros_like(one)], 1)
    both[1] = True
    floors = [null(sides, torch.eye(8)[:3], atoms, 0) for sides in (one, both, none_more)]
    assert floors[0].cosine < floors[1].cosine and floors[0] == floors[2]
    assert floors[0].overlap == floors[1].overlap
