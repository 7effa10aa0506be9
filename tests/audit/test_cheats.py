"""Cheats and changed SAEs do what they are named after."""

import pytest
import torch
from worlds import bench_of, two_groups

from saebench.audit import cheats, climb
from saebench.dictionaries.controls import PCA, Random
from saebench.dictionary import Dictionary, Encoding


class Linear(Dictionary):
    """Projections above ½ on orthonormal rows."""

    def __init__(self, rows: torch.Tensor, offset: torch.Tensor) -> None:
        self.name, self.W_dec, self._offset = "linear", rows, offset

    def encode(self, acts: torch.Tensor) -> Encoding:
        codes = (acts - self._offset) @ torch.linalg.pinv(self.W_dec)
        return Encoding(torch.where(codes > 0.5, codes, 0.0), self._offset)


@pytest.fixture(scope="module")
def world():
    section, rows, bias = two_groups(n=200)
    return section, Linear(rows, bias), section.test.acts


@pytest.mark.parametrize(
    "change",
    [cheats.WithDead, cheats.Rescaled, cheats.AlwaysOn, cheats.Duplicated, lambda d: cheats.Duplicated(d, 3)],
)
def test_the_function_stays_what_it_was(change, world):
    _, inner, acts = world
    made = change(inner)
    torch.testing.assert_close(made.decode(made.encode(acts)), inner.decode(inner.encode(acts)))


def test_what_is_added_is_what_is_said(world):
    _, inner, acts = world
    codes = inner.encode(acts).codes
    assert cheats.WithDead(inner).encode(acts).codes[:, inner.d_sae :].count_nonzero() == 0
    assert bool((cheats.AlwaysOn(inner).encode(acts).codes[:, -1] == 1).all())
    assert torch.equal(cheats.Rescaled(inner).encode(acts).codes, codes * cheats.Rescaled.FACTOR)


def test_a_permuted_encoder_reads_something_else_and_keeps_the_decoder(world):
    section, inner, acts = world
    made = cheats.PermutedEncoder(inner, section.mean)
    assert torch.equal(made.W_dec, inner.W_dec)
    assert not torch.equal(made.encode(acts).codes, inner.encode(acts).codes)


def test_cheats_reconstruct_without_latents_that_stand_for_anything(world):
    section, _, acts = world
    reader = Random(section.fit.acts, 64, 4)
    for made in (cheats.Frame(section.mean, 64), cheats.InTheOffset(reader)):
        torch.testing.assert_close(made.decode(made.encode(acts)), acts, rtol=1e-3, atol=1e-3)
    chimera = cheats.Chimera(PCA(section.fit.acts, 8), reader)
    assert float(chimera.W_dec[8:].norm(dim=1).max()) <= cheats.TINY * 1.001


def test_memorised_prompts_are_found_again(world):
    section, _, _ = world
    made = cheats.Memorised(section.fit.acts, 50)
    stored = section.fit.acts[
        torch.randperm(len(section.fit.acts), generator=torch.Generator().manual_seed(0))[:50]
    ]
    found = made.encode(stored)
    assert bool((found.codes.sum(1) == 1).all())
    torch.testing.assert_close(made.decode(found), stored)


def test_noisy_atoms_fire_as_often_as_their_values(world):
    section, _, _ = world
    atoms = bench_of(section).atoms.W_dec
    made = cheats.NoisyAtoms(section.fit.acts, atoms, 4)
    rate = (made.encode(section.fit.acts).codes != 0).float().mean(0)
    assert made.d_sae == 4 * len(atoms) and float(rate.mean()) == pytest.approx(1 / len(atoms), abs=0.02)


def test_a_climb_never_goes_down(world):
    section, _, _ = world
    acts = section.fit.acts
    seen = []

    def headline(made: Dictionary) -> float:
        hat = made.decode(made.encode(acts))
        seen.append(-float((hat - acts).square().sum()))
        return seen[-1]

    first = climb.start(acts, 64, "climb")
    told = []
    last = climb.climb(first, acts, headline, steps=30, tick=lambda *at: told.append(at))
    assert len(seen) == 31
    assert [step for step, _ in told] == list(range(1, 31))
    assert [reached for _, reached in told] == [max(seen[: step + 1]) for step, _ in told]
    assert headline(last) == max(seen) > seen[0]
