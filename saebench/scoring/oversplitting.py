"""Over-splitting scores from outcomes (docs/methods.md §8) [ours; PE §6]."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from saebench.scoring import read_write
from saebench.scoring.base import Context, Direction, Entry, Headline
from saebench.scoring.detection import f1_and_star, key_fact, mean_over_values, scalar
from saebench.scoring.estimates import Bootstrap, Estimate, Undefined, stack
from saebench.scoring.read_write import CEILING, NULL, ReadWrite

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
    """PE's unions of one attribute: grown, and n90 chosen, on `select`; scored on `test`."""

    inverse: Estimate
    """Mean over values of 1/n90, 0 where the union is not detected on `test`."""
    n90: np.ndarray
    detected: Estimate
    """Share of values whose union of size n90 has F1* ≥ ½ on `test`."""
    f1_star: Estimate


def score(ctx: Context) -> tuple[Headline, list[Entry]]:
    entries = []
    for name in ctx.outcomes.attributes:
        own = read_write.read(ctx, name)
        if isinstance(own, ReadWrite):
            entries += _shares(ctx, name, own)
        splits = measure_attribute(ctx, name)
        if splits is not None:
            entries += _unions(ctx, name, splits)
    return headline(ctx), entries


def headline(ctx: Context) -> Headline:
    """Mean of `split` over attributes, by their weights."""
    return read_write.headline(ctx, lambda found: found.split)


def _shares(ctx: Context, name: str, own: ReadWrite) -> list[Entry]:
    n = ctx.test.n
    null, best = (read_write.read(ctx, name, edit) for edit in (NULL, CEILING))
    assert isinstance(null, ReadWrite) and isinstance(best, ReadWrite)
    return [
        Entry(AXIS, "split", own.split, n, name, floor=null.split, ceiling=best.split),
        Entry(AXIS, "writers", own.writers, n, name, direction="lower"),
    ]


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


def n90_of(star: Float[np.ndarray, "*shape size"]) -> Any:
    """Smallest prefix that reaches 90 % of the best prefix's F1*."""
    return (star >= REACH * star.max(-1, keepdims=True)).argmax(-1) + 1


def measure_attribute(ctx: Context, name: str) -> Splits | None:
    """The unions of one attribute's values; resampled over the clusters of `test`."""
    keys = list(ctx.outcomes.find(AXIS, "first", attribute=name, split="select"))
    if not keys:
        return None
    sizes, detected, inverse, stars, drawn = [], [], [], [], []
    for key in keys:
        select, test = ctx.outcomes[key], ctx.outcomes[key._replace(split="test")]
        size = int(max(np.abs(select).max(initial=0), np.abs(test).max(initial=0)))
        # with nothing ever hit there is no union
        n90 = int(n90_of(_curve(select, size))) if size else 1
        star = prefix_f1_star(ctx.test, test, max(size, 1))[n90 - 1]
        seen = star.map(lambda x: (x >= DETECTED_AT).astype(float))
        sizes.append(n90)
        stars.append(star)
        detected.append(seen)
        inverse.append(seen / n90)
        positives = ctx.test.total(test > 0)
        drawn.append(positives.draws / positives.value)
    found = np.array([n for n, seen in zip(sizes, detected, strict=True) if float(seen)])
    weights = np.stack(drawn, axis=1)
    means = (
        mean_over_values(stack(parts), weights).chosen(bounds=(0.0, 1.0))
        for parts in (inverse, detected, stars)
    )
    inverse_mean, detected_mean, star_mean = means
    return Splits(inverse_mean, found, detected_mean, star_mean)


def _curve(first: np.ndarray, size: int) -> np.ndarray:
    """F1* of every prefix on the prompts themselves, without resampling."""
    place = np.where(np.abs(first) >= 1, np.abs(first) - 1, size).astype(int)
    tp, fp = (np.bincount(place[side], minlength=size + 1)[:-1].cumsum() for side in (first > 0, first < 0))
    positives, n = (first > 0).sum(), len(first)
    share = positives / n
    f1, chance = 2 * tp / (tp + fp + positives), 2 * share / (1 + share)
    return np.maximum((f1 - chance) / (1 - chance), 0.0)


def _unions(ctx: Context, name: str, splits: Splits) -> list[Entry]:
    n = ctx.test.n
    out = [
        Entry(AXIS, "inverse_n90", splits.inverse, n, name),
        Entry(AXIS, "detected", splits.detected, n, name),
        Entry(AXIS, "union_f1_star", splits.f1_star, n, name),
    ]
    if len(splits.n90):
        mean = scalar(float(splits.n90.mean()), splits.inverse)
        why = "mean over detected values; its interval stands at inverse_n90"
        out.append(Entry(AXIS, "n90", mean, n, name, direction="lower", exact=why))
    else:
        out.append(Entry(AXIS, "n90", Undefined("no value is detected"), n, name, direction="lower"))
    for fact, (direction, why) in _FACTS.items():
        value = key_fact(ctx, AXIS, fact, name)
        if value is not None:
            found = scalar(value, splits.inverse)
            note = f"{why}; not resampled"
            out.append(Entry(AXIS, fact, found, n, name, direction=direction, exact=note))
    return out
