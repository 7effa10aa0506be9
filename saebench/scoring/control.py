"""Control scores from outcomes (docs/methods.md §5) [PE §4.2, A.16]."""

from dataclasses import replace
from functools import reduce

import numpy as np

from saebench.records.outcomes import Key
from saebench.scoring.base import Context, Entry, Headline
from saebench.scoring.causal import NONE_CAUSAL, shares_in_words, weighted_mean, weights
from saebench.scoring.estimates import Estimate, Maybe, Undefined, constant_like, ratio

AXIS = "control"
UNMOVED = "the source patch does not credibly change LD"
NO_EDIT = "the supervised edit itself has no credible fidelity for any attribute"
UNMOVED_ANSWERS = "the source patch does not credibly change the answers' distribution"
HEADED_BY = (("writers", 1), ("own", -1), ("intervention", -1))
"""Edits and sizes: a row's headline is that of the first which it made."""


def success(ctx: Context, key: Key) -> Estimate:
    """Share of the prompts that ask for the attribute whose arg-max is what a perfect edit gives."""
    asks = ctx.outcomes[Key("task", "asks", key.attribute)]
    mean = ctx.edits(key.attribute).mean(ctx.outcomes[key], asks)
    assert isinstance(mean, Estimate), "an attribute nobody asks for is refused when it is built"
    return mean


def ld_effect(ctx: Context, key: Key) -> Maybe:
    """`(LD(edit) − LD(base)) / (LD(source patch) − LD(base))`; 1 is best."""
    asks = ctx.outcomes[Key("task", "asks", key.attribute)]
    clean = ctx.outcomes[Key("task", "ld", edit="clean")]
    source = ctx.outcomes[Key("task", "ld", key.attribute, "source")]
    boot = ctx.edits(key.attribute)
    moved, whole = boot.mean(ctx.outcomes[key] - clean, asks), boot.mean(source - clean, asks)
    assert isinstance(moved, Estimate) and isinstance(whole, Estimate)
    return ratio(moved, whole, UNMOVED)


def average(parts: list[Estimate]) -> Estimate:
    """Mean of estimates over the same resamples.

    Shares that are all exactly 0, or all exactly 1, average to a share: it keeps Wilson's interval.
    """
    mean = reduce(lambda a, b: a + b, parts) / len(parts)
    shares = [part.share_of for part in parts if part.share_of is not None]
    extreme = len({float(part) for part in parts}) == 1 and float(parts[0]) in (0.0, 1.0)
    if extreme and len(shares) == len(parts):
        return replace(mean, share_of=min(shares))
    return mean


def score(ctx: Context) -> tuple[Headline, list[Entry]]:
    names = ctx.outcomes.attributes
    return headline(ctx), [entry for name in names for entry in attribute_entries(ctx, AXIS, name)]


def attribute_entries(ctx: Context, axis: str, name: str) -> list[Entry]:
    """Every score of every edit that an axis made from the sources of a name, references first."""
    entries, n = [], ctx.n(name)
    floor = success(ctx, Key("task", "success", name, "none"))
    ceiling = success(ctx, Key("task", "success", name, "ceiling"))
    for edit, value in (("none", floor), ("supervised", ceiling)):
        entries.append(Entry(axis, "edit_success", value, n, name, edit))
    source = success(ctx, Key("task", "success", name, "source"))
    entries.append(Entry(axis, "edit_success", source, n, name, "source"))
    moved = ld_effect(ctx, Key("task", "ld", name, "ceiling"))
    entries.append(Entry(axis, "edit_effect", moved, n, name, "supervised"))
    best = ceiling_fidelity(ctx, name)
    entries.append(Entry(axis, "edit_fidelity", best, _judged(ctx, name), name, "supervised"))
    kinds = [key for score in ("success", "kl") for key in ctx.outcomes.find(axis, score, attribute=name)]
    for key in dict.fromkeys(key._replace(score="success") for key in kinds):
        entries += _edit_entries(ctx, key, floor, ceiling, best)
    return entries


def _edit_entries(ctx: Context, key: Key, floor: Estimate, ceiling: Estimate, best: Maybe) -> list[Entry]:
    """Every score of one edit, of those that its stored outcomes give."""
    n, k = ctx.n(key.attribute), key.k if key.k >= 0 else None
    changed, weight = key._replace(score="n_changed"), key._replace(score="removed_weight")
    n_changed = float(ctx.outcomes[changed].mean()) if changed in ctx.outcomes else None
    blank = Entry(key.axis, "", floor, n, key.attribute, key.edit, k, n_changed)
    ld, kl = key._replace(score="ld"), key._replace(score="kl")
    found = []
    if key in ctx.outcomes:
        share = success(ctx, key)
        found.append(replace(blank, name="edit_success", value=share, floor=floor, ceiling=ceiling))
    if ld in ctx.outcomes:
        none, most = (ld_effect(ctx, Key("task", "ld", key.attribute, e)) for e in ("none", "ceiling"))
        effect = ld_effect(ctx, ld)
        found.append(replace(blank, name="edit_effect", value=effect, floor=none, ceiling=most))
    if kl in ctx.outcomes:
        none, least = (success(ctx, Key("task", "kl", key.attribute, e)) for e in ("none", "ceiling"))
        away = replace(blank, name="edit_kl", value=success(ctx, kl), floor=none, ceiling=least)
        zero = constant_like(none, 0.0)
        every = replace(blank, n=_judged(ctx, key.attribute), name="edit_fidelity")
        kept = replace(every, value=fidelity(ctx, kl), floor=zero, ceiling=best)
        found += [replace(away, direction="lower"), kept]
    if weight in ctx.outcomes:
        cost = success(ctx, weight)
        found.append(replace(blank, name="edit_magnitude", value=cost, direction="none"))
    return found


def fidelity(ctx: Context, key: Key) -> Maybe:
    """`1 − KL(source-patched ‖ edited) / KL(source-patched ‖ no edit)`, means first.

    1 is what the source patch itself does, 0 no edit, below 0 worse than none. It grades attributes that
    move the answer's distribution without changing its arg-max. Where prompts ask for different
    attributes, KL is that of those that ask for this one plus that of those that ask for another: what
    an edit does to the rest counts, on prompts whose source differs in this attribute alone.
    """
    left, whole = (_distance(ctx, k) for k in (key, Key("task", "kl", key.attribute, "none")))
    away = ratio(left, whole, UNMOVED_ANSWERS)
    return away if isinstance(away, Undefined) else 1 - away


def _distance(ctx: Context, key: Key) -> Estimate:
    """Mean KL where the attribute is asked for, plus that where another one is."""
    here, elsewhere = success(ctx, key), _elsewhere(ctx, key.attribute)
    there = ctx.edits(key.attribute).mean(ctx.outcomes[key], elsewhere)
    return here + there if isinstance(there, Estimate) else here


def _elsewhere(ctx: Context, name: str) -> np.ndarray:
    """Prompts that ask for another attribute and whose source differs in this one alone."""
    return ctx.outcomes[Key("task", "alone", name)] * (ctx.outcomes[Key("task", "asks", name)] == 0)


def _judged(ctx: Context, name: str) -> int:
    """How many prompts fidelity averages over: those that ask, and those on which damage is looked for."""
    return ctx.n(name) + int(_elsewhere(ctx, name).sum())


def ceiling_fidelity(ctx: Context, name: str) -> Maybe:
    """Fidelity of the supervised edit (on synthetic tasks the oracle's)."""
    return fidelity(ctx, Key("task", "kl", name, "ceiling"))


def editable(ctx: Context) -> dict[str, Estimate]:
    """Attributes the headline averages over, with their weights: their effect, times what labels can do.

    An attribute whose supervised edit does nothing good weighs nothing: no edit could be held against it.
    """
    found = {}
    for name, weight in weights(ctx).items():
        best = ceiling_fidelity(ctx, name)
        # outcomes of earlier versions hold writers' edits of credibly causal attributes only
        if isinstance(best, Estimate) and float(best) > 0 and _own_edit(ctx, name) is not None:
            found[name] = weight * _positive(best)
    return found


def _positive(fidelity: Estimate) -> Estimate:
    return fidelity.map(lambda x: np.maximum(x, 0.0))


def _own_edit(ctx: Context, name: str) -> Key | None:
    """The edit that a row is headed by: of one writer for one, or the one edit that it makes."""
    keys = (Key(AXIS, "kl", name, edit, k) for edit, k in HEADED_BY)
    return next((key for key in keys if key in ctx.outcomes), None)


def headline(ctx: Context) -> Headline:
    """Weighted mean over attributes of `max(0, fidelity)` of the writers' edit of size 1.

    Larger edits stand beside it: with eight or sixteen latents every dictionary of some width steers
    (of IO all bundled SAEs reach .98; where readouts are linear, random directions pass the truth's).
    """
    chosen = editable(ctx)
    best = [ceiling_fidelity(ctx, name) for name in chosen]
    if not any(isinstance(b, Estimate) and b.excludes_zero for b in best):
        undefined = Undefined(NO_EDIT if weights(ctx) else NONE_CAUSAL)
        return Headline(undefined, undefined, undefined, ctx.test.n)
    values, ceilings, by = [], [], list(chosen.values())
    for name in chosen:
        own, best = _own_edit(ctx, name), ceiling_fidelity(ctx, name)
        assert own is not None and isinstance(best, Estimate), "chosen for that"
        value = fidelity(ctx, own)
        assert isinstance(value, Estimate), "its ceiling is defined"
        values.append(_positive(value))
        ceilings.append(_positive(best))
    value, note = weighted_mean(values, by), f"over {shares_in_words(chosen)}"
    return Headline(value, constant_like(value, 0.0), weighted_mean(ceilings, by), ctx.test.n, note)
