"""Truth: do scores rank SAEs as recovery of the true features does, at equal L0?"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from saebench.audit.cards import Card, Question, Verdict
from saebench.audit.evidence import EXPLAINED, RECOVERY, Evidence, board_of
from saebench.audit.thresholds import BARS, L0_BANDS, LEAST_IN_BAND

LENS = "truth"
N_DRAWS = 300
OVERALL = "overall"
ALL_FAMILIES = 6
FEW = f"fewer than {LEAST_IN_BAND} SAEs in every L0 band"


class Correlations:
    """Rank correlations of columns with both measures of recovery inside L0 bands, with their draws.

    Bands are averaged with their sizes as weights. Draws resample training runs, since snapshots of one
    run are no independent SAEs. Column i of the result belongs to `names[i]`; the last axis is recovery.
    """

    def __init__(self, frame: pd.DataFrame, names: Sequence[str]) -> None:
        self.names = list(names)
        run = frame["architecture"] + frame["share"].astype(str) + "/" + frame["seed"].astype(str)
        _, self._run = np.unique(run, return_inverse=True)
        self._band = np.digitize(frame["band"], L0_BANDS)
        self._x = frame[self.names].to_numpy(float).T
        self._t = frame[list(RECOVERY)].to_numpy(float).T
        self.value = self._of(np.arange(len(frame)))
        rng = np.random.default_rng(0)
        members = [np.flatnonzero(self._run == r) for r in range(self._run.max() + 1)]
        self.draws = np.stack(
            [
                self._of(np.concatenate([members[r] for r in rng.integers(len(members), size=len(members))]))
                for _ in range(N_DRAWS)
            ]
        )

    def _of(self, at: np.ndarray) -> Float[np.ndarray, "names recovery"]:
        total, weight = np.zeros((len(self._x), len(self._t))), np.zeros((len(self._x), 1))
        for band in range(len(L0_BANDS) + 1):
            here = at[self._band[at] == band]
            x, t = self._x[:, here], self._t[:, here]
            there = np.isfinite(x)
            for pattern in np.unique(there, axis=0):
                rows = (there == pattern).all(1)
                n = int(pattern.sum())
                if n < LEAST_IN_BAND:
                    continue
                total[rows] += n * _spearman(x[rows][:, pattern], t[:, pattern])
                weight[rows] += n
        return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)

    def interval(self, name: str, against: str | None = None) -> tuple[float, float, float] | None:
        """The weaker of the two correlations with its interval, or of their differences to another column's."""
        i = self.names.index(name)
        value, draws = self.value[i], self.draws[:, i]
        if against is not None:
            j = self.names.index(against)
            value, draws = value - self.value[j], draws - self.draws[:, j]
        if not np.isfinite(value).all():
            return None
        weak = int(value.argmin())
        low, high = np.nanquantile(draws[:, weak], [0.025, 0.975])
        return float(value[weak]), min(float(low), float(value[weak])), max(float(high), float(value[weak]))


def _spearman(x: Float[np.ndarray, "a n"], t: Float[np.ndarray, "b n"]) -> Float[np.ndarray, "a b"]:
    """Spearman's correlation; 0 for a score that is the same for all: it ranks nothing."""
    ranks = [stats.rankdata(m, axis=1) for m in (x, t)]
    centred = [r - r.mean(1, keepdims=True) for r in ranks]
    norm = [np.sqrt((c**2).sum(1, keepdims=True)) for c in centred]
    scale = norm[0] @ norm[1].T
    return np.divide(centred[0] @ centred[1].T, scale, out=np.zeros_like(scale), where=scale > 0)


def with_overall(frame: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """A column for the mean of the axes; an undefined one counts 0, as it does where dictionaries are ordered."""
    return frame.assign(**{OVERALL: frame[list(axes)].fillna(0.0).mean(axis=1)})


def defined(frame: pd.DataFrame, name: str) -> bool:
    """Whether a score exists for at least half of the SAEs."""
    return name in frame and bool(frame[name].notna().mean() >= 0.5)


@cache
def _ask(board: str, axis: str, check: str) -> Question:
    return Question(LENS, board, axis, check)


def cards(evidence: Evidence) -> Iterator[Card]:
    overall = []
    for name in evidence.families:
        found = list(family(evidence, name))
        yield from found
        overall += [c for c in found if c.axis == OVERALL]
    if overall:
        yield _summary(
            overall, "recovery", "families in which the overall ordering reaches the bar", BARS.truth_families
        )
        yield _summary(
            overall,
            "above explained variance",
            "families in which it is credibly above it",
            len(evidence.families),
        )


def family(evidence: Evidence, name: str) -> Iterator[Card]:
    """Cards of one family: every axis and the mean of those that are defined there."""
    frame, board = evidence.family(name), board_of(name)
    there = [axis for axis in evidence.axes if defined(frame, axis)]
    frame = with_overall(frame, there)
    old = {axis: f"v1_{axis}" for axis in there if defined(frame, f"v1_{axis}")}
    found = Correlations(frame, [*there, OVERALL, EXPLAINED, *old.values()])
    for axis in (*evidence.axes, OVERALL):
        if axis not in (*there, OVERALL):
            yield _ask(board, axis, "recovery").missing("undefined for more than half of the SAEs")
            continue
        rows = [f"truth.csv: {len(frame)} SAEs"]
        got = found.interval(axis)
        if got is None:
            yield _ask(board, axis, "recovery").missing(FEW)
            continue
        yield _recovery(_ask(board, axis, "recovery"), got, rows)
        more = found.interval(axis, EXPLAINED)
        if more is not None:
            ask = _ask(board, axis, "above explained variance")
            yield ask.above(*more, 0.0, "its correlation minus explained variance's", rows)
        then = found.interval(axis, old[axis]) if axis in old else None
        if then is not None:
            ask = _ask(board, axis, "against version 1")
            yield ask.stated(*then, "its correlation minus version 1's", rows)


def _recovery(ask: Question, got: tuple[float, float, float], rows: Sequence[str]) -> Card:
    """The bar for the correlation itself, and a lower one for the end of its interval."""
    value, low, high = got
    reason = "the weaker of the rank correlations with matched cosine and feature F1, inside L0 bands"
    if value >= BARS.truth and low > BARS.truth_low:
        return ask.above(value, low, high, BARS.truth_low, reason, rows)
    if high < BARS.truth:
        return ask.above(value, low, high, BARS.truth, reason, rows)
    card = ask.above(value, low, high, BARS.truth, reason, rows)
    return replace(card, verdict=Verdict.PROVISIONAL)


def _summary(cards: list[Card], check: str, reason: str, bar: int) -> Card:
    measured = [c for c in cards if c.check == check]
    if len(measured) < ALL_FAMILIES:
        why = f"{len(measured)} of {ALL_FAMILIES} families have enough SAEs"
        return _ask("all families", OVERALL, check).missing(why)
    passed = [c.board for c in cards if c.check == check and c.verdict == Verdict.PASS]
    n = float(len(passed))
    reason = f"{reason}: {', '.join(b.split(' · ')[0] for b in passed) or 'none'}"
    return _ask("all families", OVERALL, check).above(n, n, n, bar - 1, reason, passed)
