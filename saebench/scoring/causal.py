"""How much each attribute matters at the site: headlines weight attributes by that (docs/methods.md §2).

A weight moves with the data. A set of attributes that are credibly causal jumps: a draw of prompts on which one of
them just fails to be once moved a headline from .20 to .56.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from saebench.records.outcomes import Key
from saebench.scoring.base import Context, Entry
from saebench.scoring.estimates import Estimate, Undefined

LEAST_EFFECT = 0.05
"""An attribute with this share of the whole effect weighs 0; from there the weight rises to 1."""
NONE_CAUSAL = "no attribute has a causal effect at this site"


class Effect(NamedTuple):
    """What patching the source in does to LD, and to the answer."""

    change: Estimate
    """Mean LD(source patch) − LD(clean), in logits."""
    flipped: Estimate
    """Success of the source patch minus success of no edit."""
    share: Estimate
    """The larger of `|change| / |LD(a) − LD(ā)|` and |flipped|, at most 1."""

    @property
    def weight(self) -> Estimate:
        """How much the attribute counts in means over attributes, 0 to 1."""
        return self.share.map(lambda x: np.clip((x - LEAST_EFFECT) / (1 - LEAST_EFFECT), 0.0, 1.0))

    @property
    def credible(self) -> bool:
        """Whether the interval of the change, or of the answers' change, excludes 0."""
        return self.change.excludes_zero or self.flipped.excludes_zero


def spread(ctx: Context) -> Estimate:
    """`LD(a) − LD(ā)`: what the site contributes to the task, in logits."""
    return ctx.mean(Key("task", "ld", edit="clean")) - ctx.mean(Key("task", "ld", edit="mean"))


def effects(ctx: Context) -> dict[str, Effect]:
    """The effect of every attribute, over the prompts that ask for it."""
    # a site that does not matter has no effect to share; what is left there is rounding
    found, whole = {}, spread(ctx)
    whole = whole.map(np.abs) if whole.excludes_zero else whole * 0.0
    clean = ctx.outcomes[Key("task", "ld", edit="clean")]
    for name in ctx.outcomes.attributes:
        asks, boot = ctx.outcomes[Key("task", "asks", name)], ctx.edits(name)
        change = boot.mean(ctx.outcomes[Key("task", "ld", name, "source")] - clean, asks)
        flipped = boot.mean(
            ctx.outcomes[Key("task", "success", name, "source")]
            - ctx.outcomes[Key("task", "success", name, "none")],
            asks,
        )
        if isinstance(change, Undefined) or isinstance(flipped, Undefined):
            continue
        parts = (change, whole, flipped)
        value, draws = (_share(*(np.asarray(getattr(p, a)) for p in parts)) for a in ("value", "draws"))
        found[name] = Effect(change, flipped, Estimate(value, draws, units=change.units))
    return found


def _share(change: Any, whole: Any, flipped: Any) -> Any:
    """Without a whole there is no share of it: where nothing differs, answers alone count."""
    by_ld = np.divide(np.abs(change), whole, out=np.zeros_like(change), where=whole > 0)
    return np.clip(np.maximum(by_ld, np.abs(flipped)), 0.0, 1.0)


def weights(ctx: Context) -> dict[str, Estimate]:
    """Weights of the attributes that have one; empty where no effect is credible."""
    found = effects(ctx)
    if not any(effect.credible and float(effect.weight) > 0 for effect in found.values()):
        return {}
    return {name: effect.weight for name, effect in found.items() if float(effect.weight) > 0}


def weighted_mean(parts: Sequence[Estimate], weights: Sequence[Estimate]) -> Estimate:
    """`Σ w x / Σ w`, numerator and denominator resampled together."""
    products = [part * weight for part, weight in zip(parts, weights, strict=True)]
    whole = reduce(lambda a, b: a + b, weights)
    return reduce(lambda a, b: a + b, products) / whole


def shares_in_words(weights: Mapping[str, Estimate]) -> str:
    """`io 0.91, s 0.09`: what a mean over attributes is made of."""
    whole = sum(float(weight) for weight in weights.values())
    return ", ".join(f"{name} {float(weight) / whole:.2f}" for name, weight in weights.items())


def entries(ctx: Context) -> list[Entry]:
    """The task's own numbers: they say what an axis's attributes are worth at this site."""
    n = ctx.test.n
    out = [
        Entry("task", "accuracy", ctx.mean(Key("task", "right", edit="clean")), n),
        Entry("task", "clean_ld", ctx.mean(Key("task", "ld", edit="clean")), n, direction="none"),
        Entry("task", "spread", spread(ctx), n, direction="none"),
    ]
    for name in ctx.outcomes.attributes:
        share = ctx.outcomes.facts.get(Key("task", "kept", name))
        if share is not None:
            kept = ctx.mean(Key("task", "right", edit="clean")) * 0.0 + share
            out.append(Entry("task", "kept", kept, n, name, exact="a share of all prompts drawn"))
    for name, effect in effects(ctx).items():
        note = f"weight {float(effect.weight):.3f}" if float(effect.weight) > 0 else "weighs nothing here"
        out.append(Entry("task", "effect", effect.change, ctx.n(name), name, direction="none", note=note))
        out.append(Entry("task", "answers_changed", effect.flipped, ctx.n(name), name, direction="none"))
    return out
