"""From per-prompt outcomes to scores, with numpy alone: no model and no torch is needed."""

from saebench.records.outcomes import Outcomes
from saebench.scoring import causal, phrasings
from saebench.scoring.axes import EVERY
from saebench.scoring.base import Context, Entry, Headline, Scored, write_entry, write_headline
from saebench.scoring.estimates import N_RESAMPLES, Undefined
from saebench.scoring.several_sites import averaged

NOT_A_DICTIONARY = "not a dictionary: it only edits"


def score(outcomes: Outcomes, seed: int = 0, n_resamples: int = N_RESAMPLES) -> Scored:
    """All scores of one dictionary on one task, every estimate over the same resamples.

    An axis without outcomes (an intervention's) is undefined, with that reason. Of several sites that are
    edited together, what belongs to one site is the mean over them.
    """
    whole = _score(outcomes, seed, n_resamples)
    parts = {site: _score(part, seed, n_resamples) for site, part in outcomes.parts.items()}
    return averaged(whole, parts) if parts else whole


def _score(outcomes: Outcomes, seed: int, n_resamples: int) -> Scored:
    ctx = Context.of(outcomes, seed, n_resamples)
    axes, entries = _axes(ctx)
    by_phrasing = phrasings.apart(ctx)
    if by_phrasing is not None:
        axes, spreads = phrasings.note_spread(axes, _axes(by_phrasing)[0])
        entries += spreads
    return Scored(axes, [*causal.entries(ctx), *entries])


def _axes(ctx: Context) -> tuple[dict[str, Headline], list[Entry]]:
    outcomes, axes, entries = ctx.outcomes, {}, []
    measured = {key.axis for key in (*outcomes.columns, *outcomes.facts)}
    for name, axis in EVERY.items():
        if not axis.further and name not in measured:
            nothing = Undefined(NOT_A_DICTIONARY)
            axes[name] = Headline(nothing, nothing, nothing, 0)
            continue
        headline, scores = axis.score(ctx)
        entries += scores
        if headline is not None:
            axes[axis.heads or name] = headline
    return axes, entries


__all__ = ["Context", "Entry", "Headline", "Scored", "score", "write_entry", "write_headline"]
