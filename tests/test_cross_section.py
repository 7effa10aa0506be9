"""The linear readout and the reduction of logits, against formulas written out."""

import pytest
import torch

from saebench.answers import Reference, reduce_logits
from saebench.cross_section import Attribute, LinearReadout


def test_reduction_is_the_logit_difference_the_arg_max_and_the_divergence():
    g = torch.Generator().manual_seed(0)
    logits, reference = (torch.randn(5, 7, generator=g) for _ in range(2))
    answer, distractor = torch.tensor([0, 1, 2, 3, 4]), torch.tensor([6, 5, 4, 2, 1])
    found = reduce_logits(logits, answer, distractor, Reference.of(reference))
    p, q = reference.softmax(1), logits.softmax(1)
    assert found.kl is not None
    for i in range(5):
        assert float(found.ld[i]) == pytest.approx(float(logits[i, answer[i]] - logits[i, distractor[i]]))
        assert int(found.top[i]) == int(logits[i].argmax())
        wanted = float((p[i] * (p[i] / q[i]).log()).sum())
        assert float(found.kl[i]) == pytest.approx(wanted, abs=1e-5)
    assert reduce_logits(logits, answer, distractor).kl is None


def test_a_token_of_probability_zero_adds_nothing():
    reference = torch.tensor([[0.0, float("-inf")]])
    zeros = torch.zeros(1, dtype=torch.long)
    found = reduce_logits(torch.tensor([[0.0, 0.0]]), zeros, zeros + 1, Reference.of(reference))
    assert found.kl is not None
    assert float(found.kl[0]) == pytest.approx(torch.log(torch.tensor(2.0)).item())


def heads(block=4096):
    g = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(3, 6, 4, generator=g), torch.randn(3, 6, generator=g)
    head = torch.arange(20) % 3
    answer = torch.arange(20) % 6
    return LinearReadout(weight, bias, head, answer, (answer + 1) % 6, block), weight, bias, head


def test_every_row_reads_its_own_head():
    readout, weight, bias, head = heads()
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(2))
    rows = torch.arange(20)
    logits = readout.logits(x, rows)
    for i in range(20):
        assert torch.allclose(logits[i], weight[head[i]] @ x[i] + bias[head[i]], atol=1e-5)


def test_blocks_and_row_subsets_change_nothing():
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(2))
    whole, small = (
        heads()[0].run({"x": x}, reference=x * 2),
        heads(block=3)[0].run({"x": x}, reference=x * 2),
    )
    assert all(
        torch.allclose(a.float(), b.float(), atol=1e-5) for a, b in zip(whole["x"], small["x"], strict=True)
    )
    rows = torch.tensor([3, 17, 4])
    part = heads()[0].run({"x": x[rows]}, rows=rows)["x"]
    assert torch.allclose(part.ld, whole["x"].ld[rows], atol=1e-5)


def test_gradients_reach_the_edited_activation():
    readout = heads()[0]
    x = torch.zeros(2, 4, requires_grad=True)
    readout.logits(x, torch.tensor([0, 1])).sum().backward()
    assert x.grad is not None and bool((x.grad != 0).any())


def test_an_on_off_attribute_is_looked_for_when_on():
    assert Attribute("f", ("off", "on"), on_off=True).detectable == (1,)
    assert Attribute("f", ("a", "b", "c")).detectable == (0, 1, 2)
