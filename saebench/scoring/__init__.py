"""From per-prompt outcomes to scores, with numpy alone: no model and no torch is needed."""

from collections.abc import Callable

from saebench.records.outcomes import Outcomes
from saebench.scoring import (
    approximation,
    causal,
    contrasts,
    control,
    disentangle,
    interpretability,
    occlusion,
    oversplitting,
    recovery,
)
from saebench.scoring.base import Context, Entry, Headline, Scored, write_entry, write_headline
from saebench.scoring.estimates import Undefined

SCORERS: dict[str, Callable[[Context], tuple[Headline, list[Entry]]]] = {
    "approximation": approximation.score,
    "control": control.score,
    "interpretability": interpretability.score,
    "occlusion": occlusion.score,
    "oversplitting": oversplitting.score,
}
NOT_A_DICTIONARY = "not a dictionary: it only edits"


def score(outcomes: Outcomes, seed: int = 0) -> Scored:
    """All scores of one dictionary on one task, every estimate over the same resamples.

    An axis without outcomes (an intervention's) is undefined, with that reason.
    """
    ctx = Context.of(outcomes, seed)
    axes, entries = {}, causal.entries(ctx)
    measured = {key.axis for key in (*outcomes.columns, *outcomes.facts)}
    for name, scorer in SCORERS.items():
        if name in measured:
            axes[name], found = scorer(ctx)
            entries += found
            if name == disentangle.AXIS and disentangle.applies(ctx):
                # a task that measured a skyline for cause and isolate is headed by those
                axes[name] = disentangle.headline(ctx)
                entries += disentangle.entries(ctx) + contrasts.entries(ctx)
        else:
            nothing = Undefined(NOT_A_DICTIONARY)
            axes[name] = Headline(nothing, nothing, nothing, 0)
    return Scored(axes, entries + recovery.entries(ctx))


__all__ = ["SCORERS", "Context", "Entry", "Headline", "Scored", "score", "write_entry", "write_headline"]
