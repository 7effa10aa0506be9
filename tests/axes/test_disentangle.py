"""Cause, isolate and disentangle from axis to score, table and figure, on planted facts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from interchange_worlds import Rows, World, carriers, facts
from worlds import entry

from saebench.axes.base import Bench
from saebench.axes.bench import make_bench
from saebench.dictionaries.controls import NoEdit
from saebench.dictionaries.supervised import fit_supervised
from saebench.records.outcomes import Key, Outcomes
from saebench.scoring import Scored, score
from saebench.scoring.disentangle import NO_ATTRIBUTE, NOT_MEDIATED
from saebench.scoring.estimates import Estimate, Undefined


def bench_of(world: World) -> Bench:
    atoms = fit_supervised(world.section, "mse")
    return make_bench(world.section, atoms, atoms, ["disentangle"])


@pytest.fixture(scope="module")
def world() -> World:
    return facts(nested=False)


@pytest.fixture(scope="module")
def bench(world) -> Bench:
    return bench_of(world)


def outcomes(thing, bench: Bench) -> Outcomes:
    return bench.measure(thing)


@pytest.fixture(scope="module")
def planted(world, bench) -> Outcomes:
    return outcomes(Rows(torch.cat(list(world.subspaces.values()))), bench)


def value(scored: Scored, *wanted) -> float:
    return float(entry(scored, *wanted).value)


def test_no_edit_is_exactly_half(bench):
    scored = score(outcomes(NoEdit(), bench))
    for name in ("child", "parent"):
        assert value(scored, "cause", name, "none") == 0
        assert value(scored, "isolate", name, "none") == 1
    assert value(scored, "disentangle", None, "none") == 0.5
    head = scored.axes["control"]
    assert isinstance(head.value, Estimate) and float(head.value) == 0.5
    assert isinstance(head.normalized, Estimate) and float(head.normalized) == 0


def test_published_convention_counts_equal_labels(world, bench):
    scored = score(outcomes(NoEdit(), bench))
    test = world.section.test
    shares = []
    for at in range(2):
        pairs = [
            (test.labels[i, at] == test.labels[j, at]).item()
            for i in range(0, len(test), 7)
            for j in range(len(test))
            if test.asks(at)[i] and test.cluster[i] != test.cluster[j]
        ]
        shares.append(np.mean(pairs))
    found = value(scored, "disentangle_published", None, "none")
    assert found == pytest.approx((1 + np.mean(shares)) / 2, abs=0.02)
    assert found > 0.5


def test_scores_equal_a_naive_count(world, bench, planted):
    scored, test = score(planted), world.section.test
    for at, name in enumerate(("child", "parent")):
        for edit in ("mask", "mask_no_error", "random_live", "identity_swap"):
            right = planted[Key("control", "success", name, edit)]
            asked = test.query.numpy() == at
            cause, isolate = right[asked].mean(), right[~asked].mean()
            assert value(scored, "cause", name, edit) == pytest.approx(cause)
            assert value(scored, "isolate", name, edit) == pytest.approx(isolate)
            assert value(scored, "disentangle", name, edit) == pytest.approx((cause + isolate) / 2)
    pair = value(scored, "isolate_pair", "child>parent", "mask")
    assert pair == value(scored, "isolate", "child", "mask")


def test_skyline_and_true_latents_reach_the_top(planted):
    scored = score(planted)
    assert value(scored, "disentangle", None, "das") >= 0.99
    assert value(scored, "disentangle", None, "mask") >= 0.99
    assert value(scored, "disentangle", None, "random_live") < 0.9
    head = scored.axes["control"]
    assert isinstance(head.normalized, Estimate) and float(head.normalized) >= 0.97
    assert head.note is not None and "edit mask" in head.note


def test_identity_swap_isolates_as_the_approximation_agrees(world, bench):
    weak = Rows(world.subspaces["parent"])
    out = outcomes(weak, bench)
    agree = out[Key("approximation", "agree")]
    for at, name in enumerate(("child", "parent")):
        elsewhere = world.section.test.query.numpy() != at
        swap = out[Key("control", "success", name, "identity_swap")][elsewhere]
        assert np.array_equal(swap, agree[elsewhere])
    assert 0 < agree.mean() < 1


def test_curves_over_sizes_and_counts_are_there(planted):
    scored = score(planted)
    sizes = [e.k for e in scored.entries if e.identity[1:4] == ("disentangle", None, "aware")]
    assert sizes == [1, 2, 4, 8, 16, 32]
    without = [e.k for e in scored.entries if e.identity[1:4] == ("disentangle", None, "aware_no_error")]
    assert without == sizes
    size = entry(scored, "mask_size", "child", "mask")
    assert 5 <= float(size.value) <= 6 and size.exact is not None
    assert value(scored, "das_rank", "child", "das") > 0


def test_differences_are_paired(planted):
    """Their interval is that of the difference prompt by prompt, narrower than of two separate runs."""
    scored = score(planted)
    for edit in ("mask-random_live", "das-mask", "das-neurons_mask", "neurons_mask-mask", "mse-mean"):
        first, second = edit.split("-")
        for name in ("cause", "isolate", "disentangle"):
            found = entry(scored, f"{name}_difference", None, edit)
            sides = [entry(scored, name, None, side).value for side in (first, second)]
            assert float(found.value) == pytest.approx(float(sides[0]) - float(sides[1]))
            assert np.allclose(found.value.draws, sides[0].draws - sides[1].draws)
    gain = entry(scored, "disentangle_difference", None, "mask-random_live").value
    assert gain.interval()[0] > 0
    same = entry(scored, "disentangle_difference", None, "das-mask").value
    low, high = same.interval()
    assert low <= float(same) <= high <= 0.02


def test_without_an_edit_there_is_no_difference_to_it(bench):
    """What only edits has no mask; the references are compared all the same."""
    scored = score(outcomes(NoEdit(), bench))
    edits = {e.edit for e in scored.entries if e.name == "cause_difference"}
    assert edits == {"das-neurons_mask", "mse-mean"}


def test_rotations_are_held_against_planted_subspaces_where_they_are_known(world, planted):
    assert not any(e.name == "das_overlap" for e in score(planted).entries)
    section = replace(world.section, planted=carriers(world))
    scored = score(outcomes(NoEdit(), bench_of(world._replace(section=section))))
    for name, other in (("child", "parent"), ("parent", "child")):
        found = entry(scored, "das_overlap", name, "das")
        assert float(found.value) >= 0.9 and found.exact is not None
        assert isinstance(found.floor, Estimate) and 0 < float(found.floor) < 0.5
        assert value(scored, "das_carried", name, "das") >= 0.95
        assert value(scored, "das_leaked", f"{name}>{other}", "das") <= 0.05
        angles = [e for e in scored.entries if e.identity[1:3] == ("das_angle", name)]
        assert [e.k for e in angles] == list(range(1, len(angles) + 1))
        cosines = np.cos(np.deg2rad([float(e.value) for e in angles]))
        assert np.mean(cosines**2) == pytest.approx(float(found.value), abs=1e-3)
        assert all(e.direction == "lower" for e in angles)


def test_supervised_dictionary_is_a_row_with_its_own_edit(world, bench):
    scored = score(outcomes(fit_supervised(world.section, "mean"), bench))
    head = scored.axes["control"]
    assert head.note is not None and "edit own" in head.note
    assert value(scored, "disentangle", None, "own") == value(scored, "disentangle", None, "mean")


def unmediated(world: World, name: str) -> World:
    """The same facts, but the readout does not see one attribute's edits: it answers as before."""
    test = world.section.test
    flat = {n: test.acts if n == name else acts for n, acts in test.source_acts.items()}
    section = replace(world.section, test=replace(test, source_acts=flat))
    return world._replace(section=section)


def test_attributes_below_a_half_are_marked_and_left_out(world):
    scored = score(outcomes(NoEdit(), bench_of(unmediated(world, "child"))))
    assert entry(scored, "cause", "child", "source").note == NOT_MEDIATED
    assert entry(scored, "disentangle", None, "das").note == "over parent"
    flat = unmediated(unmediated(world, "child"), "parent")
    head = score(outcomes(NoEdit(), bench_of(flat))).axes["control"]
    assert isinstance(head.value, Undefined) and head.value.reason == NO_ATTRIBUTE


def test_without_a_skyline_control_is_headed_as_before(world):
    atoms = fit_supervised(world.section, "mse")
    bench = make_bench(world.section, atoms, atoms)
    scored = score(outcomes(Rows(torch.cat(list(world.subspaces.values()))), bench))
    assert not any(e.name in ("cause", "isolate", "disentangle") for e in scored.entries)
    assert "disentangle" not in (scored.axes["control"].note or "")
