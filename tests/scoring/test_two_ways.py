"""Names that recur: the pigeonhole bootstrap, values as units, phrasings apart, latents on their own."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats

from saebench.records.outcomes import ACTIVE, AttributeFacts, Key, Outcomes
from saebench.records.table import read_table, table_bytes
from saebench.scoring.base import Context, Entry, Headline, write_entry, write_headline
from saebench.scoring.detection import FALSE_NEGATIVE, FALSE_POSITIVE, TRUE_POSITIVE, detect
from saebench.scoring.estimates import (
    Bootstrap,
    Estimate,
    Undefined,
    constant_like,
    normalized,
    normalized_interval,
    rank_interval,
    wilson,
)
from saebench.scoring.phrasings import apart, note_spread

NAMES, DISTANCES, PER_NAME = 30, 9, 25


def design() -> tuple[np.ndarray, np.ndarray]:
    """Name pairs as on IOI's test split, `[750, 2]`, and the unordered pair of each."""
    turn, io = np.divmod(np.arange(NAMES * PER_NAME), NAMES)
    s = (io + np.array([1, 29, 4, 26, 7, 23, 11, 19, 15])[turn % DISTANCES]) % NAMES
    return np.stack([io, s], 1), np.minimum(io, s) * NAMES + np.maximum(io, s)


UNITS, PAIRS = design()


def luck(seed: int, name: float, pair: float) -> np.ndarray:
    """Numbers with mean 0: what is due to the names, to their pair, and to the prompt (variance 1)."""
    rng = np.random.default_rng(seed)
    by_name = rng.normal(0, name, (2, NAMES))
    by_pair = rng.normal(0, pair, NAMES * NAMES)
    io, s = UNITS.T
    return by_name[0][io] + by_name[1][s] + by_pair[io * NAMES + s] + rng.normal(size=len(io))


def mean(boot: Bootstrap, values: np.ndarray) -> Estimate:
    found = boot.mean(values)
    assert isinstance(found, Estimate)
    return found


def test_a_prompts_weight_is_the_product_of_its_names_weights() -> None:
    boot = Bootstrap(PAIRS, UNITS, n_resamples=40, seed=3)
    x = luck(0, 0.5, 0.2)
    rng = np.random.default_rng(3)
    io, s = (rng.multinomial(NAMES, np.full(NAMES, 1 / NAMES), size=40) for _ in range(2))
    weight = io[:, UNITS[:, 0]] * s[:, UNITS[:, 1]]
    assert np.allclose(mean(boot, x).draws, (weight * x).sum(1) / weight.sum(1))
    assert np.allclose(boot.total(x).draws, (weight * x).sum(1))


def test_one_way_of_units_is_the_cluster_bootstrap() -> None:
    x = luck(0, 0.5, 0.2)
    one, other = Bootstrap(PAIRS, seed=1), Bootstrap(UNITS[:, 0], PAIRS[:, None], seed=1)
    assert np.array_equal(mean(one, x).draws, mean(other, x).draws)


def test_units_are_counted_in_the_way_that_has_fewest() -> None:
    boot = Bootstrap(PAIRS, UNITS, n_resamples=10)
    assert boot.n_units() == NAMES and Bootstrap(PAIRS, n_resamples=1).n_units() == len(set(PAIRS))
    few = UNITS[:, 0] < 3
    assert boot.n_units(few) == 3
    assert mean(boot, np.ones(len(UNITS))).interval() == wilson(NAMES, NAMES)
    part = boot.mean(np.zeros(len(UNITS)), few)
    assert isinstance(part, Estimate) and part.interval() == wilson(0, 3)
    assert part.units == 3 and (mean(boot, UNITS[:, 1] * 1.0) - part).units == 3


def test_an_edits_weight_is_also_that_of_what_its_source_brings() -> None:
    """A name that is put in counts as often as it is drawn, as one that is taken out does."""
    boot = Bootstrap(PAIRS, UNITS, n_resamples=40, seed=3)
    source = UNITS.copy()
    source[:, 0] = (UNITS[:, 0] + 1 + np.arange(len(UNITS)) % 7) % NAMES
    rng = np.random.default_rng(3)
    io, s = (rng.multinomial(NAMES, np.full(NAMES, 1 / NAMES), size=40) for _ in range(2))
    # the source has the same S: it counts once
    weight = io[:, UNITS[:, 0]] * s[:, UNITS[:, 1]] * io[:, source[:, 0]]
    x, edits = luck(0, 0.5, 0.2), boot.with_sources(source)
    assert np.allclose(mean(edits, x).draws, (weight * x).sum(1) / weight.sum(1))
    assert float(mean(edits, x)) == float(mean(boot, x))
    assert boot.with_sources(UNITS) is boot
    # what was added up before is no sum of those
    assert np.allclose(boot.with_sources(source).total(x).draws, (weight * x).sum(1))


# ---- coverage (docs/methods.md §2) ----------------------------------------------------------------------


def covers(seed: int, name: float, pair: float, units: np.ndarray | None) -> bool:
    low, high = mean(Bootstrap(PAIRS, units, seed=seed), luck(seed, name, pair)).interval()
    return low <= 0 <= high


def test_the_two_way_interval_covers_and_clusters_of_pairs_do_not_quick() -> None:
    two = np.mean([covers(seed, 0.4, 0.2, UNITS) for seed in range(80)])
    pairs = np.mean([covers(seed, 0.4, 0.2, None) for seed in range(80)])
    assert pairs < 0.8 < 0.9 <= two


def edited(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What edits of the IO name do: a name is as hard to take out as to put in. Weighted units, and values."""
    rng = np.random.default_rng(seed)
    source = UNITS.copy()
    source[:, 0] = (UNITS[:, 0] + rng.integers(1, NAMES, len(UNITS))) % NAMES
    hard, other = rng.normal(0, 1, NAMES), rng.normal(0, 0.3, NAMES)
    noise = rng.normal(size=len(UNITS))
    return source, UNITS, hard[UNITS[:, 0]] + hard[source[:, 0]] + other[UNITS[:, 1]] + noise


def test_intervals_of_edits_cover_only_if_sources_are_resampled_too() -> None:
    inside = []
    for seed in range(80):
        source, units, values = edited(seed)
        boot = Bootstrap(PAIRS, units, n_resamples=300, seed=seed)
        for one in (boot, boot.with_sources(source)):
            low, high = mean(one, values).interval()
            inside.append(low <= 0 <= high)
    without, with_sources = np.mean(inside[::2]), np.mean(inside[1::2])
    assert without < 0.8 < 0.9 <= with_sources


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "pair", "least", "most"),
    [(1.0, 0.2, 0.92, 0.985), (0.4, 0.2, 0.93, 0.995), (0.2, 0.2, 0.94, 1.0), (0.0, 0.0, 0.985, 1.0)],
)
def test_the_two_way_interval_covers(name: float, pair: float, least: float, most: float) -> None:
    """Nominal where names matter, too wide (√3 at most) where nothing recurs; never too narrow."""
    share = np.mean([covers(seed, name, pair, UNITS) for seed in range(1000)])
    print(f"coverage, names {name}, pairs {pair}, prompts 1: {share:.1%}")
    assert least <= share <= most


def test_where_nothing_recurs_the_standard_error_is_root_three_too_large() -> None:
    """What the pigeonhole bootstrap is known to do [Owen 2007, theorem 3]; stated, not hidden."""
    x = np.random.default_rng(0).normal(size=len(UNITS))
    two, none = Bootstrap(PAIRS, UNITS), Bootstrap(np.arange(len(UNITS)))
    ratio = mean(two, x).standard_error / mean(none, x).standard_error
    assert ratio == pytest.approx(np.sqrt(3), rel=0.12)


# ---- values as units -----------------------------------------------------------------------------


def table(hits: np.ndarray, template: np.ndarray | None = None) -> Outcomes:
    """A detector for every IO name; `hits [n, names]` says where it fires."""
    names = tuple(f"n{v}" for v in range(NAMES))
    out = Outcomes({"test": PAIRS}, {"io": AttributeFacts(names)}, units={"test": UNITS})
    out.template = {} if template is None else {"test": template}
    positive = UNITS[:, :1] == np.arange(NAMES)
    what = np.where(positive, np.where(hits, TRUE_POSITIVE, FALSE_NEGATIVE), FALSE_POSITIVE * hits)
    for v, name in enumerate(names):
        out.add(Key("interpretability", "hit", "io", k=0, label=f"{name}|0"), what[:, v])
    out.add(Key("task", "asks", "io"), np.ones(len(UNITS)))
    return out


def fires(seed: int, recall: np.ndarray, alarms: float = 0.01) -> np.ndarray:
    positive = UNITS[:, :1] == np.arange(NAMES)
    return np.random.default_rng(seed).random(positive.shape) < np.where(positive, recall, alarms)


def test_a_value_that_is_not_drawn_does_not_count_as_one_that_was_missed() -> None:
    found = detect(Context.of(table(fires(0, np.full(NAMES, 1.0), 0.0))), "interpretability", "io")
    assert found is not None
    # perfect detectors are perfect in every resample, although a third of the names is absent from each
    assert (found.drawn == 0).mean() > 0.3
    assert np.allclose(found.mean(found.f1_star).draws, 1)
    assert found.coverage(0.5).interval() == pytest.approx((1.0, 1.0))
    assert found.thin == 0


def test_the_mean_over_values_covers_what_other_names_would_give() -> None:
    """Names differ in how well they are detected: recall is drawn anew with the names."""
    means, errors = [], []
    for seed in range(60):
        recall = np.random.default_rng(1000 + seed).uniform(0.2, 1.0, NAMES)
        found = detect(Context.of(table(fires(seed, recall))), "interpretability", "io")
        assert found is not None
        star = found.mean(found.f1_star)
        means.append(float(star))
        errors.append(star.standard_error)
    # never too narrow, and at most √3 too wide: what is each prompt's own counts three times
    assert 0.9 <= np.mean(errors) / np.std(means, ddof=1) <= 1.75


# ---- phrasings -----------------------------------------------------------------------------------


def context(values: np.ndarray, template: np.ndarray) -> tuple[Context, Headline]:
    out = table(np.zeros((len(UNITS), NAMES), dtype=bool), template)
    out.add(Key("control", "x"), values)
    ctx = Context.of(out)
    return ctx, headline(ctx)


def headline(ctx: Context) -> Headline:
    value = ctx.mean(Key("control", "x"))
    return Headline(value, constant_like(value, 0.0), constant_like(value, 1.0), ctx.test.n)


def test_each_phrasing_is_scored_on_its_own_prompts() -> None:
    template = np.arange(len(UNITS)) % 3 + 7
    values = np.random.default_rng(0).random(len(UNITS))
    ctx, whole = context(values, template)
    parts = apart(ctx)
    assert parts is not None
    found = headline(parts).value
    assert isinstance(found, Estimate)
    assert found.draws == pytest.approx([values[template == t].mean() for t in (7, 8, 9)], rel=1e-5)
    noted, (entry,) = note_spread({"control": whole}, {"control": headline(parts)})
    assert entry.name == "template_spread" and noted["control"].note is None
    assert write_entry(entry).value == pytest.approx(found.draws.std(ddof=1))


def test_a_headline_that_depends_on_the_phrasing_says_so() -> None:
    template = np.arange(len(UNITS)) % 3
    values = np.clip(0.5 + 0.2 * (template == 1) + 0.05 * luck(1, 0.0, 0.0), 0, 1)
    ctx, whole = context(values, template)
    parts = apart(ctx)
    assert parts is not None
    noted, (entry,) = note_spread({"control": whole}, {"control": headline(parts)})
    assert "depends on the phrasing: 0.498 to 0.702 over 3" in (noted["control"].note or "")
    assert entry.note == noted["control"].note
    assert apart(context(values, np.zeros(len(UNITS), dtype=int))[0]) is None


# ---- what is stored, latents, normalisation, ranges, ranks ---------------------------------------


def test_units_and_phrasings_are_stored_and_tables_without_them_still_load(tmp_path) -> None:
    out = table(fires(0, np.full(NAMES, 0.7)), np.arange(len(UNITS)) % 4)
    out.templates = ("a", "b", "c", "d")
    for name, kept in (("new", out), ("old", Outcomes(out.cluster, out.attributes, out.columns))):
        (tmp_path / name).write_bytes(table_bytes(kept, "id"))
        again = read_table(tmp_path / name)
        assert set(again.columns) == set(kept.columns)
        assert set(again.units) == set(kept.units) and set(again.template) == set(kept.template)
        assert again.templates == kept.templates
    again = read_table(tmp_path / "new")
    assert np.array_equal(again.units["test"], UNITS)
    assert np.array_equal(again.template["test"], out.template["test"])
    a, b = (Context.of(x).test.total(np.arange(len(UNITS))) for x in (out, again))
    assert np.array_equal(a.draws, b.draws)


def latents(seed: int) -> Outcomes:
    column = np.random.default_rng(seed).random(400) < 0.15
    out = Outcomes({"test": PAIRS, ACTIVE: np.arange(400)})
    out.add(Key("interpretability", "explained", split=ACTIVE), column)
    return out


def explained(seed: int) -> Estimate:
    return Context.of(latents(seed)).mean(Key("interpretability", "explained", split=ACTIVE))


def test_latents_are_resampled_for_each_dictionary_on_its_own() -> None:
    one, two = explained(0), explained(1)
    assert abs(np.corrcoef(one.draws, two.draws)[0, 1]) < 0.1
    assert not np.array_equal(np.sort(one.draws), one.draws)
    expected = np.hypot(one.standard_error, two.standard_error)
    assert (one - two).standard_error == pytest.approx(expected, rel=0.1)
    assert (explained(0) - one).standard_error == 0
    own = (Context.of(latents(s)).bootstraps[ACTIVE].counts for s in (0, 1))
    assert not np.array_equal(*own)
    # prompts are shared: that is what pairs two dictionaries
    same = (Context.of(latents(s)).test.counts for s in (0, 1))
    assert np.array_equal(*same)


def test_a_ceiling_on_the_worse_side_of_the_floor_is_none() -> None:
    value = mean(Bootstrap(PAIRS, UNITS), np.ones(len(UNITS)))
    at = {x: constant_like(value, x) for x in (0.0, 0.0036, 0.0046, 1.0)}
    worse = Undefined("the ceiling is worse than the floor")
    # a KL of 0 between a floor of .0036 and a "ceiling" of .0046 was shown as -3.6
    assert normalized(at[0.0], at[0.0036], at[0.0046], "lower") == worse
    assert normalized(at[0.0], at[1.0], at[0.0036]) == worse
    good = normalized(at[0.0036], at[0.0046], at[0.0], "lower")
    assert isinstance(good, Estimate) and float(good) == pytest.approx(0.0010 / 0.0046)
    entry = Entry("control", "edit_kl", at[0.0], 1, floor=at[0.0036], ceiling=at[0.0046], direction="lower")
    assert write_entry(entry).normalized is None and write_entry(entry).reason == worse.reason


def test_an_interval_ends_where_the_score_does() -> None:
    draws = np.random.default_rng(0).normal(0.98, 0.05, 2000)
    value = Estimate(np.array(0.98), draws).chosen()
    assert value.interval()[1] > 1
    cut = value.chosen(bounds=(0.0, 1.0))
    assert cut.interval() == (value.interval()[0], 1.0)
    zero, half = constant_like(value, 0.0), constant_like(value, 0.5)
    assert normalized_interval(cut, zero, half)[1] == 2.0
    assert write_headline(Headline(cut, zero, half, 9)).ci == pytest.approx((2 * cut.interval()[0], 2.0))
    # a value out of its range is another mistake, and stays visible
    beyond = replace(cut, value=np.array(1.2))
    assert beyond.interval()[1] == 1.2


def test_ranks_come_from_paired_draws_around_the_estimates() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.1, 2000)
    values = np.array([0.50, 0.48, 0.30])
    draws = np.stack([v + shared + rng.normal(0, 0.004, 2000) for v in values], 1)
    assert rank_interval(draws, values).tolist() == [[1, 1], [2, 2], [3, 3]]
    # thresholds shift a column's draws against its estimate; ranks do not follow
    assert rank_interval(draws - [0.1, 0, 0], values).tolist() == [[1, 1], [2, 2], [3, 3]]
    assert rank_interval(draws - [0.1, 0, 0]).tolist()[0] == [2, 2]


def test_a_rank_range_holds_the_true_rank() -> None:
    """Two equal dictionaries and a better one, 200 data sets: the range covers in 95 % of them."""
    inside = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        shared = rng.normal(0, 1, 300)
        data = np.stack([m + shared + rng.normal(0, 1, 300) for m in (0.6, 0.3, 0.0)], 1)
        boot = Bootstrap(np.arange(300), n_resamples=300, seed=0)
        draws = boot.total(data).draws / 300
        low, high = rank_interval(draws, data.mean(0))[1]
        inside.append(low <= 2 <= high)
    assert np.mean(inside) >= scipy_stats.binom.ppf(0.001, 200, 0.95) / 200
