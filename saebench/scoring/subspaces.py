"""Scores of how much of planted subspaces a dictionary has found; planted tasks only.

`overlap` is a number of the decoder and has no interval; `atom_cosine` and `atom_f1` are means over
values, which are also what is resampled.
"""

from saebench.records.outcomes import Key
from saebench.scoring.base import Context, Entry, Headline
from saebench.scoring.detection import scalar
from saebench.scoring.estimates import Estimate, Maybe, ratio

AXIS = "subspaces"
VALUES = "value"
EXACT = "of the decoder itself: not a mean over prompts"
_NOTES = {
    "cosine": "values' atoms against what the latents matched with them write (Hungarian); floor: random rows",
    "f1": "F1* of the matched latent for the presence of its value on test; 0: a latent that is always on",
}


def score(ctx: Context) -> tuple[Headline | None, list[Entry]]:
    """Entries for each attribute with a planted subspace, and their means; no headline."""
    key = Key(AXIS, "cosine", split=VALUES)
    if key not in ctx.outcomes.columns:
        return None, []
    names = list(ctx.outcomes.attributes)
    own = ctx.outcomes[Key(AXIS, "attribute", split=VALUES)]
    planted = [name for at, name in enumerate(names) if (own == at).any()]
    entries = [_overlap(ctx, planted, None), *(_overlap(ctx, [name], name) for name in planted)]
    for column in ("cosine", "f1"):
        entries.append(_mean(ctx, column, own >= 0, None))
        entries += [_mean(ctx, column, own == names.index(name), name) for name in planted]
    return None, entries


def _overlap(ctx: Context, names: list[str], attribute: str | None) -> Entry:
    """Overlap of the best latents' span with the planted subspace, mean over the attributes given."""
    facts = ctx.outcomes.facts
    one = ctx.bootstraps[VALUES].mean(ctx.outcomes[Key(AXIS, "cosine", split=VALUES)])
    assert isinstance(one, Estimate)
    value, floor = (
        scalar(sum(facts[Key(AXIS, score, name)] for name in names) / len(names), one)
        for score in ("overlap", "null_overlap")
    )
    return Entry(
        AXIS,
        "subspace_overlap",
        value,
        len(names),
        attribute=attribute,
        floor=floor,
        ceiling=scalar(1.0, one),
        exact=EXACT,
        note="span of as many live latents as the subspace has dimensions, chosen for it; floor: random rows",
    )


def _mean(ctx: Context, column: str, rows, attribute: str | None) -> Entry:
    """Mean of a column over the values of an attribute, or over all."""
    boot, mask = ctx.bootstraps[VALUES], rows.astype(float)

    def mean(name: str) -> Maybe:
        total = boot.total(ctx.outcomes[Key(AXIS, name, split=VALUES)] * mask)
        return ratio(total, boot.total(mask), "too few values")

    value = mean(column)
    floor = ceiling = None
    if isinstance(value, Estimate):
        floor = mean("null_cosine") if column == "cosine" else scalar(0.0, value)
        ceiling = scalar(1.0, value)
    return Entry(
        AXIS,
        f"atom_{column}",
        value,
        int(rows.sum()),
        attribute=attribute,
        floor=floor,
        ceiling=ceiling,
        note=_NOTES[column],
    )
