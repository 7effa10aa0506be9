"""A GPU itself, where there is one: the same numbers every time, and those of the CPU but for rounding."""

import numpy as np
import pytest
import torch

import saebench

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("task, sae", [("ioi", "demo:topk"), ("ravel", "demo:gated")])
def test_scores_of_a_gpu_repeat_and_are_those_of_the_cpu(task, sae):
    cpu, first, again = (
        saebench.evaluate(sae, task=task, budget="tiny", device=device) for device in ("cpu", "cuda", "cuda")
    )
    assert first.id == again.id
    for key, column in first.outcomes.columns.items():
        np.testing.assert_array_equal(column, again.outcomes[key], err_msg=str(key))
    for axis, score in cpu.axes.items():
        other = first.axes[axis]
        assert score.reason == other.reason
        if score.value is None or score.value_ci is None:
            continue
        # rounding may turn what was chosen among equals, never what is said of the SAE
        low, high = score.value_ci
        assert other.value is not None, axis
        assert abs(score.value - other.value) <= 1e-3 + 0.05 * (high - low), (axis, score, other)
