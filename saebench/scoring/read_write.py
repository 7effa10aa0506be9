"""Reading and writing from outcomes (docs/methods.md §6–8): every score is a ratio of means over prompts.

The columns hold one number a prompt, weighted so that every value of the attribute counts alike.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from saebench.records.outcomes import Key
from saebench.scoring.base import Context, Headline
from saebench.scoring.causal import NONE_CAUSAL, shares_in_words, weighted_mean, weights
from saebench.scoring.estimates import Estimate, Maybe, Undefined, constant_like

AXIS = "interpretability"
NULL = "null"
CEILING = "ceiling"
LARGEST_SCALE = 5.0
"""How much uniform shrinkage is forgiven; beyond that too little is written to be called so."""
UNMEASURED = "no value of it occurs often enough to be looked for"


class ReadWrite(NamedTuple):
    """One attribute: what is written of it, and by latents that stand for what."""

    written: Estimate
    """W: share of what is available in the activation; 1 is the identity's, 0 the mean's."""
    purity: Maybe
    """Q in [0, 1]: of what latents write, how much is by latents that stand for a value."""
    read_write: Estimate
    """`Q · min(1, max(0, s W))`, s the number that scales all codes best, at most 5."""
    specific: Estimate
    """The same with P*: latents that fire on nothing else."""
    split: Estimate
    """Specific, divided by the effective number of latents that share a value."""

    @property
    def writers(self) -> Maybe:
        """Effective number of latents that share a value, weighted by what they write; 1 is best."""
        if not self.split.excludes_zero or float(self.split) <= 0:
            return Undefined("nothing is credibly written by latents that stand for a value alone")
        return self.specific / self.split


def available(ctx: Context, name: str) -> Maybe:
    """D: mean over values of `⟨δ_v(a), u_v⟩`, test activations on fit atoms: the squared size, noise-free."""
    key = Key("task", "available", name)
    if key not in ctx.outcomes:
        return Undefined(UNMEASURED)
    found = ctx.mean(key)
    if not found.excludes_zero or float(found) <= 0:
        return Undefined(f"{name} is not credibly there: what differs with it on fit does not on test")
    return found


def read(ctx: Context, name: str, edit: str = "") -> ReadWrite | Undefined:
    """The dictionary's own numbers; with `edit`, those of its matched null or of the ceiling."""
    whole = available(ctx, name)
    return whole if isinstance(whole, Undefined) else _read(ctx, name, edit, whole)


def _read(ctx: Context, name: str, edit: str, whole: Estimate) -> ReadWrite:
    axis = "task" if edit == CEILING else AXIS

    def mean(score: str) -> Estimate:
        return ctx.mean(Key(axis, score, name, edit))

    written, gross = mean("written") / whole, mean("gross")
    scale = min(LARGEST_SCALE, ctx.outcomes.facts.get(Key(axis, "scale", edit=edit), 1.0))
    amount = written.map(lambda x: np.clip(scale * x, 0.0, 1.0))
    purity, specific, split = (_share(mean(s), gross) for s in ("selective", "specific", "split"))
    measured = gross.excludes_zero and float(gross) > 0
    shown = purity if measured else Undefined("latents write nothing of it credibly")
    return ReadWrite(written, shown, purity * amount, specific * amount, split * amount)


def _share(part: Estimate, whole: Estimate) -> Estimate:
    """`part / whole` in [0, 1]; nothing is a share of nothing. It is multiplied by W, which bounds it."""

    def of(a: Any, b: Any) -> Any:
        return np.clip(np.divide(a, b, out=np.zeros_like(a), where=b > 0), 0.0, 1.0)

    value = of(np.asarray(part.value, float), np.asarray(whole.value, float))
    return Estimate(value, of(part.draws, whole.draws))


def above_null(purity: Maybe, null: Maybe) -> Maybe:
    """`max(0, (Q − Q₀) / (1 − Q₀))`, Q₀ that of the matched random dictionary."""
    if isinstance(purity, Undefined) or isinstance(null, Undefined):
        return purity if isinstance(purity, Undefined) else Undefined("its null writes nothing credibly")
    return ((purity - null) / (1 - null)).map(lambda x: np.maximum(x, 0.0))


def scored(ctx: Context) -> list[str]:
    """Attributes that have a weight, and are credibly there to be written."""
    return [name for name in weights(ctx) if isinstance(available(ctx, name), Estimate)]


class Weighed(NamedTuple):
    """One attribute that headlines average over."""

    weight: Estimate
    """Its effect, times the share of its atoms on `fit` that is found again on `test`."""
    whole: Estimate
    """What is available of it, credibly or not."""


def weighed(ctx: Context) -> dict[str, Weighed]:
    """Attributes with what they count for. They follow from the task alone: no dictionary is spared any.

    Where an attribute's atoms are noise its scores are too: the weight goes to 0 with what is there of it.
    """
    found = {}
    for name, effect in weights(ctx).items():
        key = Key("task", "available", name)
        if key not in ctx.outcomes:
            continue
        whole = ctx.mean(key)
        on_fit = ctx.outcomes.facts.get(key._replace(score="available_on_fit"), float(whole))
        there = whole.map(lambda x, on_fit=on_fit: np.clip(x / max(on_fit, 1e-300), 0.0, 1.0))
        if float(there) > 0:
            found[name] = Weighed(effect * there, whole)
    return found


def headline(ctx: Context, pick: Callable[[ReadWrite], Estimate]) -> Headline:
    """Weighted mean over attributes, between the matched null and the ceiling measured by the same pass."""
    if not scored(ctx):
        nothing = Undefined(NONE_CAUSAL)
        return Headline(nothing, nothing, nothing, ctx.test.n)
    chosen = weighed(ctx)
    value, floor, ceiling = (pick(means(ctx, chosen, edit)) for edit in ("", NULL, CEILING))
    note = f"over {shares_in_words({name: one.weight for name, one in chosen.items()})}"
    return Headline(value, floor, ceiling, ctx.test.n, note)


def means(ctx: Context, chosen: Mapping[str, Weighed], edit: str = "") -> ReadWrite:
    """Every number's mean over attributes; an attribute of which nothing is written has no purity: 0."""
    found = [_read(ctx, name, edit, one.whole) for name, one in chosen.items()]
    nothing = constant_like(found[0].written, 0.0)
    pure = [one.purity if isinstance(one.purity, Estimate) else nothing for one in found]
    by = [one.weight for one in chosen.values()]
    others = {
        f: weighted_mean([getattr(one, f) for one in found], by) for f in ReadWrite._fields if f != "purity"
    }
    return ReadWrite(purity=weighted_mean(pure, by), **others)
