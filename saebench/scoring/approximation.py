"""Approximation scores from outcomes (docs/methods.md §4) [PE §4.1, A.11]."""

import numpy as np

from saebench.records.outcomes import Key
from saebench.scoring.base import Context, Entry, Headline
from saebench.scoring.causal import spread
from saebench.scoring.estimates import Estimate, Maybe, Undefined, constant_like, ratio

AXIS = "approximation"
IRRELEVANT = "mean ablation does not credibly change LD: the site does not matter for this task"


def recovered(ctx: Context, key: Key) -> Maybe:
    """`(LD(edit) − LD(ā)) / (LD(a) − LD(ā))`, means first, signed; 1 is the clean run's, 0 is ā's."""
    mean = ctx.mean(Key("task", "ld", edit="mean"))
    return ratio(ctx.mean(key) - mean, spread(ctx), IRRELEVANT)


def folded(sufficiency: Maybe, rest: Maybe) -> Maybe:
    """`½ ((1 − |1 − sufficiency|) + necessity)`, with `necessity = 1 − |rest|`.

    The value is folded; the draws keep the signs of the estimate, because a folded ratio near its
    maximum cannot be covered by its own percentiles.
    """
    if isinstance(sufficiency, Undefined):
        return sufficiency
    if isinstance(rest, Undefined):
        return rest
    miss = 1 - sufficiency
    signs = [1.0 if float(part) >= 0 else -1.0 for part in (miss, rest)]
    return 1 - (miss * signs[0] + rest * signs[1]) * 0.5


def score(ctx: Context) -> tuple[Headline, list[Entry]]:
    n, edit_ld = ctx.test.n, lambda edit: Key(AXIS, "ld", edit=edit)
    sufficiency, rest = recovered(ctx, edit_ld("hat")), recovered(ctx, edit_ld("rest"))
    ceiling = recovered(ctx, Key("task", "ld", edit="ceiling"))
    ceiling_rest = recovered(ctx, Key("task", "ld", edit="ceiling_rest"))
    # the mean dictionary's own scores: LD(ā) for sufficiency, LD(ā + a − ā) = LD(a) for necessity
    zero = constant_like(ctx.mean(edit_ld("hat")), 0.0)
    # the ceiling is the clean run: on tasks whose attributes depend on each other SAEs beat the supervised
    one = constant_like(zero, 1.0)
    headline = Headline(folded(sufficiency, rest), zero, one, n)
    # no edit has all of LD(a) left
    necessity, best = _necessity(rest), _necessity(ceiling_rest)
    kl_mean, kl_best = (ctx.mean(Key("task", "kl", edit=e)) for e in ("mean", "ceiling"))
    agree_mean, agree_best = (ctx.mean(Key("task", "agree", edit=e)) for e in ("mean", "ceiling"))
    entries = [
        Entry(AXIS, "sufficiency", sufficiency, n, floor=zero, ceiling=ceiling),
        Entry(AXIS, "necessity", necessity, n, floor=zero, ceiling=best),
        Entry(AXIS, "agreement", ctx.mean(Key(AXIS, "agree")), n, floor=agree_mean, ceiling=agree_best),
        Entry(AXIS, "kl", ctx.mean(Key(AXIS, "kl")), n, floor=kl_mean, ceiling=kl_best, direction="lower"),
        _fvu(ctx),
        Entry(AXIS, "l0", ctx.mean(Key(AXIS, "l0")), n, direction="none"),
    ]
    if edit_ld("permuted") in ctx.outcomes:
        shuffled = recovered(ctx, edit_ld("permuted"))
        entries.append(
            Entry(
                AXIS,
                "sufficiency",
                shuffled,
                n,
                edit="permuted",
                note="the same codes through a shuffled decoder",
            )
        )
    return headline, entries


def _necessity(rest: Maybe) -> Maybe:
    """`1 − |rest|` of the estimate; its draws keep the estimate's sign (see `folded`)."""
    if isinstance(rest, Undefined):
        return rest
    return 1 - rest * (1.0 if float(rest) >= 0 else -1.0)


def _fvu(ctx: Context) -> Entry:
    """`Σ‖a − â‖² / Σ‖a − ā‖²`; 0 is best, 1 is what the mean explains."""
    deviation = ctx.test.total(ctx.outcomes[Key("task", "dev2")])
    if float(deviation) == 0:
        constant = Undefined("the activation does not vary over these prompts")
        return Entry(AXIS, "fvu", constant, ctx.test.n, direction="lower")
    value = ctx.test.total(ctx.outcomes[Key(AXIS, "err2")]) / deviation
    ceiling = ctx.test.total(ctx.outcomes[Key("task", "err2", edit="ceiling")]) / deviation
    floor = Estimate(np.array(1.0), np.ones_like(value.draws))
    return Entry(AXIS, "fvu", value, ctx.test.n, floor=floor, ceiling=ceiling, direction="lower")
