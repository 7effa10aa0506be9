"""A training run that is killed goes on to the very weights that an uninterrupted one ends with."""

from itertools import islice

import pytest
import torch

from saebench.dictionaries.resuming import WHOLE, Resuming
from saebench.dictionaries.training import shuffled_batches, train_sae

BATCH, STEPS = 32, 60


class Killed(Exception):
    """Stands for a signal."""


@pytest.fixture(scope="module")
def acts():
    return torch.randn(1024, 12, generator=torch.Generator().manual_seed(0))


def train(acts, batches, architecture):
    return train_sae(
        architecture, batches, 12, 32, sparsity=4, steps=STEPS, batch=BATCH, seed=3, progress=False
    )


def resuming(acts, folder, fails_at=None):
    drawn = []

    def batches(start):
        for number, batch in enumerate(islice(shuffled_batches(acts, BATCH, 1), start, None), start):
            if number == fails_at:
                raise Killed
            drawn.append(number)
            yield batch

    return Resuming(folder, batches, times=5), drawn


@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "standard"])
def test_it_ends_with_the_same_weights(architecture, acts, tmp_path):
    whole = train(acts, shuffled_batches(acts, BATCH, 1), architecture)
    first, _ = resuming(acts, tmp_path / "checkpoints", fails_at=40)
    with pytest.raises(Killed):
        train(acts, first, architecture)
    (kept,) = (tmp_path / "checkpoints").iterdir()
    second, drawn = resuming(acts, tmp_path / "checkpoints")
    again = train(acts, second, architecture)
    assert drawn[0] == 6 + int(kept.name) // BATCH, "it goes on behind the last batch it had seen"
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    second.clear()
    assert not (tmp_path / "checkpoints").exists()


def test_half_a_checkpoint_is_not_gone_on_from(acts, tmp_path):
    first, _ = resuming(acts, tmp_path, fails_at=40)
    with pytest.raises(Killed):
        train(acts, first, "topk")
    (kept,) = tmp_path.iterdir()
    (kept / WHOLE).unlink()
    second, drawn = resuming(acts, tmp_path)
    train(acts, second, "topk")
    assert drawn[0] == 0
