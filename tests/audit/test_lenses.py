"""Each lens on tiny tables: it passes what is right and fails what is wrong."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from lens_rows import AXES, BOARD, measured, row, verdict

from saebench.audit.cards import Question, Verdict
from saebench.audit.correlations import Correlations
from saebench.audit.evidence import EXPLAINED, PLANTED, PLANTED_RECOVERY, RECOVERY, Evidence
from saebench.audit.lenses import (
    convergence,
    gaming,
    order,
    peers,
    repeatability,
    separation,
    specificity,
    truth,
)
from saebench.audit.rows import Rows, difference

ASK = Question("lens", BOARD, "control", "check")


def test_a_difference_is_paired_and_stands_around_the_estimate():
    found = difference(row("a", 0.5, seed=1), row("b", 0.4, seed=2))
    assert found is not None
    assert found.value == pytest.approx(0.1)
    assert (found.low + found.high) / 2 == pytest.approx(0.1)
    # 1.96 · 0.005 · √2; the shared noise of 0.05 has cancelled
    assert found.high - found.value == pytest.approx(0.0139, rel=0.15)
    assert difference(row("a", None), row("b", 0.4)) is None
    with pytest.raises(ValueError, match="same prompts"):
        difference(row("a", 0.5), row("b", 0.4, task_seed=1))


def test_order_wants_every_sae_above_its_own_null():
    saes = (row("a", 0.5), row("b", 0.4))
    good = Rows((*saes, row("n", 0.1, "null", of="a", seed=3), row("m", 0.2, "null", of="b", seed=4)))
    assert verdict(order.above_null(good, ASK)) == "pass"
    level = Rows((*saes, row("n", 0.1, "null", of="a", seed=3), row("m", 0.4, "null", of="b", seed=4)))
    assert verdict(order.above_null(level, ASK)) == "provisional"
    bad = Rows((*saes, row("n", 0.1, "null", of="a", seed=3), row("m", 0.45, "null", of="b", seed=4)))
    card = order.above_null(bad, ASK)
    assert (verdict(card), card.measured) == ("fail", pytest.approx(-0.05))
    assert "1 of 2" in card.reason


def test_order_of_zeros_fails():
    rows = Rows((row("a", 0.0, noise=0), row("n", 0.0, "null", noise=0, of="a")))
    assert verdict(order.above_null(rows, ASK)) == "fail"


def test_order_knows_the_ceiling():
    assert verdict(order.ceiling(Rows((row("a", 0.5),)), ASK)) == "pass"
    assert verdict(order.ceiling(Rows((row("a", 1.2),)), ASK)) == "fail"
    assert verdict(order.ceiling(Rows((row("a", 1.0),)), ASK)) == "provisional"
    missing = order.ceiling(Rows((row("a", None),)), ASK)
    assert (verdict(missing), missing.reason) == ("not applicable", "undefined here: nothing there")


def snapshots(*values: float) -> Rows:
    return Rows(
        tuple(row(f"s{i}", v, "snapshot", of="run", step=i, seed=10 + i) for i, v in enumerate(values))
    )


def test_order_follows_training():
    rising, falling = snapshots(0.1, 0.3, 0.5), snapshots(0.1, 0.5, 0.3)
    assert verdict(order.no_fall(rising, ASK)) == "pass"
    assert verdict(order.rise(rising, ASK)) == "pass"
    assert verdict(order.no_fall(falling, ASK)) == "fail"
    assert verdict(order.rise(falling, ASK)) == "pass"
    assert verdict(order.rise(snapshots(0.3, 0.5, 0.1), ASK)) == "fail"
    # level within noise is no fall
    assert verdict(order.no_fall(snapshots(0.3, 0.2999), ASK)) == "pass"


def test_order_wants_the_undertrained_twin_below():
    def rows(low: float) -> Rows:
        return Rows(
            tuple(
                r
                for axis in ("a", "b", "c")
                for r in (
                    row("topk", 0.5, axis=axis),
                    row("topk-undertrained", low, "undertrained", seed=2, axis=axis),
                )
            )
        )

    assert verdict(order.twins(rows(0.3), ASK, ("a", "b", "c"))) == "pass"
    assert verdict(order.twins(rows(0.5), ASK, ("a", "b", "c"))) == "fail"


def test_random_directions_are_stated_with_their_count():
    rows = Rows((row("a", 0.5), row("b", 0.2, seed=2), row("control:random:8", 0.4, "reference", seed=3)))
    card = order.random_directions(rows, ASK)
    assert verdict(card) == "stated" and card.measured == pytest.approx(-0.2)
    assert "of 2 SAEs 1 are credibly below it" in card.reason


@pytest.mark.parametrize(("after", "expected"), [(0.1, "pass"), (0.5, "provisional"), (0.6, "fail")])
def test_specificity_wants_a_permuted_decoder_to_fall(after: float, expected: str):
    rows = Rows((row("a", 0.5), row("p", after, "permuted-decoder", of="a", seed=2)))
    assert verdict(specificity.falls(rows, "permuted-decoder", ASK)) == expected


def test_specificity_has_nothing_to_say_where_nothing_can_fall():
    rows = Rows((row("a", 0.05), row("p", 0.05, "permuted-decoder", of="a")))
    assert verdict(specificity.falls(rows, "permuted-decoder", ASK)) == "not applicable"


@pytest.mark.parametrize(
    ("after", "expected"), [(0.5, "pass"), (0.505, "pass"), (0.47, "fail"), (0.53, "fail")]
)
def test_specificity_wants_dead_latents_to_move_nothing(after: float, expected: str):
    rows = Rows((row("a", 0.5), row("d", after, "dead-latents", of="a", seed=2)))
    assert verdict(specificity.stays(rows, "dead-latents", ASK)) == expected


def test_specificity_wants_silence_where_nothing_has_an_effect():
    undefined = Rows((row("a", None, "null-task"),))
    assert verdict(specificity.silent(undefined, ASK)) == "pass"
    assert verdict(specificity.silent(Rows((row("a", 0.3, "null-task"),)), ASK)) == "fail"


def repeated(spread: float, noise: float, width: float = 0.1) -> Rows:
    """Eight SAEs `spread` apart at five task seeds, between which one SAE's SD is `noise`."""
    rows = []
    for i in range(8):
        for seed in range(5):
            value = 0.3 + spread * i + noise * ((seed + 2 * i) % 5 - 2) / 2.5**0.5
            rows.append(row(f"s{i}", value, task_seed=seed)._replace(low=value - width, high=value + width))
    return Rows(tuple(rows))


def test_separation_is_spread_over_noise():
    apart = separation.spread(repeated(0.1, 0.01), ASK)
    assert verdict(apart) == "pass"
    # SD of 0, .1 … .7 is .245
    assert apart.measured == pytest.approx(24.5, rel=0.01)
    assert verdict(separation.spread(repeated(0.001, 0.05), ASK)) == "fail"


def test_separation_sees_a_score_that_is_the_same_for_all():
    rows = Rows(tuple(row(f"s{i}", 0.0, noise=0)._replace(low=0.0, high=0.0) for i in range(4)))
    assert verdict(separation.away(rows, ASK)) == "fail"
    assert verdict(separation.away(Rows((row("a", 0.5),)), ASK)) == "pass"


def test_separation_asks_whether_quick_decides_as_full_does():
    full = [row(f"s{i}", 0.1 * i, seed=i, budget="full") for i in range(5)]
    agree = [row(f"s{i}", 0.1 * i, seed=i) for i in range(5)]
    assert separation.decisions(Rows((*full, *agree)), ASK).measured == 1.0
    turned = [row(f"s{i}", -0.1 * i, seed=i) for i in range(5)]
    assert verdict(separation.decisions(Rows((*full, *turned)), ASK)) == "fail"


def test_repeatability_is_the_difference_that_other_prompts_confirm():
    rows = repeated(0.1, 0.01)
    card = repeatability.tolerance(rows, 0.1, ASK)
    # 1.96 · √2 · 0.01
    assert verdict(card) == "pass" and card.measured == pytest.approx(0.0277, rel=0.1)
    assert verdict(repeatability.tolerance(rows, 0.005, ASK)) == "fail"


def test_repeatability_of_what_all_share_is_perfect():
    shift = {seed: 0.2 * seed for seed in range(3)}
    rows = Rows(tuple(row(f"s{i}", i + shift[s], task_seed=s) for i in range(3) for s in range(3)))
    assert repeatability.tolerance(rows, 0.1, ASK).measured == pytest.approx(0, abs=1e-9)


def test_repeatability_sees_intervals_that_are_too_narrow():
    assert verdict(repeatability.coverage(repeated(0.1, 0.01, width=0.0196), ASK)) in ("pass", "provisional")
    assert verdict(repeatability.coverage(repeated(0.1, 0.01, width=0.004), ASK)) == "fail"


def family(name: str, n: int = 72, noise: float = 0.1, seed: int = 0) -> pd.DataFrame:
    """SAEs of three bands: `control` follows recovery, explained variance follows L0 alone."""
    rng = np.random.default_rng(seed)
    at = np.arange(n)
    recovery, band = rng.random(n), at % 3 - 1.0
    return pd.DataFrame(
        {
            "family": name,
            "architecture": np.array(["topk", "gated", "standard"])[at // 3 % 3],
            "share": 2.0**band,
            "seed": at // 9,
            "step": 100,
            "band": band,
            "control": recovery + 2 * band + noise * rng.normal(size=n),
            "interpretability": rng.random(n),
            RECOVERY[0]: recovery,
            RECOVERY[1]: recovery + 0.01 * rng.normal(size=n),
            EXPLAINED: 2 * band + rng.random(n),
            "v1_control": rng.random(n),
            "tpp": recovery,
        }
    )


@pytest.fixture(scope="module")
def known() -> Evidence:
    frames = [family(f"f{i}", seed=i) for i in range(3)]
    return Evidence(Rows(()), pd.concat(frames, ignore_index=True), axes=AXES)


def test_truth_ranks_inside_bands(known: Evidence):
    cards = {(c.board.split()[0], c.axis, c.check): c for c in truth.cards(known)}
    good, bad = (cards["synthetic/f0", axis, "recovery"] for axis in AXES)
    assert verdict(good) == "pass" and measured(good) > 0.9
    assert verdict(bad) == "fail" and abs(measured(bad)) < 0.4
    assert verdict(cards["synthetic/f0", "control", "above explained variance"]) == "pass"
    assert measured(cards["synthetic/f0", "control", "against version 1"], "low") > 0
    # across bands L0 alone would have ranked them
    frame = known.family("f0")
    assert abs(np.corrcoef(frame[EXPLAINED], frame["control"])[0, 1]) > 0.8


def test_truth_takes_the_weaker_recovery():
    frame = family("f0").assign(**{RECOVERY[1]: np.random.default_rng(9).random(72)})
    cards = [c for c in truth.cards(Evidence(Rows(()), frame, axes=AXES)) if c.axis == "control"]
    assert verdict(cards[0]) == "fail"


def test_a_score_that_is_the_same_for_all_ranks_nothing():
    frame = family("f0").assign(control=0.0)
    found = Correlations(frame, ["control"])
    assert found.interval("control") == (0.0, 0.0, 0.0)


def test_truth_of_an_undefined_score_is_not_applicable():
    frame = family("f0").assign(control=np.nan)
    cards = [
        c
        for c in truth.cards(Evidence(Rows(()), frame, axes=AXES))
        if (c.axis, c.check) == ("control", "recovery")
    ]
    assert [verdict(c) for c in cards] == ["not applicable"]


def test_an_axis_that_is_lost_in_most_families_orders_no_board(known: Evidence):
    cards = {(c.board.split()[0], c.axis, c.check): c for c in truth.cards(known)}
    kept, lost = (cards["all", axis, "follows recovery"] for axis in AXES)
    assert (verdict(kept), kept.measured) == ("pass", 0) and (verdict(lost), lost.measured) == ("fail", 1)
    assert lost.rows == tuple(f"synthetic/f{i} · synthetic · synthetic@sample" for i in range(3))
    # so that `overall` is the other axis alone, and above the mean of both
    overall = cards["synthetic/f0", "overall", "recovery"]
    assert overall.measured == cards["synthetic/f0", "control", "recovery"].measured
    assert measured(cards["synthetic/f0", "overall", "against the mean of all axes"], "low") > 0
    two = Evidence(Rows(()), known.truth.loc[known.truth["family"] != "f2"], axes=AXES)
    few = [c for c in truth.cards(two) if c.check == "follows recovery"]
    assert {verdict(c) for c in few} == {"not applicable"}


def test_what_is_held_out_is_judged_and_decides_nothing(known: Evidence):
    """Where nothing was chosen the two axes change places; what orders boards stays what it was."""
    names = {"control": "interpretability", "interpretability": "control"}
    other = known.truth.rename(columns=names).assign(seed=known.truth["seed"] + 100)
    both = pd.concat([known.truth, other], ignore_index=True)
    seeds = sorted(set(known.truth["seed"]))
    found = truth.cards(Evidence(Rows(()), both, axes=AXES, about={"chosen_on_seeds": seeds}))
    cards = {(c.board.split()[0], c.axis, c.check): c for c in found}
    assert verdict(cards["synthetic/f0", "control", "recovery"]) == "pass"
    assert verdict(cards["synthetic/f0", "control", "recovery, held out"]) == "fail"
    assert verdict(cards["all", "control", "follows recovery, held out"]) == "fail"
    assert verdict(cards["synthetic/f0", "overall", "recovery"]) == "pass"
    assert verdict(cards["synthetic/f0", "overall", "recovery, held out"]) == "fail"


def test_two_measures_that_disagree_are_said_to_bound_every_score():
    frame = family("f0").assign(**{RECOVERY[1]: np.random.default_rng(9).random(72)})
    (card,) = [c for c in truth.cards(Evidence(Rows(()), frame, axes=AXES)) if c.axis == "recovery"]
    assert verdict(card) == "stated" and abs(measured(card)) < 0.3
    assert f"above {((1 + measured(card)) / 2) ** 0.5:.2f}" in card.reason


def test_truth_of_planted_models_ranks_inside_every_model():
    names = dict(zip(RECOVERY, PLANTED_RECOVERY, strict=True))
    frames = [
        family("", seed=i)
        .rename(columns=names)
        .assign(model=f"m{i}", control=lambda f: f["control"] - 2 * f["band"])
        for i in range(2)
    ]
    # models apart by more than their SAEs: over both together the score would say nothing
    frames[1]["control"] += 100
    frames[1][list(PLANTED_RECOVERY)] -= 100
    found = truth.cards(
        Evidence(Rows(()), pd.DataFrame({"family": []}), axes=AXES, planted=pd.concat(frames))
    )
    cards = {(c.axis, c.check): c for c in found}
    assert {c.board for c in cards.values()} == {PLANTED}
    assert verdict(cards["control", "recovery"]) == "pass"
    assert verdict(cards["interpretability", "recovery"]) == "fail"
    assert "subspace overlap" in cards["overall", "recovery"].reason


def test_peers_stand_beside(known: Evidence):
    cards = {(c.board.split()[0], c.axis): c for c in peers.cards(known)}
    assert cards["synthetic/f1", "tpp"].measured == pytest.approx(1, abs=0.02)
    assert verdict(cards["synthetic/f1", "scr"]) == "not applicable"


def test_convergence_tells_traits_from_methods():
    recipes = np.random.default_rng(0).random((12, 2))
    frames = []
    for i in range(3):
        at = np.repeat(np.arange(12), 2)
        frames.append(
            pd.DataFrame(
                {"family": f"f{i}", "architecture": at.astype(str), "share": 1.0, "step": 1}
                | {axis: recipes[at, k] for k, axis in enumerate(AXES)}
            )
        )
    same = Evidence(Rows(()), pd.concat(frames), axes=AXES)
    assert all(measured(c) > 0.5 and measured(c, "low") > 0 for c in convergence.cards(same))
    # every family ranks recipes anew, and its axes alike: method, not trait
    mixed = [
        f.assign(**dict.fromkeys(AXES, np.random.default_rng(i).permutation(24) / 24))
        for i, f in enumerate(frames)
    ]
    assert all(measured(c) < -0.5 for c in convergence.cards(Evidence(Rows(()), pd.concat(mixed), axes=AXES)))


def board(lead: float, second: float) -> Evidence:
    rows = []
    for axis, gain in zip(AXES, (lead, second), strict=True):
        rows += [
            row("a", 0.5, axis=axis),
            row("b", 0.4, axis=axis, seed=2),
            row("c", 0.5 + gain, "cheat", axis=axis, seed=3),
        ]
    return Evidence(Rows(tuple(rows)), pd.DataFrame({"family": []}), axes=AXES)


@pytest.mark.parametrize(
    ("lead", "second", "expected"),
    [(0.1, -0.1, "pass"), (0.1, 0.1, "fail"), (0.1, 0.001, "provisional"), (-0.1, -0.1, "pass")],
)
def test_gaming_is_being_ahead_of_all_saes_on_two_axes(lead: float, second: float, expected: str):
    cards = {c.axis: c for c in gaming.cards(board(lead, second))}
    assert verdict(cards["all"]) == expected
    assert verdict(cards["control"]) == (expected if lead > 0 else "pass")
    assert verdict(cards["interpretability"]) == (expected if second > 0 else "pass")


@pytest.mark.parametrize(("lead", "second", "expected"), [(0.3, -0.1, "fail"), (0.1, -0.3, "pass")])
def test_gaming_may_not_top_the_ordering(lead: float, second: float, expected: str):
    (card,) = gaming.ordering(board(lead, second), lambda _: AXES)
    assert verdict(card) == expected and card.measured == pytest.approx((lead + second) / 2, abs=1e-6)
    (none,) = gaming.ordering(board(lead, second), lambda _: ())
    assert none.verdict == Verdict.NOT_APPLICABLE


def test_gaming_says_nothing_where_a_cheat_was_not_measured():
    """Control of cheats was not measured on RAVEL, and their means counted it as 0."""
    known = board(0.3, 0.3)
    gone = Rows(tuple(r for r in known.rows if (r.group, r.axis) != ("cheat", "control")))
    lacking = replace(known, rows=gone)
    (card,) = gaming.ordering(lacking, lambda _: AXES)
    assert verdict(card) == "not applicable" and "control was not measured" in card.reason
    # one lead and an axis unknown: no reason to pass it
    cards = {c.axis: c for c in gaming.cards(lacking)}
    assert verdict(cards["all"]) == "provisional" and cards["all"].reason.endswith("not measured: control")
    assert verdict(cards["control"]) == "not applicable"
    # undefined is measured, and earns nothing
    zero = row("c", None, "cheat", axis="control")
    (card,) = gaming.ordering(replace(known, rows=Rows((*gone.rows, zero))), lambda _: AXES)
    assert verdict(card) == "pass" and card.measured == pytest.approx(0.8 / 2 - 0.5, abs=1e-6)
