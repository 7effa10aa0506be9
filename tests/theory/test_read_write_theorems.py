"""Theorems of reading and writing (docs/methods.md §6–8), each with its negative twin, through the whole of scoring."""

import pytest
import torch
from worlds import Planted, bench_of, entry, measure, scores, two_groups

from saebench.dictionaries.controls import Identity, Mean, Permuted
from saebench.dictionary import Dictionary, Encoding
from saebench.records.outcomes import Key
from saebench.scoring.estimates import Estimate, Undefined

AXES = ("approximation", "interpretability", "oversplitting")


class Given(Dictionary):
    """Rows and codes as functions of those of the true dictionary."""

    def __init__(self, truth: Planted, rows, codes=lambda codes: codes):
        self.name, self.W_dec, self._truth, self._codes = "given", rows, truth, codes

    def encode(self, acts) -> Encoding:
        found = self._truth.encode(acts)
        return Encoding(self._codes(found.codes), found.offset)


@pytest.fixture(scope="module")
def world():
    section, rows, bias = two_groups((8, 6), n=480, noise=0.2)
    return bench_of(section), Planted(rows, bias), rows


def value(maybe) -> float:
    assert isinstance(maybe, Estimate), maybe
    return float(maybe)


def headlines(found) -> tuple[float, float]:
    return tuple(value(found.axes[axis].value) for axis in ("interpretability", "oversplitting"))


def test_identity_writes_everything_and_the_mean_nothing(world):
    bench, _, _ = world
    identity, mean = (scores(d(bench.section.mean), bench, AXES) for d in (Identity, Mean))
    for name in ("one", "two"):
        assert value(entry(identity, "written", name).value) == pytest.approx(1, abs=1e-6)
        assert value(entry(mean, "written", name).value) == pytest.approx(0, abs=1e-6)
        assert isinstance(entry(mean, "purity", name).value, Undefined)
    assert headlines(mean) == (0, 0)
    # neurons write everything through latents that stand for little
    assert headlines(identity)[0] < 0.6


def test_the_supervised_dictionary_reads_and_writes_everything(world):
    bench = world[0]
    found = scores(bench.ceiling, bench, AXES)
    assert all(raw >= 0.98 for raw in headlines(found))
    assert value(found.axes["interpretability"].normalized) == pytest.approx(1, abs=1e-6)


def test_a_shuffled_decoder_falls_to_what_random_directions_reach(world):
    bench, truth, _ = world
    right = headlines(scores(truth, bench, AXES))[0]
    wrong = [headlines(scores(Permuted(truth, seed), bench, AXES))[0] for seed in range(3)]
    assert right > 0.95 and sum(wrong) / 3 < 0.1


def test_writing_twice_too_much_earns_nothing(world):
    bench, truth, rows = world
    plain, loud = (scores(d, bench, AXES) for d in (truth, Given(truth, 2 * rows)))
    assert value(entry(loud, "written", "one").value) == pytest.approx(2, abs=0.05)
    assert headlines(loud) == pytest.approx(headlines(plain), abs=0.02)
    # nor does one attribute that is written more than its share
    uneven = rows.clone()
    uneven[:8] *= 2
    assert value(entry(scores(Given(truth, uneven), bench, AXES), "read_write", "one").value) <= 1


def test_what_all_latents_shrink_alike_is_forgiven_up_to_five_times(world):
    bench, truth, rows = world
    plain, half, tenth = (scores(Given(truth, c * rows), bench, AXES) for c in (1.0, 0.5, 0.1))
    assert value(entry(half, "written", "one").value) == pytest.approx(0.5, abs=0.02)
    assert headlines(half) == pytest.approx(headlines(plain), abs=0.02)
    assert headlines(tenth)[0] == pytest.approx(0.5 * headlines(plain)[0], abs=0.02)
    # its twin: what some latents write less than others is missing
    uneven = rows.clone()
    uneven[::2] *= 0.1
    assert headlines(scores(Given(truth, uneven), bench, AXES))[0] < 0.75 * headlines(plain)[0]


def test_tiny_detectors_and_an_always_on_latent_move_nothing(world):
    bench, truth, rows = world

    def more(codes):
        return torch.cat([codes, codes, torch.ones(len(codes), 1)], 1)

    padded = Given(truth, torch.cat([rows, 1e-4 * rows, rows[:1]]), more)
    assert headlines(scores(padded, bench, AXES)) == pytest.approx(
        headlines(scores(truth, bench, AXES)), abs=0.005
    )
    # their twin: perfect detectors that write nothing, alone, have nothing
    alone = scores(Given(truth, 1e-4 * rows), bench, AXES)
    assert value(entry(alone, "f1_star", "one").value) == pytest.approx(1)
    assert max(headlines(alone)) < 0.001


def test_weak_activity_does_not_change_what_latents_stand_for(world):
    """Latents that are also on a little nearly everywhere read and write the values as before."""
    bench, truth, rows = world

    def leaky(codes):
        drawn = torch.rand(codes.shape, generator=torch.Generator().manual_seed(0))
        return codes + 0.02 * drawn * (drawn < 0.9)

    plain, weak = (scores(d, bench, AXES) for d in (truth, Given(truth, rows, leaky)))
    # cut at zero the same latents are no detectors at all
    assert value(entry(weak, "f1_star", "one").value) < 0.2
    assert headlines(weak)[0] == pytest.approx(headlines(plain)[0], abs=0.02)
    assert headlines(weak)[1] > 0.8 * headlines(plain)[1]


def test_what_an_offset_restores_is_not_written(world):
    """Perfect reconstruction and perfect detectors: the activation stands in the offset, rows are tiny."""
    bench, truth, rows = world

    class Hidden(Given):
        def encode(self, acts) -> Encoding:
            codes = self._truth.encode(acts).codes
            return Encoding(codes, acts - codes @ self.W_dec)

    found = scores(Hidden(truth, 1e-3 * rows), bench)
    assert value(entry(found, "sufficiency").value) == pytest.approx(1, abs=1e-4)
    assert max(headlines(found)) < 0.01
    # nothing of the strong attribute is written, so nothing was hidden behind it
    assert isinstance(found.axes["occlusion"].value, Undefined)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_k_duplicates_read_one_kth(world, k: int):
    bench, truth, rows = world
    copies = Given(truth, rows.repeat(k, 1), lambda codes: codes.repeat(1, k) / k)
    found, plain = (scores(d, bench, AXES) for d in (copies, truth))
    assert headlines(found)[1] == pytest.approx(headlines(plain)[1] / k, rel=0.02)
    assert headlines(found)[0] == pytest.approx(headlines(plain)[0], abs=0.01)
    assert value(entry(found, "writers", "one").value) == pytest.approx(k, rel=0.02)


def test_order_and_scale_of_latents_move_nothing(world):
    bench, truth, rows = world
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    scaled = Given(truth, 100 * rows[order], lambda codes: codes[:, order] / 100)
    assert headlines(scores(scaled, bench, AXES)) == pytest.approx(
        headlines(scores(truth, bench, AXES)), abs=1e-5
    )


def test_the_null_follows_the_dictionary_and_not_the_other_way_round(world):
    bench, truth, _ = world
    out = measure(truth, bench, ("interpretability",))
    own, null = (out[Key("interpretability", "written", "one", edit)] for edit in ("", "null"))
    assert abs(null).sum() > 0 and null.mean() < 0.8 * own.mean()
