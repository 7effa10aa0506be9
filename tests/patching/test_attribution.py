"""Gradients of LD, all places from one backward pass, against one readout's gradient for each."""

import pytest
import torch
from tiny_models import save_tiny

from saebench.models.language_model import SITE_HOOKS
from saebench.models.loading import load_model
from saebench.patching import PatchedReadout, Placement
from saebench.patching.attribution import ld_gradients

TOKENS = [[0, 5, 9, 11, 30, 7], [0, 4, 3, 22], [0, 6, 3, 2, 31, 17]]


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "neox"])
def test_gradients_are_those_of_the_patched_readout(architecture, tmp_path):
    model = load_model(str(save_tiny(tmp_path, architecture, n_layers=2)))
    at, rows, answer = torch.tensor([2, 1, 5]), torch.arange(3), torch.tensor([5, 8, 2])
    names = [f"blocks.{layer}.{hook}" for layer in (0, 1) for hook in SITE_HOOKS]
    places = {name: Placement(name, at) for name in names if name in model.points}
    places["head"] = Placement("blocks.1.attn.hook_v", at, 1)
    found = ld_gradients(model, TOKENS, places, answer, answer + 7)
    assert any(gradient.abs().max() > 0.01 for gradient in found.values())
    for key, place in places.items():
        readout = PatchedReadout(model, TOKENS, [place], answer, answer + 7)
        clean = readout.clean().requires_grad_()
        (wanted,) = torch.autograd.grad(readout.difference(clean, rows).sum(), clean)
        assert torch.allclose(found[key], wanted, atol=1e-4), key
