"""Scoring inside somebody's training run: what the run has set is neither used nor moved."""

import random

import numpy as np
import pytest
import torch

import saebench
from saebench.dictionaries.controls import PCA
from saebench.models.surroundings import undisturbed

pytestmark = pytest.mark.usefixtures("few_prompts")


def settings():
    return (
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
        torch.is_grad_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_inference_mode_enabled(),
    )


@pytest.fixture(scope="module")
def plain():
    return saebench.evaluate("demo:topk", budget="tiny")


@pytest.fixture
def strange():
    """A run with everything set otherwise than by default."""
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16), torch.device("meta"):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_callers_settings_are_moved_without_it():
    """The twin: what is held against, done without the context."""
    before = settings()
    torch.rand(1), random.random(), np.random.rand()
    after = settings()
    assert all(one != other for one, other in zip(before[:3], after[:3], strict=True))


def test_inside_nothing_of_the_run_is_seen(strange):
    before = settings()
    with undisturbed():
        inside = settings()
        drawn = torch.rand(3), random.random(), np.random.rand()
    assert settings() == before
    assert inside[3:] == (True, False, torch.float32, torch.device("cpu"), False)
    with undisturbed():
        assert torch.equal(torch.rand(3), drawn[0]) and random.random() == drawn[1]


def test_an_error_puts_them_back_too(strange):
    before = settings()
    with pytest.raises(ZeroDivisionError), undisturbed():
        torch.rand(1), 1 / 0
    assert settings() == before


def test_an_evaluation_in_a_strange_run_gives_the_same_and_leaves_it_alone(plain, strange):
    def left() -> tuple:
        # the tests' run-time type checker draws from `random` to look into lists, so its state is left out
        return tuple(value for place, value in enumerate(settings()) if place != 1)

    before = left()
    model = saebench.load_model("demo")
    assert left() == before
    seen = saebench.evaluate("demo:topk", model=model, budget="tiny")
    assert left() == before
    assert seen.scores == plain.scores and seen.id == plain.id


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_a_model_in_half_precision_scores_near_float32(dtype, plain):
    """Activations, dictionaries and statistics are float32 whatever the model computes in."""
    found = saebench.evaluate("demo:topk", dtype=dtype, budget="tiny")
    assert found.provenance.dtype == dtype
    for name, axis in found.axes.items():
        assert axis.value == pytest.approx(plain.axes[name].value, abs=0.02), name


def test_pca_of_a_half_precision_model_is_orthonormal():
    model = saebench.load_model("demo", dtype="bfloat16")
    from saebench.patching import Placement, capture

    tokens = [model.tokens("When Mary and John went to the shop,")] * 3
    acts = capture(model, tokens, {0: Placement("blocks.1.hook_resid_pre", torch.tensor([1, 4, 7]))})[0]
    assert acts.dtype == torch.float32
    rows = PCA(acts, 2).W_dec
    torch.testing.assert_close(rows @ rows.T, torch.eye(2), atol=1e-5, rtol=0)
