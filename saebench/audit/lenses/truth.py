"""Truth: do scores rank SAEs as recovery of what is true does, at equal L0?

On the synthetic families recovery is that of their true features, on planted models that of the planted
subspaces. Checks on SAEs that nothing was chosen on end in "held out".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import pandas as pd

from saebench.audit.cards import Card, Question, Verdict
from saebench.audit.correlations import Correlations
from saebench.audit.evidence import (
    EXPLAINED,
    HELD_OUT,
    PLANTED,
    PLANTED_RECOVERY,
    RECOVERY,
    Evidence,
    board_of,
)
from saebench.audit.thresholds import BARS, FOLLOWS, LEAST_IN_BAND

LENS = "truth"
OVERALL, EVERY_AXIS, OLD = "overall", "mean of all axes", "version 1 overall"
MEASURES = "recovery"
"""Stands where an axis would for what is asked of the two measures of recovery."""
FAMILIES = "all families"
N_FAMILIES, LEAST_FAMILIES = 6, 3
FEW = f"fewer than {LEAST_IN_BAND} SAEs in every L0 band"
_WEAKER = {
    RECOVERY: "the weaker of the rank correlations with matched cosine and feature F1, inside L0 bands",
    PLANTED_RECOVERY: "the weaker of the rank correlations with subspace overlap and F1 of the values' atoms,"
    " inside each model",
}


class Known(NamedTuple):
    """SAEs of one family whose truth is known, and how their cards are named."""

    board: str
    end: str
    frame: pd.DataFrame
    recovery: tuple[str, str] = RECOVERY

    @property
    def rows(self) -> list[str]:
        table = "truth.csv" if self.recovery == RECOVERY else "planted.csv"
        return [f"{table}: {len(self.frame)} SAEs"]

    def ask(self, axis: str, check: str) -> Question:
        return _question(self.board, axis, check + self.end)


@cache
def _question(board: str, axis: str, check: str) -> Question:
    return Question(LENS, board, axis, check)


def with_means(frame: pd.DataFrame, axes: Sequence[str], ordered_by: Sequence[str]) -> pd.DataFrame:
    """Columns for the ordering and for the mean of all axes, of now and of version 1.

    An undefined axis counts 0.
    """
    means = {OVERALL: ordered_by, EVERY_AXIS: axes, OLD: [f"v1_{a}" for a in axes if f"v1_{a}" in frame]}
    return frame.assign(**{k: frame[list(v)].fillna(0.0).mean(axis=1) for k, v in means.items() if v})


def defined(frame: pd.DataFrame, name: str) -> bool:
    """Whether a score exists for at least half of the SAEs."""
    return name in frame and bool(frame[name].notna().mean() >= 0.5)


def cards(evidence: Evidence) -> Iterator[Card]:
    by: Sequence[str] | None = evidence.axes if evidence.history else None
    for end in ("", HELD_OUT):
        families = [
            Known(board_of(name), end, parts[end])
            for name in evidence.families
            if end in (parts := evidence.parts(name))
        ]
        if not families:
            continue
        single = [card for known in families for card in axes_of(known, evidence.axes)]
        yield from single
        general = [follows(axis, end, single) for axis in evidence.axes]
        yield from general
        # decided where definitions were chosen, and then held against what was held out
        by = by or [card.axis for card in general if card.verdict != Verdict.FAIL]
        overall = [card for known in families for card in ordering(known, evidence.axes, by)]
        yield from overall
        yield from _summaries(overall, end, len(families))
    if len(evidence.planted):
        known = Known(PLANTED, "", evidence.planted, PLANTED_RECOVERY)
        yield from axes_of(known, evidence.axes)
        yield from ordering(known, evidence.axes, by or evidence.axes)


def axes_of(known: Known, axes: Sequence[str]) -> Iterator[Card]:
    """What every axis says of recovery in one family, and how far its two measures agree."""
    frame = known.frame
    there = [axis for axis in axes if defined(frame, axis)]
    old = {axis: f"v1_{axis}" for axis in there if defined(frame, f"v1_{axis}")}
    found = Correlations(frame, [*there, EXPLAINED, *old.values(), known.recovery[0]], known.recovery)
    for axis in axes:
        ask = known.ask(axis, "recovery")
        if axis not in there:
            yield ask.missing("undefined for more than half of the SAEs")
            continue
        against = {"above explained variance": EXPLAINED} | (
            {"against version 1": old[axis]} if axis in old else {}
        )
        yield from _correlated(known, found, axis, against)
    agreement = found.interval(known.recovery[0])
    if agreement is not None:
        most = ((1 + agreement[0]) / 2) ** 0.5
        reason = (
            f"rank correlation of the two measures of recovery; no score can be above {most:.2f} with both"
        )
        yield known.ask(MEASURES, "agreement of its measures").stated(*agreement, reason, known.rows)


def ordering(known: Known, axes: Sequence[str], ordered_by: Sequence[str]) -> Iterator[Card]:
    """What the axes that order boards say together, beside the mean of all and that of version 1."""
    there, by = ([a for a in names if defined(known.frame, a)] for names in (axes, ordered_by))
    if not by:
        yield known.ask(OVERALL, "recovery").missing("no axis that orders boards is defined here")
        return
    frame = with_means(known.frame, there, by)
    names = [name for name in (OVERALL, EVERY_AXIS, OLD, EXPLAINED) if name in frame]
    found = Correlations(frame, names, known.recovery)
    against = {"above explained variance": EXPLAINED, "against the mean of all axes": EVERY_AXIS}
    yield from _correlated(
        known, found, OVERALL, against | ({"against version 1": OLD} if OLD in names else {})
    )


def _correlated(known: Known, found: Correlations, axis: str, against: Mapping[str, str]) -> Iterator[Card]:
    """The correlation of one score, and its lead on others'; the one on explained variance has a bar."""
    ask, got = known.ask(axis, "recovery"), found.interval(axis)
    if got is None:
        yield ask.missing(FEW)
        return
    yield _recovery(ask, got, known)
    for check, other in against.items():
        lead = found.interval(axis, other)
        if lead is None:
            continue
        reason = f"its correlation minus that of {other.removeprefix('recovery/').replace('_', ' ')}"
        if other == EXPLAINED:
            yield known.ask(axis, check).above(*lead, 0.0, reason, known.rows)
        else:
            yield known.ask(axis, check).stated(*lead, reason, known.rows)


def _recovery(ask: Question, got: tuple[float, float, float], known: Known) -> Card:
    """The bar for the correlation itself, and a lower one for the end of its interval."""
    value, low, high = got
    reason = _WEAKER[known.recovery]
    if value >= BARS.truth and low > BARS.truth_low:
        return ask.above(value, low, high, BARS.truth_low, reason, known.rows)
    card = ask.above(value, low, high, BARS.truth, reason, known.rows)
    return card if high < BARS.truth else replace(card, verdict=Verdict.PROVISIONAL)


def follows(axis: str, end: str, cards: Sequence[Card]) -> Card:
    """In which share of the families an axis credibly does not follow recovery."""
    ask = _question(FAMILIES, axis, FOLLOWS + end)
    here = [c for c in cards if (c.axis, c.check) == (axis, "recovery" + end)]
    measured = [c for c in here if c.verdict != Verdict.NOT_APPLICABLE]
    if len(measured) < LEAST_FAMILIES:
        return ask.missing(f"measured in {len(measured)} families, of {LEAST_FAMILIES} at least")
    lost = [c.board for c in measured if c.verdict == Verdict.FAIL]
    share = len(lost) / len(measured)
    reason = (
        f"share of {len(measured)} synthetic families in which it credibly does not follow recovery of the"
        f" true features: {_named(lost)}"
    )
    return ask.below(share, share, share, BARS.lost_families, reason, lost)


def _summaries(overall: Sequence[Card], end: str, families: int) -> Iterator[Card]:
    for check, reason, bar in (
        ("recovery", "families in which the overall ordering reaches the bar", BARS.truth_families),
        ("above explained variance", "families in which it is credibly above it", families),
    ):
        ask = _question(FAMILIES, OVERALL, check + end)
        measured = [c for c in overall if c.check == check + end and c.verdict != Verdict.NOT_APPLICABLE]
        if len(measured) < N_FAMILIES:
            yield ask.missing(f"{len(measured)} of {N_FAMILIES} families have enough SAEs")
            continue
        passed = [c.board for c in measured if c.verdict == Verdict.PASS]
        n = float(len(passed))
        yield ask.above(n, n, n, bar - 1, f"{reason}: {_named(passed)}", passed)


def _named(boards: Sequence[str]) -> str:
    return ", ".join(b.split(" · ")[0].removeprefix("synthetic/") for b in boards) or "none"
