"""Control scores from outcomes (METHODS §3) [PE §4.2, A.16]."""

from dataclasses import replace
from functools import reduce

from saebench.records.outcomes import Key
from saebench.scoring.base import Context, Entry, Headline
from saebench.scoring.causal import NONE_CAUSAL, effects
from saebench.scoring.estimates import Estimate, Maybe, Undefined, ratio

AXIS = "control"
UNMOVED = "the source patch does not credibly change LD"


def success(ctx: Context, key: Key) -> Estimate:
    """Share of the prompts that ask for the attribute whose arg-max is what a perfect edit gives."""
    asks = ctx.outcomes[Key("task", "asks", key.attribute)]
    mean = ctx.test.mean(ctx.outcomes[key], asks)
    assert isinstance(mean, Estimate), "an attribute nobody asks for is refused when it is built"
    return mean


def best_success(ctx: Context, name: str, k: int = -1) -> Estimate:
    """The ceiling of an edit of size k: the oracle's own edit of that size, else the supervised one."""
    sized = Key("task", "success", name, "ceiling", k)
    return success(ctx, sized if sized in ctx.outcomes else sized._replace(k=-1))


def _effect(ctx: Context, key: Key) -> Maybe:
    """`(LD(edit) − LD(base)) / (LD(source patch) − LD(base))`; 1 is best."""
    asks = ctx.outcomes[Key("task", "asks", key.attribute)]
    clean = ctx.outcomes[Key("task", "ld", edit="clean")]
    source = ctx.outcomes[Key("task", "ld", key.attribute, "source")]
    moved = ctx.test.mean(ctx.outcomes[key] - clean, asks)
    whole = ctx.test.mean(source - clean, asks)
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
    n, entries = ctx.test.n, []
    for name in ctx.outcomes.attributes:
        floor = success(ctx, Key("task", "success", name, "none"))
        ceiling = success(ctx, Key("task", "success", name, "ceiling"))
        for edit, value in (("none", floor), ("supervised", ceiling)):
            entries.append(Entry(AXIS, "edit_success", value, n, name, edit))
        source = success(ctx, Key("task", "success", name, "source"))
        entries.append(Entry(AXIS, "edit_success", source, n, name, "source"))
        entries.append(
            Entry(
                AXIS, "edit_effect", _effect(ctx, Key("task", "ld", name, "ceiling")), n, name, "supervised"
            )
        )
        for key in ctx.outcomes.find(AXIS, "success", attribute=name):
            entries += _edit_entries(ctx, key, floor, ceiling)
    return _headline(ctx), entries


def _edit_entries(ctx: Context, key: Key, floor: Estimate, ceiling: Estimate) -> list[Entry]:
    name, edit, k = key.attribute, key.edit, key.k if key.k >= 0 else None
    n = ctx.test.n
    changed = key._replace(score="n_changed")
    n_changed = float(ctx.outcomes[changed].mean()) if changed in ctx.outcomes else None
    found = [Entry(AXIS, "edit_success", success(ctx, key), n, name, edit, k, n_changed, floor, ceiling)]
    ld, kl = key._replace(score="ld"), key._replace(score="kl")
    if ld in ctx.outcomes:
        none, best = (_effect(ctx, Key("task", "ld", name, e)) for e in ("none", "ceiling"))
        found.append(Entry(AXIS, "edit_effect", _effect(ctx, ld), n, name, edit, k, n_changed, none, best))
    if kl in ctx.outcomes:
        none, best = (success(ctx, Key("task", "kl", name, e)) for e in ("none", "ceiling"))
        found.append(
            Entry(AXIS, "edit_kl", success(ctx, kl), n, name, edit, k, n_changed, none, best, "lower")
        )
    weight = key._replace(score="removed_weight")
    if weight in ctx.outcomes:
        cost = success(ctx, weight)
        found.append(Entry(AXIS, "edit_magnitude", cost, n, name, edit, k, n_changed, direction="none"))
    return found


def editable(ctx: Context) -> tuple[list[str], str]:
    """Attributes the headline averages over; if none, why."""
    causal = [name for name, effect in effects(ctx).items() if effect.causal]
    if not causal:
        return [], NONE_CAUSAL
    chosen = []
    for name in causal:
        ceiling = success(ctx, Key("task", "success", name, "ceiling"))
        floor = success(ctx, Key("task", "success", name, "none"))
        if (ceiling - floor).excludes_zero:
            chosen.append(name)
    return chosen, "the supervised edit changes no attribute's answer: see the edit effect"


def _headline(ctx: Context) -> Headline:
    """Agnostic edit success (or an intervention's), mean over sizes, then over attributes."""
    chosen, reason = editable(ctx)
    if not chosen:
        undefined = Undefined(reason)
        return Headline(undefined, undefined, undefined, ctx.test.n)
    values, ceilings = [], []
    for name in chosen:
        keys = list(ctx.outcomes.find(AXIS, "success", attribute=name, edit="agnostic"))
        keys = keys or list(ctx.outcomes.find(AXIS, "success", attribute=name, edit="intervention"))
        values.append(average([success(ctx, key) for key in keys]))
        ceilings.append(average([best_success(ctx, name, key.k) for key in keys]))
    floor = average([success(ctx, Key("task", "success", name, "none")) for name in chosen])
    note = f"over {', '.join(chosen)}"
    return Headline(average(values), floor, average(ceilings), ctx.test.n, note)
