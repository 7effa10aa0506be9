"""Occlusion scores from outcomes (METHODS §5) [PE §6, A.14; ours]."""

from itertools import combinations
from typing import NamedTuple

import numpy as np

from saebench.records.outcomes import Key
from saebench.scoring.base import Context, Entry, Headline
from saebench.scoring.causal import effects
from saebench.scoring.control import average
from saebench.scoring.detection import detect, key_fact, null, scalar
from saebench.scoring.estimates import Estimate, Maybe, Undefined, ratio

AXIS = "occlusion"
THRESHOLD = 0.5
TAUS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the strong attribute's atom that the surgical check takes away."""
FEWER_THAN_TWO = "fewer than two attributes have a causal effect at this site"


class Pair(NamedTuple):
    """Two causally relevant attributes; `strong` has the larger mean ‖u‖ on `fit`."""

    strong: str
    weak: str
    norm_ratio: float
    nested: bool


def pairs(ctx: Context) -> list[Pair]:
    causal = [name for name, effect in effects(ctx).items() if effect.causal]
    found = []
    for one, two in combinations(causal, 2):
        norms = {a: ctx.outcomes.facts[Key("task", "norm", a)] for a in (one, two)}
        strong, weak = sorted((one, two), key=lambda a: -norms[a])
        nested = any(ctx.outcomes.attributes[a].parent == b for a, b in ((one, two), (two, one)))
        found.append(Pair(strong, weak, norms[strong] / max(norms[weak], 1e-30), nested))
    return found


def score(ctx: Context) -> tuple[Headline, list[Entry]]:
    n, entries, retained = ctx.test.n, [], []
    for pair in pairs(ctx):
        retention, difference = _retention(ctx, pair)
        name = f"{pair.weak}<{pair.strong}"
        note = f"norm ratio {pair.norm_ratio:.2f}" + ("; nested attributes" if pair.nested else "")
        entries.append(Entry(AXIS, "retention", retention, n, name, note=note))
        entries.append(Entry(AXIS, "coverage_difference", difference, n, name, note=note))
        ratio_entry = Entry(
            AXIS,
            "norm_ratio",
            scalar(pair.norm_ratio, _some(ctx)),
            n,
            name,
            direction="none",
            exact="a ratio of atom norms on fit, not a sample",
        )
        entries += [ratio_entry, *_surgical(ctx, pair)]
        retained.append(retention)
    for name in ctx.outcomes.attributes:
        value = key_fact(ctx, AXIS, "attribute_reconstruction", name)
        if value is not None:
            entries.append(
                Entry(
                    AXIS,
                    "attribute_reconstruction",
                    scalar(value, _some(ctx)),
                    n,
                    name,
                    exact="from class means over all test prompts; not resampled",
                )
            )
    return _headline(ctx, retained), entries


def _some(ctx: Context) -> Estimate:
    return ctx.mean(Key("task", "ld", edit="clean"))


def _coverage(ctx: Context, name: str) -> Estimate | None:
    found = detect(ctx, "interpretability", name)
    return None if found is None else found.coverage(THRESHOLD)


def _retention(ctx: Context, pair: Pair) -> tuple[Maybe, Maybe]:
    """`R_weak / R_strong` and `R_weak − R_strong`, R = coverage@0.5; 1 and 0 are best."""
    weak, strong = _coverage(ctx, pair.weak), _coverage(ctx, pair.strong)
    if weak is None or strong is None:
        rare = Undefined("too few positives of every value")
        return rare, rare
    # the permuted null's coverage is 0 unless its mean F1* comes near the threshold
    floor = max(0.0, null(ctx, pair.strong))
    if not (strong - floor).excludes_zero or float(strong) <= floor:
        reason = f"nothing of {pair.strong} was recovered: there is nothing to be hidden behind"
        return Undefined(reason), weak - strong
    retention = ratio(weak, strong, "coverage of the strong attribute may be 0")
    return retention, weak - strong


def _surgical(ctx: Context, pair: Pair) -> list[Entry]:
    """`R_weak` with τ of the strong attribute's atom taken away; `k` is 100 τ."""
    entries = []
    for place, tau in enumerate(TAUS):
        found = (
            detect(ctx, "interpretability", pair.weak)
            if place == 0
            else detect(ctx, AXIS, pair.weak, f"minus:{pair.strong}", place)
        )
        if found is not None:
            cover = found.coverage(THRESHOLD)
            entries.append(
                Entry(
                    AXIS,
                    "weak_coverage",
                    cover,
                    ctx.test.n,
                    pair.weak,
                    f"minus:{pair.strong}",
                    round(100 * tau),
                )
            )
    return entries if len(entries) == len(TAUS) else []


def _headline(ctx: Context, retained: list[Maybe]) -> Headline:
    """Mean over pairs of `min(1, retention)`."""
    if not retained:
        undefined = Undefined(FEWER_THAN_TWO)
        return Headline(undefined, undefined, undefined, ctx.test.n)
    undefined = next((r for r in retained if isinstance(r, Undefined)), None)
    defined = [r for r in retained if isinstance(r, Estimate)]
    if undefined is not None and not defined:
        return Headline(undefined, undefined, undefined, ctx.test.n)
    value = average([r.map(lambda x: np.minimum(x, 1.0)) for r in defined])
    note = None
    if undefined is not None:
        note = f"{len(defined)} of {len(retained)} pairs; {undefined.reason}"
    return Headline(value, scalar(0.0, value), scalar(1.0, value), ctx.test.n, note)
