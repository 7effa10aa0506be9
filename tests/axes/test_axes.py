"""What the axes measure beyond the theorems: splits, fragments, folding, signs."""

import numpy as np
import pytest
import torch
from sparse import sparse
from worlds import Planted, bench_of, entry, measure, scores, two_groups

from saebench.axes.base import Subject, properties
from saebench.axes.detection import permuted_f1_star
from saebench.axes.occlusion import _reconstructed
from saebench.axes.oversplitting import _effective, _fragments, _overlap
from saebench.measures.detection import f1_table
from saebench.records.outcomes import Key
from saebench.scoring import write_headline
from saebench.scoring.axes import AXES
from saebench.scoring.estimates import Bootstrap, Estimate, normalized


@pytest.fixture(scope="module")
def world():
    section, rows, bias = two_groups(noise=0.3)
    return bench_of(section), rows, bias


def test_fragments_are_right_but_rare():
    codes = torch.zeros(100, 4)
    label = (torch.arange(100) < 50).long()
    codes[:10, 0] = 1.0  # precise and rare
    codes[:40, 1] = 1.0  # precise, not rare
    codes[40:60, 2] = 1.0  # rare, not precise
    codes[5:15, 3] = 1.0  # precise and rare, half of it shared with the first
    table = f1_table(sparse(codes), label, 2, signed=False)
    pieces = _fragments(table, 1)
    assert pieces.tolist() == [0, 3]
    assert _overlap(sparse(codes), pieces) == pytest.approx(5 / 15)


def test_effective_latents_count_equal_shares_and_ignore_negligible_ones():
    codes = torch.zeros(60, 3)
    codes[:30, 0] = codes[30:, 1] = 2.0
    positive = torch.ones(60, dtype=torch.bool)
    ones = torch.ones(3)
    assert _effective(sparse(codes), ones, torch.tensor([0, 1]), positive) == pytest.approx(2)
    # half the code on a row of twice the length writes the same
    halved, longer = codes * torch.tensor([0.5, 1, 1]), torch.tensor([2.0, 1, 1])
    assert _effective(sparse(halved), longer, torch.tensor([0, 1]), positive) == pytest.approx(2)
    codes[0, 2] = 1e-6
    assert _effective(sparse(codes), ones, torch.tensor([0, 1, 2]), positive) == pytest.approx(2, abs=1e-3)


def test_attribute_reconstruction_is_one_for_a_perfect_copy_and_zero_for_the_mean(world):
    bench = world[0]
    test = bench.section.test
    label = test.labels[:, 0]
    perfect = _reconstructed(test.acts, test.acts, label, bench.mean)
    flat = _reconstructed(test.acts, bench.mean.expand_as(test.acts), label, bench.mean)
    assert perfect == 1 and flat == pytest.approx(0, abs=1e-6)
    assert _reconstructed(test.acts, test.acts, torch.zeros_like(label), bench.mean) is None


def test_a_reversed_reconstruction_is_not_recovery(world):
    """`â = 2ā − a` flips LD: signed sufficiency says −1, absolute values would say 1."""
    bench, mean = world[0], world[0].mean

    class Reversed(Planted):  # type: ignore[misc]
        def encode(self, acts):
            return type(super().encode(acts))(-(acts - mean), mean)

    found = scores(Reversed(torch.eye(len(mean)), mean), bench, ("approximation",))
    sufficiency = entry(found, "sufficiency").value
    assert isinstance(sufficiency, Estimate)
    assert float(sufficiency) == pytest.approx(-1, abs=0.1)
    headline = write_headline(found.axes["approximation"])
    assert headline.normalized is not None and headline.normalized < 0


@pytest.mark.parametrize("axis", list(AXES))
def test_an_axis_measured_alone_says_what_it_says_among_all(world, axis: str):
    """Some are scored from what another measured: that is measured with them."""
    bench, rows, bias = world
    alone = scores(Planted(rows, bias), bench, (axis,)).axes[axis]
    among = scores(Planted(rows, bias), bench).axes[axis]
    assert isinstance(alone.normalized, Estimate) and isinstance(among.normalized, Estimate)
    assert float(alone.normalized) == float(among.normalized)


def test_normalised_scores_are_not_clamped():
    boot = Bootstrap(np.arange(40))
    low, high, above = (boot.mean(np.full(40, x) + np.linspace(0, 0.01, 40)) for x in (0.2, 0.6, 0.8))
    found = normalized(above, low, high)
    assert isinstance(found, Estimate) and float(found) == pytest.approx(1.5, abs=0.01)
    below = normalized(low, high, above)
    assert isinstance(below, Estimate) and float(below) == pytest.approx(-2, abs=0.01)


def test_the_null_of_many_latents_is_near_zero_on_new_prompts(world):
    bench, rows, bias = world
    subject = Subject(Planted(rows, bias), bench.section)
    prop = bench.properties["one"]
    codes = subject.select.codes, subject.test.codes
    null = permuted_f1_star(prop, *codes, bench.section, subject.signed, seed=0)
    assert len(set(null)) > 1
    assert all(abs(x) < 0.15 for x in null)
    assert null == permuted_f1_star(prop, *codes, bench.section, subject.signed, seed=0)


def test_rare_values_are_dropped_and_counted():
    section, rows, bias = two_groups((3, 300), d_in=310, n=900)
    found = properties(section)
    assert found["one"].dropped == 0
    assert found["two"].dropped == 300
    outcomes = measure(Planted(rows, bias), bench_of(section), ("interpretability",))
    assert outcomes.facts[Key("interpretability", "dropped_values", "two")] == 300
    assert not list(outcomes.find("interpretability", "hit", attribute="two"))
