"""Scores against averages taken by hand from the stored outcomes."""

from dataclasses import replace

import numpy as np
import pytest
from worlds import Planted, bench_of, entry, measure, two_groups

from saebench.records.outcomes import Key
from saebench.scoring import control, oversplitting, read_write, score, write_entry, write_headline
from saebench.scoring.approximation import folded
from saebench.scoring.base import Context
from saebench.scoring.causal import NONE_CAUSAL, Effect, weights
from saebench.scoring.control import fidelity
from saebench.scoring.detection import detect
from saebench.scoring.estimates import Bootstrap, Estimate, Undefined
from saebench.scoring.occlusion import _crossing, pairs
from saebench.scoring.oversplitting import measure_attribute


@pytest.fixture(scope="module")
def outcomes():
    section, rows, bias = two_groups(noise=0.4, jitter=0.2)
    partly = rows.clone()
    partly[12:14] = 0.0  # two values of the weak group have no latent
    return measure(Planted(partly, bias), bench_of(section))


def column(outcomes, *key, **fields):
    return outcomes[Key(*key, **fields)].astype(float)


def test_sufficiency_and_necessity_are_ratios_of_means(outcomes):
    clean, mean = (column(outcomes, "task", "ld", edit=e).mean() for e in ("clean", "mean"))
    hat, rest = (column(outcomes, "approximation", "ld", edit=e).mean() for e in ("hat", "rest"))
    found = score(outcomes)
    sufficiency, necessity = (hat - mean) / (clean - mean), 1 - abs(rest - mean) / abs(clean - mean)
    assert float(entry(found, "sufficiency").value) == pytest.approx(sufficiency)
    assert float(entry(found, "necessity").value) == pytest.approx(necessity)
    headline = ((1 - abs(1 - sufficiency)) + necessity) / 2
    assert float(found.axes["approximation"].value) == pytest.approx(headline)


def test_a_sign_flip_is_not_recovery():
    ctx = {"cluster": np.arange(50)}
    boot = Bootstrap(**ctx)
    flipped = boot.mean(np.linspace(-1.2, -0.8, 50))
    zero = boot.mean(np.zeros(50))
    assert isinstance(flipped, Estimate) and isinstance(zero, Estimate)
    value = folded(flipped, zero)
    assert float(value) == pytest.approx(0.5 * ((1 - 2) + 1))


def test_fvu_and_l0_are_sums_and_means(outcomes):
    err, dev = column(outcomes, "approximation", "err2"), column(outcomes, "task", "dev2")
    found = score(outcomes)
    assert float(entry(found, "fvu").value) == pytest.approx(err.sum() / dev.sum())
    assert float(entry(found, "l0").value) == pytest.approx(column(outcomes, "approximation", "l0").mean())


def test_edit_scores_are_shares_and_ratios(outcomes):
    found = score(outcomes)
    clean = column(outcomes, "task", "ld", edit="clean")
    source = column(outcomes, "task", "ld", "one", "source")
    for k in (1, 8):
        success = column(outcomes, "control", "success", "one", "agnostic", k)
        moved = column(outcomes, "control", "ld", "one", "agnostic", k)
        effect = (moved - clean).mean() / (source - clean).mean()
        assert float(entry(found, "edit_success", "one", "agnostic", k).value) == pytest.approx(
            success.mean()
        )
        assert float(entry(found, "edit_effect", "one", "agnostic", k).value) == pytest.approx(effect)


def test_the_control_headline_is_the_edit_of_one_writer_for_one(outcomes):
    """Fidelity, `1 − KL / KL of no edit`, 0 where it does harm; mean over attributes by their weights."""
    found, wanted, by = score(outcomes), [], []
    for name in ("one", "two"):
        none = column(outcomes, "task", "kl", name, "none").mean()
        for k in (1, 2, 4, 8, 16):
            fidelity = 1 - column(outcomes, "control", "kl", name, "writers", k).mean() / none
            assert float(entry(found, "edit_fidelity", name, "writers", k).value) == pytest.approx(fidelity)
            if k == 1:
                wanted.append(max(0.0, fidelity))
        best = 1 - column(outcomes, "task", "kl", name, "ceiling").mean() / none
        by.append(effect_weight(outcomes, name) * best)
    share = by[0] / sum(by)
    assert found.axes["control"].note == f"over one {share:.2f}, two {1 - share:.2f}"
    assert float(found.axes["control"].value) == pytest.approx(np.average(wanted, weights=by))


def effect_weight(outcomes, name: str) -> float:
    """Change of LD under the source patch, or of the answer, as a share of the whole; 5 % counts 0."""
    clean, mean = (column(outcomes, "task", "ld", edit=e).mean() for e in ("clean", "mean"))
    by_ld = abs(column(outcomes, "task", "ld", name, "source").mean() - clean) / abs(clean - mean)
    source, none = (column(outcomes, "task", "success", name, e).mean() for e in ("source", "none"))
    return max(0.0, min(1.0, max(by_ld, abs(source - none))) - 0.05) / 0.95


def test_an_attribute_weighs_nothing_up_to_a_twentieth_of_the_whole_effect():
    share = Estimate(0.525, np.array([0.0, 0.05, 0.525, 1.0]))
    weight = Effect(share, share, share).weight
    assert float(weight) == pytest.approx(0.5)
    assert weight.draws == pytest.approx([0.0, 0.0, 0.5, 1.0])


def shrunk(outcomes, name: str, size: float) -> Context:
    """The same outcomes on a draw where the source patch of an attribute does less."""
    columns = dict(outcomes.columns)
    for kind in ("ld", "success"):
        source, none = Key("task", kind, name, "source"), Key("task", kind, name, "none")
        columns[source] = columns[none] + size * (columns[source] - columns[none])
    return few_draws(replace(outcomes, columns=columns))


def few_draws(outcomes) -> Context:
    return Context(outcomes, {s: Bootstrap(c, n_resamples=20) for s, c in outcomes.cluster.items()})


def test_headlines_move_with_the_data_where_an_attribute_stops_being_credibly_causal(outcomes):
    """From half its effect to none: a set of significant attributes would jump by the whole difference."""
    draws = [shrunk(outcomes, "two", size) for size in np.linspace(0.5, 0.0, 26)]
    for axis in (control, oversplitting):
        found = [axis.headline(ctx) for ctx in draws]
        values = np.array([float(one.value) for one in found])
        whole = abs(values[-1] - values[0])
        assert whole > 0.01 and np.abs(np.diff(values)).max() < 0.2 * whole
        # without an effect the other attribute is all there is
        assert found[-1].note == "over one 1.00"


def test_where_the_site_does_not_matter_rounding_is_no_effect(outcomes):
    """Behind the last place that is read a patch moves LD by rounding, all one way, and mean ablation does too."""
    columns = dict(outcomes.columns)
    clean = Key("task", "ld", edit="clean")
    rounding = 1e-6 * np.random.default_rng(0).normal(size=len(columns[clean]))
    columns[clean._replace(edit="mean")] = (columns[clean] + rounding).astype(np.float32)
    for name in ("one", "two"):
        columns[Key("task", "ld", name, "source")] = columns[clean] + np.float32(1e-5)
        columns[Key("task", "success", name, "source")] = columns[Key("task", "success", name, "none")]
    ctx = few_draws(replace(outcomes, columns=columns))
    assert weights(ctx) == {}
    assert control.headline(ctx).value == oversplitting.headline(ctx).value == Undefined(NONE_CAUSAL)


def test_what_is_hardly_there_hardly_counts(outcomes):
    """Atoms of which a small share is found again on test are mostly noise, and so is what is written of them."""
    columns, key, counted = dict(outcomes.columns), Key("task", "available", "two"), []
    for share in np.linspace(0.2, 0.0, 21):
        columns[key] = outcomes[key] * share
        found = read_write.weighed(few_draws(replace(outcomes, columns=columns)))
        counted.append(float(found["two"].weight) if "two" in found else 0.0)
    assert counted[0] > 0.1 and counted[-1] == 0 and np.abs(np.diff(counted)).max() <= 0.02


def test_what_an_edit_does_to_other_attributes_counts_where_they_are_asked_for(outcomes):
    """Half of the prompts ask for the other attribute, and the edit moves their answers too."""
    columns = dict(outcomes.columns)
    key, none = Key("control", "kl", "one", "writers", 1), Key("task", "kl", "one", "none")
    half = np.arange(len(columns[key])) % 2
    columns[Key("task", "asks", "one")] = half.astype(np.float32)
    columns[none] = (columns[none] * half).astype(np.float32)
    blind = fidelity(Context.of(replace(outcomes, columns=columns | {key: columns[key] * half})), key)
    seen = fidelity(Context.of(replace(outcomes, columns=columns)), key)
    left, whole = columns[key].astype(float), columns[none].astype(float)
    wanted = 1 - (left[half == 1].mean() + left[half == 0].mean()) / whole[half == 1].mean()
    assert float(seen) == pytest.approx(wanted) and float(blind) > float(seen)
    # n is what was averaged: half of the prompts ask, and damage is looked for on all
    found = score(replace(outcomes, columns=columns))
    of = {e.name: e.n for e in found.entries if e.identity[2:] == ("one", "writers", 1)}
    assert of["edit_success"] == half.sum() and of["edit_fidelity"] == len(half)


def naive_detection(outcomes, name):
    """F1* per value from the stored hits, by counting."""
    by_value: dict[str, list[float]] = {}
    for key in outcomes.find("interpretability", "hit", attribute=name):
        hits = outcomes[key]
        tp, fp, fn = ((hits == code).sum() for code in (1, 2, 3))
        f1 = 0.0 if tp == 0 else 2 * tp / (2 * tp + fp + fn)
        p = (tp + fn) / len(hits)
        star = (f1 - 2 * p / (1 + p)) / (1 - 2 * p / (1 + p))
        by_value.setdefault(key.label.rsplit("|", 1)[0], []).append(max(0.0, star))
    return {label: float(np.mean(stars)) for label, stars in by_value.items()}


@pytest.mark.parametrize("name", ["one", "two"])
def test_f1_star_and_coverage(outcomes, name):
    wanted = naive_detection(outcomes, name)
    found = score(outcomes)
    assert float(entry(found, "f1_star", name).value) == pytest.approx(np.mean(list(wanted.values())))
    for t in (0.5, 0.8):
        share = np.mean([star >= t for star in wanted.values()])
        assert float(entry(found, f"coverage@{t}", name).value) == pytest.approx(share)
    # a tie is averaged before it is compared with the threshold
    detection = detect(Context.of(outcomes), "interpretability", name)
    assert detection is not None and detection.labels == tuple(wanted)


def test_retention_is_what_is_written_of_the_weak_one_over_the_strong_one(outcomes):
    found = score(outcomes)
    (pair,) = pairs(Context.of(outcomes))
    assert (pair.weak, pair.strong) == ("two", "one")
    written, size = {}, {}
    for name in ("one", "two"):
        size[name] = column(outcomes, "task", "available", name).mean()
        written[name] = column(outcomes, "interpretability", "written", name).mean() / size[name]
    retention = min(1.0, max(0.0, written["two"]) / written["one"])
    assert float(entry(found, "retention", "two<one").value) == pytest.approx(retention)
    assert float(entry(found, "size_ratio", "two<one").value) == pytest.approx(
        (size["one"] / size["two"]) ** 0.5
    )
    assert float(found.axes["occlusion"].value) == pytest.approx(retention)


def test_the_detection_limit_is_where_the_dose_response_crosses():
    curve = np.array([[0.1, 0.8, 0.9], [0.3, 0.8, 0.9], [0.5, 0.8, 0.9], [0.7, 0.8, 0.9], [0.9, 0.8, 0.9]])
    found = _crossing(curve, np.array([0.6, 0.5, 1.0]))
    # halfway between 2 and 3 times its size; written well enough as it is; never
    assert found.tolist() == [2.5, 1.0, np.inf]


def test_read_and_write_are_ratios_of_means(outcomes):
    found = score(outcomes)
    names = ("written", "gross", "selective", "specific", "split")
    for name in ("one", "two"):
        part = {p: column(outcomes, "interpretability", p, name).mean() for p in names}
        scale = outcomes.facts[Key("interpretability", "scale")]
        amount = min(1.0, scale * part["written"] / column(outcomes, "task", "available", name).mean())
        purity = min(1.0, part["selective"] / part["gross"])
        assert float(entry(found, "purity", name).value) == pytest.approx(purity)
        assert float(entry(found, "read_write", name).value) == pytest.approx(purity * amount)
        specific, split = (min(1.0, part[p] / part["gross"]) * amount for p in ("specific", "split"))
        assert float(entry(found, "split", name).value) == pytest.approx(split)
        assert float(entry(found, "writers", name).value) == pytest.approx(specific / split)
    by = []
    for name in ("one", "two"):
        again = column(outcomes, "task", "available", name).mean()
        on_fit = outcomes.facts[Key("task", "available_on_fit", name)]
        by.append(effect_weight(outcomes, name) * min(1.0, again / on_fit))
    each = [float(entry(found, "read_write", name).value) for name in ("one", "two")]
    mean = np.average(each, weights=by)
    assert float(found.axes["interpretability"].value) == pytest.approx(mean)
    assert float(entry(found, "read_write").value) == pytest.approx(mean)


def naive_star(first: np.ndarray, size: int) -> float:
    """F1* of a prefix, from ±(1 + place of the first hit), ½ for a missed positive."""
    positive = first > 0
    p = positive.mean()
    covered = (np.abs(first) >= 1) & (np.abs(first) <= size)
    tp, fp, fn = ((covered & positive).sum(), (covered & ~positive).sum(), (~covered & positive).sum())
    f1 = 0.0 if tp == 0 else 2 * tp / (2 * tp + fp + fn)
    return (f1 - 2 * p / (1 + p)) / (1 - 2 * p / (1 + p))


def naive_n90(first: np.ndarray) -> tuple[int, bool]:
    """Prefixes one by one."""
    stars = [naive_star(first, size) for size in range(1, max(1, int(np.abs(first).max())) + 1)]
    if max(stars) < 0.5:
        return 1, False
    return next(i + 1 for i, s in enumerate(stars) if s >= 0.9 * max(stars)), True


@pytest.mark.parametrize("name", ["one", "two"])
def test_n90_is_the_smallest_prefix_that_reaches_ninety_percent(outcomes, name):
    wanted = []
    for key in outcomes.find("oversplitting", "first", attribute=name, split="select"):
        n90, _ = naive_n90(outcomes[key])
        star = naive_star(outcomes[key._replace(split="test")], n90)
        wanted.append(1 / n90 if star >= 0.5 else 0.0)
    found = measure_attribute(Context.of(outcomes), name)
    assert found is not None
    assert float(found.inverse) == pytest.approx(np.mean(wanted))


def test_what_is_undefined_has_a_reason_and_no_number(outcomes):
    section, _, _ = two_groups(norms=(1e-9, 1e-9), noise=1.0)
    from saebench.dictionaries.controls import Identity

    found = score(measure(Identity(section.mean), bench_of(section)))
    axis = write_headline(found.axes["approximation"])
    assert isinstance(found.axes["approximation"].value, Undefined)
    assert (axis.value, axis.normalized, axis.ci) == (None, None, None)
    assert axis.reason and "does not matter" in axis.reason


def test_every_written_number_has_an_interval_or_a_reason(outcomes):
    found = score(outcomes)
    for one in found.entries:
        written = write_entry(one)
        assert written.value is None or written.ci is not None or written.reason, one.identity
        assert written.value is not None or written.reason, one.identity
        if written.ci is not None and not (one.value.normal if isinstance(one.value, Estimate) else False):
            low, high = written.ci
            assert low <= written.value + 1e-9 and written.value - 1e-9 <= high, one.identity


def test_scoring_twice_gives_the_same_numbers(outcomes):
    one, two = (score(outcomes) for _ in range(2))
    assert [write_entry(e) for e in one.entries] == [write_entry(e) for e in two.entries]
