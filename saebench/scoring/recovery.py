"""Recovery scores from outcomes (docs/methods.md §9); synthetic tasks only.

The sample behind an interval is what the score averages over: features, latents, children of
parents, or test samples. Floor and ceiling are a null and the true dictionary's own value.
"""

from dataclasses import replace
from typing import NamedTuple

from saebench.records.outcomes import LATENTS, Key
from saebench.scoring.base import Context, Direction, Entry, Headline
from saebench.scoring.detection import scalar
from saebench.scoring.estimates import Estimate, Maybe, Undefined, ratio

AXIS = "recovery"
FEATURES, CHILDREN = "feature", "child"
MCC = "the field writes MCC, mean correlation coefficient; not Matthews'"


class _Mean(NamedTuple):
    """A score that is a mean of one column, over the entries that another marks."""

    name: str
    column: str
    split: str
    where: str | None = None
    floor: str | None = None
    """A fact, or a column, that holds the null."""
    ceiling: float = 1.0
    direction: Direction = "higher"
    note: str | None = None
    empty: str = "nothing to average over"


_MEANS = (
    _Mean("matched_cosine", "cosine", FEATURES, "matched", "matched_cosine", note=MCC),
    _Mean(
        "mmcs_recall",
        "best",
        FEATURES,
        None,
        "mmcs_recall",
        note="truth → latents: the best latent of every feature",
    ),
    _Mean(
        "mmcs_precision",
        "best",
        LATENTS,
        None,
        "mmcs_precision",
        note="latents → truth: the best feature of every latent",
    ),
    _Mean(
        "recovered@0.8",
        "recovered",
        FEATURES,
        None,
        "recovered",
        note="of all features, those matched at |cos| > 0.8",
    ),
    _Mean(
        "feature_f1",
        "f1",
        FEATURES,
        "fires",
        "null_f1",
        note="features that fire, each by its matched latent; null: latents dealt at random",
        empty="no feature fires",
    ),
    _Mean(
        "latent_f1", "f1", LATENTS, None, "null_f1", note="each latent for its nearest feature (SAELens' F1)"
    ),
    _Mean("uniqueness", "share", LATENTS, None, "uniqueness"),
    _Mean(
        "dead_latents",
        "dead",
        LATENTS,
        direction="lower",
        ceiling=0.0,
        note="no null: random rows have no encoder, so nothing of theirs is on or off",
    ),
    _Mean(
        "shrinkage",
        "shrinkage",
        "test",
        "has_norm",
        "null_shrinkage",
        direction="none",
        note="mean ‖x̂‖ / ‖x‖; 1 is best",
    ),
    _Mean(
        "absorption",
        "absorption",
        CHILDREN,
        "has_absorption",
        "null_absorption",
        0.0,
        "lower",
        "null: latents dealt at random",
        "too few samples of parents with and without children",
    ),
    _Mean(
        "leakage", "leakage", CHILDREN, "has_leakage", None, 0.0, "none", "0 is best", "no child has a latent"
    ),
    _Mean(
        "composition",
        "composition",
        LATENTS,
        "has_composition",
        "composition",
        note="1: latents for parts; ½: for pairs; lone parts",
        empty="no part turns any latent on",
    ),
    _Mean(
        "pair_composition",
        "pair_composition",
        LATENTS,
        "has_pair_composition",
        "pair_composition",
        note="1: latents for parts; ½: for pairs; all pairs once",
        empty="no part makes any latent larger",
    ),
)


def score(ctx: Context) -> tuple[Headline | None, list[Entry]]:
    """All recovery scores, or none where the truth is not known; no headline."""
    return None, entries(ctx) if FEATURES in ctx.bootstraps else []


def entries(ctx: Context) -> list[Entry]:
    """All recovery scores."""
    found = [_mean(ctx, m) for m in _MEANS if Key(AXIS, m.column, split=m.split) in ctx.outcomes]
    found += [_explained_variance(ctx), *_calibrated(ctx), *_frequent(ctx)]
    if Key(AXIS, "hedging", split=FEATURES) in ctx.outcomes:
        found.append(_hedging(ctx))
    return found


def _average(ctx: Context, column: str, split: str, where: str | None) -> Maybe:
    mask = None if where is None else ctx.outcomes[Key(AXIS, where, split=split)]
    found = ctx.bootstraps[split].mean(ctx.outcomes[Key(AXIS, column, split=split)], mask)
    # a mean of cosines that are all 1 is not a share, and Wilson's interval is not its interval
    share = column in ("recovered", "dead")
    return found if isinstance(found, Undefined) or share else replace(found, share_of=None)


def _mean(ctx: Context, what: _Mean) -> Entry:
    n = ctx.bootstraps[what.split].n
    value = _average(ctx, what.column, what.split, what.where)
    if isinstance(value, Undefined):
        reason = Undefined(what.empty)
        return Entry(AXIS, what.name, reason, n, direction=what.direction, note=what.note)
    floor = _floor(ctx, what, value)
    ceiling = scalar(_ceiling(ctx, what), value)
    entry = Entry(
        AXIS, what.name, value, n, floor=floor, ceiling=ceiling, direction=what.direction, note=what.note
    )
    return _told(ctx, entry) if what.name == "leakage" else entry


def _ceiling(ctx: Context, what: _Mean) -> float:
    """The truth's own value: its latents for features that stay silent on these samples are dead."""
    if what.split != LATENTS or what.column not in ("dead", "f1"):
        return what.ceiling
    fires = float(ctx.outcomes[Key(AXIS, "fires", split=FEATURES)].mean())
    return fires if what.column == "f1" else 1 - fires


def _floor(ctx: Context, what: _Mean, value: Estimate) -> Maybe | None:
    if what.floor is None:
        return None
    fact = ctx.outcomes.facts.get(Key(AXIS, "null", what.floor))
    if fact is not None:
        return scalar(fact, value)
    where = f"has_{what.floor}" if what.where == f"has_{what.column}" else what.where
    found = _average(ctx, what.floor, what.split, where)
    return found if isinstance(found, Estimate) else None


def _null(ctx: Context) -> float:
    return ctx.outcomes.facts[Key(AXIS, "null", "matched_cosine")]


def _calibrated(ctx: Context) -> list[Entry]:
    """`(matched cosine − null) / (1 − null)`: 0 is what random decoders reach, 1 is best."""
    value, null = _average(ctx, "cosine", FEATURES, "matched"), _null(ctx)
    assert isinstance(value, Estimate), "every dictionary has a latent and every task a feature"
    value = (value - null) / (1 - null)
    return [
        Entry(
            AXIS,
            "matched_cosine_calibrated",
            value,
            ctx.bootstraps[FEATURES].n,
            floor=scalar(0.0, value),
            ceiling=scalar(1.0, value),
            note=f"random decoders of this size reach {null:.3f}",
        ),
        Entry(
            AXIS,
            "matched_cosine_null",
            scalar(null, value),
            0,
            direction="none",
            exact="a mean over random decoders",
        ),
    ]


def _frequent(ctx: Context) -> list[Entry]:
    """Matched cosine over features that fire at least once in 1,000 samples, and their share."""
    boot, outcomes = ctx.bootstraps[FEATURES], ctx.outcomes
    frequent = outcomes[Key(AXIS, "frequent", split=FEATURES)]
    both = frequent * outcomes[Key(AXIS, "matched", split=FEATURES)]
    value = boot.mean(outcomes[Key(AXIS, "cosine", split=FEATURES)], both)
    if isinstance(value, Undefined):
        reason = Undefined("no matched feature fires once in 1,000 samples")
        found = Entry(AXIS, "matched_cosine_frequent", reason, int(both.sum()))
    else:
        null = outcomes.facts[Key(AXIS, "null", "matched_cosine_frequent")]
        found = Entry(
            AXIS,
            "matched_cosine_frequent",
            value,
            int(both.sum()),
            floor=scalar(null, value),
            ceiling=scalar(1.0, value),
        )
    return [
        found,
        Entry(
            AXIS,
            "frequent_features",
            boot.mean(frequent),
            boot.n,
            direction="none",
            note="share of features that fire at least once in 1,000 test samples",
        ),
    ]


def _explained_variance(ctx: Context) -> Entry:
    """`1 − Σ‖x − x̂‖² / Σ‖x − x̄‖²`, x̄ the mean of the test samples; 1 is best, 0 is the mean's."""
    total = ctx.test.total(ctx.outcomes[Key(AXIS, "dev2")])
    error = ctx.test.total(ctx.outcomes[Key(AXIS, "err2")])
    unexplained = ratio(error, total, "the samples do not vary")
    if isinstance(unexplained, Undefined):
        return Entry(AXIS, "explained_variance", unexplained, ctx.test.n)
    value = 1 - unexplained
    return Entry(
        AXIS, "explained_variance", value, ctx.test.n, floor=scalar(0.0, value), ceiling=scalar(1.0, value)
    )


def _hedging(ctx: Context) -> Entry:
    boot = ctx.bootstraps[FEATURES]
    total = boot.total(ctx.outcomes[Key(AXIS, "hedging", split=FEATURES)])
    pairs = boot.total(ctx.outcomes[Key(AXIS, "hedging_pairs", split=FEATURES)])
    value = ratio(total, pairs, "no matched feature is correlated with another")
    entry = Entry(
        AXIS,
        "hedging",
        value,
        boot.n,
        direction="none",
        note="0 is best; over pairs of correlated features, towards their correlation's sign",
    )
    return _told(ctx, entry)


def _told(ctx: Context, entry: Entry) -> Entry:
    """An entry whose null is in its note, not its floor.

    Random rows lean nowhere: they read about 0, as the truth does, so there is no scale between.
    """
    null = ctx.outcomes.facts.get(Key(AXIS, "null", entry.name))
    if null is None or isinstance(entry.value, Undefined):
        return entry
    said = f"{entry.note}; null: random decoders of this size read {null + 0.0:.3f}"
    return replace(entry, note=said, ceiling=scalar(0.0, entry.value))
