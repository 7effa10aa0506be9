"""SAEs loaded and held against their formulas, or refused."""

import pytest
import sae_files as f
import torch

from saebench.checkpoints import load
from saebench.errors import CheckpointError


def agrees(loaded, naive, w, skip=None, scale=1.0):
    """Codes and what is written, example by example."""
    x = f.acts()
    encoding = loaded.dictionary.encode(x)
    codes = torch.stack([naive(row * scale) for row in x]) / scale
    assert 0 < (codes != 0).float().mean() < 1
    torch.testing.assert_close(encoding.codes, codes, atol=1e-5, rtol=1e-5)
    bias = w["b_dec"] / scale
    wanted = codes @ w["W_dec"] + bias + (x @ skip.T if skip is not None else 0)
    torch.testing.assert_close(loaded.dictionary.decode(encoding), wanted, atol=1e-5, rtol=1e-5)


def refused(path, said="", architecture=None):
    """The message, which must be one paragraph and name the file or folder."""
    with pytest.raises(CheckpointError) as caught:
        load(path, architecture=architecture)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 1500
    inside = path.iterdir() if path.is_dir() else ()
    assert path.name in message or any(p.name in message for p in inside)
    # names of temporary folders repeat the test's name, and must not count as the reason
    reason = message.replace(str(path), "").replace(str(path.parent), "")
    assert said in reason, message
    return message
