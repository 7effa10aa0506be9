"""What must hold whatever the implementation: theorems, each with its negative twin where it has one."""

import pytest
import torch
from worlds import Planted, bench_of, entry, measure, scores, two_groups

from saebench.cross_section import CrossSection
from saebench.dictionaries.controls import Identity, Mean, Random
from saebench.dictionaries.supervised import fit_supervised
from saebench.edits.few_latents import greedy, swap_all
from saebench.measures.detection import squared_norm
from saebench.scoring.estimates import Estimate, Undefined


@pytest.fixture(scope="module")
def world():
    section, rows, bias = two_groups()
    return bench_of(section), rows, bias


def value(maybe) -> float:
    assert isinstance(maybe, Estimate), maybe
    return float(maybe)


# 1. Identity and mean


def test_identity_reconstructs_everything(world):
    found = scores(Identity(world[0].section.mean), world[0], ("approximation",))
    assert value(entry(found, "sufficiency").value) == pytest.approx(1, abs=1e-6)
    assert value(entry(found, "necessity").value) == pytest.approx(1, abs=1e-6)
    assert value(entry(found, "fvu").value) == pytest.approx(0, abs=1e-9)


def test_mean_explains_and_edits_nothing(world):
    bench = world[0]
    found = scores(Mean(bench.section.mean), bench)
    assert value(entry(found, "sufficiency").value) == pytest.approx(0, abs=1e-6)
    assert value(entry(found, "fvu").value) == pytest.approx(1, abs=1e-6)
    for name in ("one", "two"):
        for k in (1, 32):
            edited = entry(found, "edit_success", name, "agnostic", k).value
            assert value(edited) == value(entry(found, "edit_success", name, "none").value)
        assert value(entry(found, "f1", name).value) == 0
    assert isinstance(found.axes["occlusion"].value, Undefined)


# 4. A deleted weak feature (the synthetic tasks test it at size)


def test_deleting_the_weak_attribute_shows_as_occlusion(world):
    bench, rows, bias = world
    whole = scores(Planted(rows, bias), bench)
    weak_gone = scores(Planted(rows[:10], bias + rows[10:].mean(0)), bench)
    assert value(whole.axes["occlusion"].value) == 1
    assert value(weak_gone.axes["occlusion"].value) == 0
    # the strong attribute is read as before
    for found in (whole, weak_gone):
        assert value(entry(found, "coverage@0.8", "one").value) == 1


# 3. Over-splitting


@pytest.mark.parametrize("k", [1, 2, 5])
def test_a_latent_split_into_disjoint_copies_reads_k(k):
    section, rows, bias = two_groups((4, 4), n=960)
    bench = bench_of(section)
    copies = Split(rows, bias, k)
    found = scores(copies, bench)
    plain = scores(Planted(rows, bias), bench)
    assert value(entry(found, "n90", "one").value) == pytest.approx(k)
    assert value(entry(found, "n90", "two").value) == 1
    for name in ("sufficiency", "fvu"):
        a, b = (value(entry(s, name).value) for s in (found, plain))
        assert a == pytest.approx(b, abs=1e-5)


class Split(Planted):  # type: ignore[misc]
    """The planted dictionary with the first group's latents in k copies, each firing on its share."""

    def __init__(self, rows, bias, k):
        super().__init__(rows, bias)
        self.k, self._rows = k, rows
        self.W_dec = torch.cat([rows[:4].repeat(k, 1), rows[4:]])

    def encode(self, acts):
        codes, offset = super().encode(acts)
        # which copy fires follows from the other attribute and a hash of the activation: disjoint
        bucket = (torch.arange(len(acts)) % self.k)[:, None]
        parts = [codes[:, :4] * (bucket == i) for i in range(self.k)]
        return type(super().encode(acts))(torch.cat([*parts, codes[:, 4:]], 1), offset)


# 5. mean and mse


def unbalanced(section: CrossSection, rows, bias) -> CrossSection:
    """The same world with attribute two mostly following attribute one on `fit`."""
    from dataclasses import replace

    labels = section.fit.labels.clone()
    follow = torch.rand(len(labels), generator=torch.Generator().manual_seed(1)) < 0.7
    labels[follow, 1] = labels[follow, 0]
    acts = rows[labels[:, 0]] + rows[10 + labels[:, 1]] + bias
    return replace(section, fit=replace(section.fit, acts=acts, labels=labels))


def test_mse_equals_mean_for_balanced_independent_attributes(world):
    section = world[0].section
    mean, mse = fit_supervised(section, "mean"), fit_supervised(section, "mse")
    assert torch.allclose(mean.W_dec, mse.W_dec, atol=1e-4)


def test_mse_beats_mean_when_attributes_depend_on_each_other(world):
    bench, rows, bias = world
    skewed = unbalanced(bench.section, rows, bias)
    errors = {}
    for method in ("mean", "mse"):
        supervised = fit_supervised(skewed, method)
        fit = skewed.fit
        hat = supervised.decode(supervised.encode(fit.acts, fit.known))
        errors[method] = float(squared_norm(fit.acts - hat).mean())
    assert errors["mse"] < 1e-6 < 0.1 < errors["mean"]


# 6. Edits


def test_editing_an_attribute_to_its_own_value_changes_nothing(world):
    section = world[0].section
    supervised = fit_supervised(section)
    test = section.test
    same = supervised.edit(0, test.acts, test.known, test.acts, test.known)
    assert torch.equal(same, test.acts)
    other = supervised.edit(0, test.acts, test.known, test.acts, test.source_known("one"))
    assert not torch.allclose(other, test.acts)


def test_swapping_every_latent_of_a_perfect_dictionary_is_the_source_patch(world):
    bench, rows, bias = world
    from saebench.axes.base import Subject

    subject = Subject(Planted(rows, bias), bench.section)
    test = bench.section.test
    codes = subject.test.codes, subject.source("one").codes
    swapped = swap_all(test.acts, *codes, subject.dictionary.W_dec)
    assert torch.allclose(swapped, test.source_acts["one"], atol=1e-5)
    two = greedy(test.acts, test.source_acts["one"], *codes, subject.dictionary.W_dec, (1, 2))
    assert torch.allclose(two[2].acts, test.source_acts["one"], atol=1e-4)
    assert not torch.allclose(two[1].acts, test.source_acts["one"], atol=1e-1)


# 2. Permuting and rescaling latents (the synthetic tasks test it at size)


def test_permuting_or_rescaling_latents_moves_no_score():
    # without ties: the method breaks them by index, which a permutation changes
    section, rows, bias = two_groups(jitter=0.3)
    bench = bench_of(section)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))

    class Rescaled(Planted):  # type: ignore[misc]
        """Every row at a length of its own and its code over it, in another order."""

        def encode(self, acts):
            codes, offset = Planted(rows, bias).encode(acts)
            return type(Planted(rows, bias).encode(acts))(codes[:, order] / lengths, offset)

    # powers of two: floating point stays exact, and ties stay ties
    lengths = 2.0 ** (torch.arange(len(rows)) % 5 - 2)
    changed = Rescaled(rows[order] * lengths[:, None], bias)
    one, two = scores(Planted(rows, bias), bench), scores(changed, bench)
    compared = 0
    for a, b in zip(one.entries, two.entries, strict=True):
        # random edits draw latents by index, and the shuffled decoder shuffles them: both move
        if isinstance(a.value, Estimate) and a.edit not in ("random", "permuted"):
            assert float(a.value) == pytest.approx(value(b.value), abs=1e-5), a.identity
            compared += 1
    assert compared > 50


# 7. Batches and order


def test_block_size_changes_nothing(world):
    from saebench.dictionaries.codes import encode_split

    bench, rows, bias = world
    test = bench.section.test
    small, large = (encode_split(Planted(rows, bias), test.acts, test.known, block=b) for b in (7, 10_000))
    assert torch.allclose(small.codes.value, large.codes.value, atol=1e-6)
    assert torch.equal(small.codes.latent, large.codes.latent)


# 8. The benchmark can say no


def test_with_labels_shuffled_the_supervised_advantage_is_gone(world):
    from dataclasses import replace

    section = world[0].section
    order = torch.randperm(len(section.fit), generator=torch.Generator().manual_seed(0))
    shuffled = replace(section, fit=replace(section.fit, labels=section.fit.labels[order]))
    true, false = bench_of(section), bench_of(shuffled)
    found = [scores(b.ceiling, b, ("approximation", "control")) for b in (true, false)]
    honest, broken = (value(entry(s, "sufficiency").value) for s in found)
    assert honest == pytest.approx(1, abs=1e-3)
    assert abs(broken) < 0.2
    honest, broken = (value(entry(s, "edit_success", "one", "supervised").value) for s in found)
    assert honest == 1 and broken < 0.2


# 9. No credit for nothing


@pytest.mark.parametrize("make", [lambda s: Mean(s.mean), lambda s: Random(s.fit.acts, 64, 4)])
def test_a_dictionary_that_finds_nothing_gets_no_credit(make):
    section, _, _ = two_groups((20, 20), d_in=64, n=1200, noise=1.0)
    bench = bench_of(section)
    found = scores(make(section), bench)
    occlusion = found.axes["occlusion"].value
    assert isinstance(occlusion, Undefined) or float(occlusion) < 0.2
    assert value(found.axes["oversplitting"].value) < 0.1


def test_an_always_on_latent_gets_no_credit(world):
    bench, rows, bias = world
    always = Planted(rows[:1], bias, encoder=torch.zeros(rows.shape[1], 1))
    always.encode = lambda acts: type(Planted(rows, bias).encode(acts))(  # type: ignore[method-assign]
        torch.ones(len(acts), 1), bias
    )
    found = scores(always, bench, ("approximation", "interpretability", "occlusion", "oversplitting"))
    star = entry(found, "f1_star", "one").value
    assert value(star) == pytest.approx(0, abs=1e-9)
    assert value(entry(found, "f1", "one").value) > 0.15


def test_a_latent_that_is_positive_for_one_value_and_negative_for_the_other_gets_full_credit():
    section, rows, bias = two_groups((2, 4), d_in=16, n=400)
    bench = bench_of(section)
    direction = rows[0] - rows[1]

    class Signed(Planted):  # type: ignore[misc]
        """One latent along the difference of attribute one's two values."""

        def encode(self, acts):
            centre = bias + rows[:2].mean(0)
            code = (acts - centre) @ direction[:, None] / direction.square().sum()
            return type(Planted(rows, bias).encode(acts))(code, centre)

    found = scores(Signed(direction[None], bias), bench)
    assert value(entry(found, "f1_star", "one").value) == pytest.approx(1)
    assert value(entry(found, "n90", "one").value) == 1


def test_outcomes_of_the_same_dictionary_are_the_same_bytes(world):
    bench, rows, bias = world
    one, two = (measure(Planted(rows, bias), bench) for _ in range(2))
    assert one.columns.keys() == two.columns.keys()
    assert all((one[key] == two[key]).all() for key in one.columns)
