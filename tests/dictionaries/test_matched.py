"""The matched null: random directions, as often on as the SAE's latents."""

import torch
from sparse import sparse

from saebench.dictionaries.matched import MatchedRandom


def codes_and_acts():
    g = torch.Generator().manual_seed(0)
    rates = torch.tensor([0.0, 0.02, 0.2, 0.9, 1.0])
    codes = (torch.rand(200, 5, generator=g) < rates).float()
    codes[0, 1] = 1.0
    return codes, torch.randn(200, 12, generator=g)


def test_live_latents_fire_as_often_on_fit():
    codes, acts = codes_and_acts()
    null = MatchedRandom("null", sparse(codes), acts)
    assert null.W_dec.shape == (4, 12)
    assert (null.encode(acts).codes != 0).sum(0).tolist() == (codes != 0).sum(0)[1:].tolist()


def test_the_scale_is_the_least_squares_one():
    codes, acts = codes_and_acts()
    null = MatchedRandom("null", sparse(codes), acts)
    hat, centred = null.encode(acts).codes @ null.W_dec, acts - acts.mean(0)
    assert torch.isclose((hat * centred).sum(), hat.square().sum(), rtol=1e-4)


def test_draws_differ_and_repeat_by_seed():
    codes, acts = codes_and_acts()
    one, same, other = (MatchedRandom("null", sparse(codes), acts, seed).W_dec for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_nothing_on_is_matched_by_nothing_on():
    _, acts = codes_and_acts()
    null = MatchedRandom("null", sparse(torch.zeros(200, 5)), acts)
    assert not null.encode(acts).codes.any()
