"""Over-splitting scores from outcomes (METHODS §6) [PE §6; ours]."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from saebench.scoring.base import Context, Direction, Entry, Headline
from saebench.scoring.causal import NONE_CAUSAL, effects
from saebench.scoring.control import average
from saebench.scoring.detection import f1_and_star, key_fact, scalar
from saebench.scoring.estimates import Bootstrap, Estimate, Undefined

AXIS = "oversplitting"
REACH = 0.9
DETECTED_AT = 0.5
MISSED = 0.5
"""Stored for a positive prompt that the whole union misses; 0 is a negative one left alone."""
_FACTS: dict[str, tuple[Direction, str]] = {
    "fragments": ("lower", "a mean count over values"),
    "fragment_overlap": ("none", "a mean over pairs of latents"),
    "effective_latents": ("lower", "a mean over values"),
}


class Splits(NamedTuple):
    """Of one attribute, per value: 1/n90 (0 if undetected), and F1* of that union on `test`."""

    inverse: Estimate
    n90: np.ndarray
    detected: Estimate
    test_f1_star: Estimate


def prefix_f1_star(boot: Bootstrap, first: np.ndarray, size: int) -> Estimate:
    """F1* of every prefix of a union, `[size]`, from each prompt's first hit."""
    place = np.where(np.abs(first) >= 1, np.abs(first) - 1, size).astype(int)
    onehot = np.eye(size + 1)[place]
    counts = [boot.total(onehot * side[:, None]) for side in ((first > 0), (first < 0))]
    tp, fp = (Estimate(c.value.cumsum()[:-1], c.draws.cumsum(1)[:, :-1]) for c in counts)
    positives = boot.total((first > 0).astype(float)[:, None])
    n = boot.total(np.ones((boot.n, 1)))
    fn = Estimate(positives.value - tp.value, positives.draws - tp.draws)
    return f1_and_star(tp, fp, fn, n)[1]


def _n90(star: Float[np.ndarray, "*shape size"]) -> tuple[Any, Any]:
    """Smallest prefix that reaches 90 % of the best prefix's F1*, and whether that best is ≥ ½."""
    best = star.max(-1, keepdims=True)
    return (star >= REACH * best).argmax(-1) + 1, best[..., 0] >= DETECTED_AT


def measure_attribute(ctx: Context, name: str) -> Splits | None:
    """`n90` of every value; resampled over the clusters of `select`, where unions were grown."""
    keys = list(ctx.outcomes.find(AXIS, "first", attribute=name, split="select"))
    if not keys:
        return None
    inverse, sizes, detected, tests = [], [], [], []
    for key in keys:
        size = int(np.abs(ctx.outcomes[key]).max(initial=0))
        test_column = ctx.outcomes[key._replace(split="test")]
        size = max(size, int(np.abs(test_column).max(initial=0)))
        blank = ctx.bootstraps["select"].total(np.zeros(ctx.bootstraps["select"].n))
        if size == 0:
            inverse.append(blank)
            detected.append(blank)
            continue
        star = prefix_f1_star(ctx.bootstraps["select"], ctx.outcomes[key], size)
        (n90, seen), (n90_draws, seen_draws) = _n90(star.value), _n90(star.draws)
        inverse.append(Estimate(np.array(seen / n90), seen_draws / n90_draws))
        detected.append(Estimate(np.array(float(seen)), seen_draws.astype(float)))
        if seen:
            sizes.append(int(n90))
            test = prefix_f1_star(ctx.test, test_column, size)
            tests.append(test[int(n90) - 1])
    shown = average(tests).chosen() if tests else None
    return Splits(
        average(inverse).chosen(),
        np.array(sizes),
        average(detected).chosen(),
        shown if shown is not None else scalar(0.0, average(inverse)),
    )


def score(ctx: Context) -> tuple[Headline, list[Entry]]:
    found = {name: measure_attribute(ctx, name) for name in ctx.outcomes.attributes}
    entries = []
    for name, splits in found.items():
        if splits is not None:
            entries += _entries(ctx, name, splits)
    return _headline(ctx, found), entries


def _entries(ctx: Context, name: str, splits: Splits) -> list[Entry]:
    n = ctx.bootstraps["select"].n
    out = [
        Entry(AXIS, "inverse_n90", splits.inverse, n, name),
        Entry(AXIS, "detected", splits.detected, n, name),
    ]
    if len(splits.n90):
        mean = scalar(float(splits.n90.mean()), splits.inverse)
        out.append(
            Entry(
                AXIS,
                "n90",
                mean,
                n,
                name,
                direction="lower",
                exact="mean over detected values; its interval stands at inverse_n90",
            )
        )
        out.append(Entry(AXIS, "union_f1_star", splits.test_f1_star, ctx.test.n, name))
    else:
        out.append(Entry(AXIS, "n90", Undefined("no value is detected"), n, name, direction="lower"))
    for fact, (direction, why) in _FACTS.items():
        value = key_fact(ctx, AXIS, fact, name)
        if value is not None:
            out.append(
                Entry(
                    AXIS,
                    fact,
                    scalar(value, splits.inverse),
                    n,
                    name,
                    direction=direction,
                    exact=f"{why}; not resampled",
                )
            )
    return out


def _headline(ctx: Context, found: dict[str, Splits | None]) -> Headline:
    """Mean over causal attributes of the mean over values of 1/n90."""
    causal = {name: s for name, e in effects(ctx).items() if e.causal and (s := found.get(name)) is not None}
    n = ctx.bootstraps["select"].n
    if not causal:
        undefined = Undefined(NONE_CAUSAL)
        return Headline(undefined, undefined, undefined, n)
    value = average([splits.inverse for splits in causal.values()]).chosen()
    share = float(average([splits.detected for splits in causal.values()]))
    note = f"over {', '.join(causal)}; {share:.0%} of values detected"
    return Headline(value, scalar(0.0, value), scalar(1.0, value), n, note)
