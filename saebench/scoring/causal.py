"""Which attributes have a causal effect at the site: headlines average over those (docs/methods.md §2)."""

from typing import NamedTuple

from saebench.records.outcomes import Key
from saebench.scoring.base import Context, Entry
from saebench.scoring.estimates import Estimate, Undefined

CAUSAL_SHARE = 0.05
"""A causal effect is at least this share of |LD(a) − LD(ā)|."""
NONE_CAUSAL = "no attribute has a causal effect at this site"


class Effect(NamedTuple):
    """What patching the source in does to LD, and to the answer."""

    change: Estimate
    """Mean LD(source patch) − LD(clean), in logits."""
    flipped: Estimate
    """Success of the source patch minus success of no edit."""
    causal: bool


def spread(ctx: Context) -> Estimate:
    """`LD(a) − LD(ā)`: what the site contributes to the task, in logits."""
    return ctx.mean(Key("task", "ld", edit="clean")) - ctx.mean(Key("task", "ld", edit="mean"))


def effects(ctx: Context) -> dict[str, Effect]:
    """The effect of every attribute, over the prompts that ask for it."""
    found, whole = {}, abs(float(spread(ctx)))
    for name in ctx.outcomes.attributes:
        asks = ctx.outcomes[Key("task", "asks", name)]
        clean = ctx.outcomes[Key("task", "ld", edit="clean")]
        change = ctx.test.mean(ctx.outcomes[Key("task", "ld", name, "source")] - clean, asks)
        flipped = ctx.test.mean(
            ctx.outcomes[Key("task", "success", name, "source")]
            - ctx.outcomes[Key("task", "success", name, "none")],
            asks,
        )
        if isinstance(change, Undefined) or isinstance(flipped, Undefined):
            continue
        # "the change" is that of LD in logits, or of the share of answers, each against its whole
        by_ld = change.excludes_zero and abs(float(change)) >= CAUSAL_SHARE * whole
        by_answer = flipped.excludes_zero and abs(float(flipped)) >= CAUSAL_SHARE
        found[name] = Effect(change, flipped, by_ld or by_answer)
    return found


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
        note = "causal" if effect.causal else "no causal effect at this site"
        out.append(Entry("task", "effect", effect.change, ctx.n(name), name, direction="none", note=note))
        out.append(Entry("task", "answers_changed", effect.flipped, ctx.n(name), name, direction="none"))
    return out
