"""A sublayer's output told apart over the latents of the stream: what is recovered, and what each method promises."""

import pytest
import torch
from torch import Tensor

from saebench.dictionaries.sublayer import SublayerDictionary
from saebench.dictionary import Dictionary, Encoding, Known, encode_any

D_IN, D_SAE, N = 12, 30, 40


class Stream(Dictionary):
    """An SAE of the stream whose latents are on where the first columns say so."""

    name = "stream"

    def __init__(self, rows: Tensor) -> None:
        self.W_dec = rows

    def encode(self, acts: Tensor) -> Encoding:
        # latent j is on where bit j of the number in column 0 is
        bits = acts[:, :1].long() >> torch.arange(D_SAE) & 1
        return Encoding(bits.float(), torch.zeros(D_IN))


@pytest.fixture(scope="module")
def world() -> tuple[Dictionary, Tensor, Tensor]:
    """A stream SAE, the codes that wrote the sublayer's output, and the stream."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(D_SAE, D_IN, generator=generator), dim=1)
    on = torch.rand(N, D_SAE, generator=generator).argsort(1)[:, :6]
    codes = torch.zeros(N, D_SAE).scatter(1, on, torch.rand(N, 6, generator=generator) + 0.1)
    codes[:, ::3] = 0.0
    # six are on, and those of every third latent were not written to
    stream = torch.zeros(N, D_IN, dtype=torch.float64)
    stream[:, 0] = (2.0 ** on.double()).sum(1)
    return Stream(rows), codes, stream


@pytest.mark.parametrize("method", ["nnls", "projection"])
def test_what_was_written_is_recovered(world, method):
    sae, codes, stream = world
    made = SublayerDictionary(sae, "blocks.1.hook_resid_pre", method)
    out = (codes @ sae.W_dec).double()
    known = Known(torch.zeros(N, 1, dtype=torch.long), read=stream)
    found = encode_any(made, out, known)
    assert torch.allclose(found.codes.float(), codes, atol=1e-5)
    assert made.decode(Encoding(found.codes.float(), found.offset.float())).allclose(out.float(), atol=1e-5)


def test_neither_method_uses_a_latent_that_is_off_and_one_has_no_negative_codes(world):
    sae, _, stream = world
    out = torch.randn(N, D_IN, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    off = sae.encode(stream).codes == 0
    errors = {}
    for method in ("nnls", "projection"):
        codes = SublayerDictionary(sae, "x", method).encode(torch.cat([out, stream], 1)).codes
        assert (codes[off] == 0).all()
        rest = out - codes @ sae.W_dec.double()
        errors[method] = rest.square().sum(1)
        slope = (rest @ sae.W_dec.double().T)[~off]
        if method == "nnls":
            assert (codes >= 0).all() and (slope < 1e-8).all()
        else:
            # the rest is orthogonal to every row that was allowed
            assert (codes < 0).any() and slope.abs().max() < 1e-8
    assert (errors["nnls"] >= errors["projection"] - 1e-9).all()
    assert (errors["nnls"] > errors["projection"] + 1e-3).any()
