"""Interpretability scores from outcomes (METHODS §4) [PE §5]."""

import numpy as np

from saebench.records.outcomes import Key
from saebench.scoring.approximation import recovered
from saebench.scoring.base import Context, Entry, Headline
from saebench.scoring.causal import NONE_CAUSAL, effects
from saebench.scoring.control import average
from saebench.scoring.detection import Detection, detect, key_fact, null, null_spread, properties, scalar
from saebench.scoring.estimates import Estimate, Undefined, wilson

AXIS = "interpretability"
THRESHOLDS = (0.5, 0.8)


def score(ctx: Context) -> tuple[Headline, list[Entry]]:
    found = {name: detect(ctx, AXIS, name) for name in properties(ctx)}
    entries = []
    for name, detection in found.items():
        if detection is not None:
            entries += _property_entries(ctx, name, detection)
    entries += [*_explained(ctx), *_causal_check(ctx)]
    return _headline(ctx, found), entries


def _property_entries(ctx: Context, name: str, found: Detection) -> list[Entry]:
    n, note = ctx.test.n, found.note
    star = found.f1_star.mean()
    dropped = key_fact(ctx, AXIS, "dropped_values", name)
    if dropped:
        note = "; ".join(filter(None, [note, f"{dropped:.0f} values too rare to score"]))
    floor = ceiling = None
    if Key(AXIS, "null", name, k=0) in ctx.outcomes.facts:
        floor, ceiling = scalar(null(ctx, name), star), scalar(1.0, star)
    out = [
        Entry(AXIS, "f1_star", star, n, name, floor=floor, ceiling=ceiling, note=note),
        Entry(AXIS, "f1", found.f1.mean(), n, name, note=note),
    ]
    for t in THRESHOLDS:
        out.append(Entry(AXIS, f"coverage@{t}", found.coverage(t), n, name, note=note))
    if floor is not None:
        spread = f"standard deviation over permutations {null_spread(ctx, name):.3g}"
        out.append(
            Entry(
                AXIS,
                "null",
                floor,
                n,
                name,
                direction="none",
                exact=f"a mean over label permutations; {spread}",
            )
        )
    return out


def _explained(ctx: Context) -> list[Entry]:
    """Share of active latents that match something; the sample is the latents, the interval Wilson's."""
    active = key_fact(ctx, AXIS, "active_latents")
    explained = key_fact(ctx, AXIS, "explained_latents")
    name = "explained_latents@0.8"
    if not active or explained is None:
        return [Entry(AXIS, name, Undefined("no latent is active on the task"), 0)]
    low, high = wilson(int(explained), int(active))
    share = explained / active
    # latents are the sample here, prompts are not resampled: the draws span Wilson's interval
    draws = np.interp(np.linspace(0, 1, 2000), [0, 0.025, 0.5, 0.975, 1], [low, low, share, high, high])
    return [Entry(AXIS, name, Estimate(np.array(share), draws), int(active))]


def _causal_check(ctx: Context) -> list[Entry]:
    n = ctx.test.n
    keep = recovered(ctx, Key(AXIS, "ld", edit="keep"))
    remove = recovered(ctx, Key(AXIS, "ld", edit="remove"))
    matched = key_fact(ctx, AXIS, "matched_latents") or 0
    note = f"{matched:.0f} latents match a property at F1* ≥ 0.6"
    return [
        Entry(AXIS, "kept_ld", keep, n, edit="keep", note=note),
        Entry(AXIS, "removed_ld", remove, n, edit="remove", direction="lower", note=note),
    ]


def _headline(ctx: Context, found: dict[str, Detection | None]) -> Headline:
    causal = {name: d for name, e in effects(ctx).items() if e.causal and (d := found.get(name)) is not None}
    if not causal:
        undefined = Undefined(NONE_CAUSAL)
        return Headline(undefined, undefined, undefined, ctx.test.n)
    value = average([detection.f1_star.mean() for detection in causal.values()])
    floor = scalar(float(np.mean([null(ctx, name) for name in causal])), value)
    note = f"over {', '.join(causal)}"
    return Headline(value, floor, scalar(1.0, value), ctx.test.n, note)
