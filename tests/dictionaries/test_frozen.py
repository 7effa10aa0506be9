"""The frozen-decoder control: random rows that stay, an encoder that learns."""

import torch

from saebench.dictionaries.base import Dictionary, Encoding
from saebench.dictionaries.frozen import frozen_decoder


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
    untrained, trained = (frozen_decoder(sae, acts, steps=n) for n in (0, 300))
    assert trained.name == "control:frozen-decoder:some" and trained.W_dec.shape == sae.W_dec.shape
    assert torch.equal(trained.W_dec, untrained.W_dec)
    assert (trained.encode(acts).codes != 0).sum(1).float().mean() <= 3
    cosines = (trained.W_dec @ sae.W_dec.T).abs().max(1).values.mean()
    assert cosines < 0.75
    assert fvu(trained, acts) < 0.9 * fvu(untrained, acts)


def test_same_seed_same_control():
    sae, acts = world()
    one, same = (frozen_decoder(sae, acts, steps=20).encode(acts[:5]).codes for _ in range(2))
    assert torch.equal(one, same)
    other = frozen_decoder(sae, acts, seed=1, steps=20).encode(acts[:5]).codes
    assert not torch.equal(one, other)


def test_the_scale_of_activations_does_not_matter():
    sae, acts = world()
    one, large = frozen_decoder(sae, acts, steps=50), frozen_decoder(sae, acts * 1000, steps=50)
    assert abs(fvu(one, acts) - fvu(large, acts * 1000)) < 1e-3
