"""Frozen controls: a part that stays as it was drawn, a part that learns."""

import torch

from saebench.dictionaries.frozen import FROZEN_ENCODER, frozen, soft_frozen
from saebench.dictionary import Dictionary, Encoding


class TopK(Dictionary):
    """Three latents of every example on, over given rows."""

    def __init__(self, rows):
        self.name, self.W_dec = "some", rows

    def encode(self, acts):
        pre = acts @ self.W_dec.T
        values, at = pre.topk(3, dim=1)
        return Encoding(torch.zeros_like(pre).scatter(1, at, values), torch.zeros(acts.shape[1]))


def world():
    g = torch.Generator().manual_seed(7)
    rows = torch.randn(40, 16, generator=g)
    on = torch.rand(2000, 40, generator=g) < 0.05
    acts = on * (1 + torch.rand(2000, 40, generator=g)) @ rows * 30 + 5
    return TopK(rows / rows.norm(dim=1, keepdim=True)), acts


def fvu(dictionary, acts):
    error = acts - dictionary.decode(dictionary.encode(acts))
    return float(error.square().sum() / (acts - acts.mean(0)).square().sum())


def test_as_wide_and_as_sparse_with_rows_that_are_random_and_stay():
    sae, acts = world()
    untrained, trained = (frozen(sae, acts, steps=n) for n in (0, 300))
    assert trained.name == "control:frozen-decoder:some" and trained.W_dec.shape == sae.W_dec.shape
    assert torch.equal(trained.W_dec, untrained.W_dec)
    assert (trained.encode(acts).codes != 0).sum(1).float().mean() <= 3
    cosines = (trained.W_dec @ sae.W_dec.T).abs().max(1).values.mean()
    assert cosines < 0.75
    assert fvu(trained, acts) < 0.9 * fvu(untrained, acts)


def test_same_seed_same_control():
    sae, acts = world()
    one, same = (frozen(sae, acts, steps=20).encode(acts[:5]).codes for _ in range(2))
    assert torch.equal(one, same)
    other = frozen(sae, acts, seed=1, steps=20).encode(acts[:5]).codes
    assert not torch.equal(one, other)


def test_the_scale_of_activations_does_not_matter():
    sae, acts = world()
    one, large = frozen(sae, acts, steps=50), frozen(sae, acts * 1000, steps=50)
    assert abs(fvu(one, acts) - fvu(large, acts * 1000)) < 1e-3


def test_a_soft_frozen_decoder_turns_to_its_cone_and_no_further():
    sae, acts = world()
    hard, soft = frozen(sae, acts, steps=200), frozen(sae, acts, soft_frozen(0.8), steps=200)
    cosines = (soft.W_dec * hard.W_dec).sum(1)
    assert cosines.min() >= 0.8 - 1e-5 and cosines.mean() < 0.95
    assert torch.allclose(soft.W_dec.norm(dim=1), torch.ones(40), atol=1e-5)
    assert fvu(soft, acts) < fvu(hard, acts)


def test_a_frozen_encoder_fires_as_it_was_drawn_and_its_decoder_learns():
    sae, acts = world()
    drawn, trained = (frozen(sae, acts, FROZEN_ENCODER, steps=n) for n in (0, 200))
    codes = [d.encode(acts[:50]).codes for d in (drawn, trained)]
    assert torch.equal(*codes)
    assert fvu(trained, acts) < 0.9 * fvu(drawn, acts)
