"""Devices are not mixed, and edits do not wait for theirs. Shown on a stand-in; a GPU itself is in `make bench`."""

import numpy as np
import pytest
import torch
from tiny_models import save_tiny

import saebench
from saebench.axes import control
from saebench.models.devices import exact, fast
from saebench.models.loading import load_model
from saebench.patching import PatchedReadout, Placement

pytestmark = pytest.mark.usefixtures("few_prompts")

# older torch has no devices that are written in Python
standin_device = pytest.importorskip("standin_device", exc_type=ImportError)
DEVICE = standin_device.DEVICE
EXACT, ROUNDING = {"rtol": 0, "atol": 0}, {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture
def standin():
    with standin_device.StandIn() as device:
        yield device


def test_the_stand_in_is_as_strict_as_a_gpu(standin):
    here, there = torch.arange(6.0, device=DEVICE).view(2, 3), torch.arange(3.0)
    assert (here + 1).sum().tolist() == 21 and standin.waits == {"to the CPU": 1}
    for mixed in (
        lambda: here + there,
        lambda: there.add_(here[0]),
        lambda: there[here[0].long()],
        lambda: here.index_add_(0, torch.tensor([1]), here[:1]),
    ):
        with pytest.raises(RuntimeError, match="standin"):
            mixed()
    with pytest.raises(TypeError):
        here.numpy()
    here[torch.tensor([1])] = 0.0
    here[0, :2].add_(10 * torch.tensor(1.0))
    assert here.cpu().tolist() == [[10.0, 11.0, 2.0], [0.0, 0.0, 0.0]]


def test_an_edit_costs_no_wait_for_the_device(standin, tmp_path):
    """Waits grow neither with edits nor with what they are; results equal those of the CPU."""
    directory = str(save_tiny(tmp_path, "gpt2"))
    tokens = [[0, 5, 9, 11, 30, 7], [0, 6, 3, 2, 31, 17, 18], [0, 1, 9, 4, 30, 2]]
    found, waits = {}, []
    for device in ("cpu", str(DEVICE)):
        model = load_model(directory, device=device)
        answer = torch.arange(3)
        place = Placement("blocks.1.hook_resid_pre", torch.tensor([1, 3, 5]))
        readout = PatchedReadout(model, tokens, [place], answer, answer + 3)
        assert readout.way == "suffix"
        clean = readout.clean()
        assert clean.device.type == model.device.type
        edits = {i: clean + 0.5 * i for i in range(40)}
        readout.run({0: edits[0]}, reference=clean)  # makes the clean runs
        for some in (2, 40):
            standin.waits.clear()
            found[device] = readout.run({i: edits[i] for i in range(some)}, reference=clean)
            waits.append(standin.waits.total())
    assert waits[:2] == [0, 0] and waits[2] == waits[3] <= 2
    for i, cpu in found["cpu"].items():
        for a, b in zip(cpu, found[str(DEVICE)][i], strict=True):
            assert torch.allclose(a, b.cpu(), atol=1e-5)


def test_scoring_is_exact_and_leaves_the_settings_of_a_training_run():
    def settings():
        matmul = torch.backends.cuda.matmul
        order = torch.are_deterministic_algorithms_enabled()
        return order, matmul.fp32_precision, torch.utils.deterministic.fill_uninitialized_memory

    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        before = settings()
        with pytest.raises(ZeroDivisionError), exact(DEVICE):
            assert settings() == (True, "ieee", False)
            assert torch.is_deterministic_algorithms_warn_only_enabled()
            raise ZeroDivisionError
        assert settings() == before == (False, "tf32", True)
        with fast(torch.device("cuda")):
            assert settings() == before
            with exact(DEVICE):
                assert settings() == (True, "ieee", False)
        with exact(torch.device("cpu")), fast(torch.device("cpu")):
            assert settings() == before
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        with fast(torch.device("cuda")):
            assert settings() == (False, "tf32", True)
        assert settings() == (False, "ieee", True)
    finally:
        torch.backends.cuda.matmul.fp32_precision = "none"


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "task, sae",
    [
        ("ioi", "demo:topk"),
        pytest.param("ravel", "demo:gated", marks=pytest.mark.slow),
        pytest.param("synthetic/occlusion", "control:oracle", marks=pytest.mark.slow),
    ],
)
def test_outcomes_are_those_of_the_cpu(monkeypatch, task, sae):
    """All axes, with labels, masks and learned subspaces: the same choices, outcomes equal but for rounding."""
    cpu = saebench.evaluate(sae, task=task, budget="tiny", device="cpu")
    exactly, run = [], control.run_edits

    def watched(*arguments, **named):
        exactly.append(torch.are_deterministic_algorithms_enabled())
        run(*arguments)

    monkeypatch.setattr(control, "run_edits", watched)
    with standin_device.StandIn():
        device = saebench.evaluate(sae, task=task, budget="tiny", device=str(DEVICE))
    assert exactly and all(exactly) and not torch.are_deterministic_algorithms_enabled()
    ours, theirs = device.outcomes, cpu.outcomes
    assert list(ours.columns) == list(theirs.columns) and list(ours.facts) == list(theirs.facts)
    for key, column in theirs.columns.items():
        # what was chosen, and what became the arg-max, is the same; logits of some 10 differ in their 7th digit
        chosen = key.score in ("success", "n_changed", "asks", "alone")
        np.testing.assert_allclose(ours[key], column, **EXACT if chosen else ROUNDING, err_msg=str(key))
    for key, fact in theirs.facts.items():
        # a rotation is trained, so that rounding adds up over its steps: its angles are in degrees
        close = {"rtol": 0, "atol": 1e-2} if key.score == "das_angle" else ROUNDING
        np.testing.assert_allclose(ours.facts[key], fact, **close, err_msg=str(key))
    # a score may divide by little (IO's place moves the answers by 3e-4 nats): there rounding stays far inside
    # the interval, elsewhere it is all there is; angles are the facts compared above
    for one, other in zip(device.scores, cpu.scores, strict=True):
        assert (one.value is None) == (other.value is None) and one.reason == other.reason
        if one.value is not None and other.value is not None and one.name != "das_angle":
            width = other.ci[1] - other.ci[0] if other.ci else 0.0
            assert abs(one.value - other.value) <= 1e-6 + 1e-5 * abs(other.value) + 1e-4 * width, one
    assert sum(score.value is not None for score in cpu.scores) > 100
