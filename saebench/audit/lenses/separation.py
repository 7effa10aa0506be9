"""Separation: are SAEs farther apart than one SAE is from itself on other prompts?"""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from scipy import stats

from saebench.audit.cards import Card, Question
from saebench.audit.evidence import Evidence
from saebench.audit.lenses.repeatability import SAES, noise, repeats, table, too_few
from saebench.audit.rows import Row, Rows, difference
from saebench.audit.thresholds import BARS, ENDS
from saebench.scoring.estimates import holm

LENS = "separation"
_DRAWS = 2000


def cards(evidence: Evidence) -> Iterator[Card]:
    for board in evidence.boards:
        for axis in evidence.axes:
            rows = evidence.rows.where(board=board, axis=axis)
            yield spread(rows, Question(LENS, board, axis, "spread over noise"))
            yield away(rows.first.where(group="trained"), Question(LENS, board, axis, ENDS))
            yield told_apart(rows.first, Question(LENS, board, axis, "pairs told apart"))
            yield decisions(rows, Question(LENS, board, axis, "quick against full"))


def spread(rows: Rows, ask: Question) -> Card:
    """SD of SAEs' means over SD of one SAE between draws of prompts; SAEs are resampled, and the noise's law."""
    values = table(repeats(rows))
    if values is None:
        return ask.missing(too_few(repeats(rows)))
    sd, freedom = noise(values, paired=False)
    means = values.mean(1)
    names = repeats(rows).distinct("name")
    if sd == 0:
        alike = bool(np.ptp(means) == 0)
        return ask.missing("every SAE has the same score" if alike else "draws of prompts do not move it")
    rng = np.random.default_rng(0)
    sds = means[rng.integers(len(means), size=(_DRAWS, len(means)))].std(1, ddof=1)
    law = sds / (sd * np.sqrt(rng.chisquare(freedom, _DRAWS) / freedom))
    low, high = np.quantile(law, [0.025, 0.975])
    reason = f"SD of {len(means)} SAEs over SD of one between {values.shape[1]} draws of prompts"
    value = float(means.std(ddof=1) / sd)
    return ask.above(value, min(value, float(low)), max(value, float(high)), BARS.separation, reason, names)


def away(rows: Rows, ask: Question) -> Card:
    """How many SAEs have a score that is credibly neither at the floor nor at the ceiling, the end that most are at."""
    there = [(r.low, r.high, r.name) for r in rows if r.low is not None and r.high is not None]
    if not there:
        return ask.missing(_why(list(rows)))
    counts = {end: sum(not low <= end <= high for low, high, _ in there) for end in (0.0, 1.0)}
    end, n = min(counts.items(), key=lambda item: item[1])
    reason = f"of {len(there)} SAEs, those whose interval does not hold {end:g}"
    return ask.above(n, n, n, 0.0, reason, [name for *_, name in there])


def _pairs(rows: Rows) -> dict[tuple[str, str], tuple[float, bool]]:
    """For every pair of SAEs its difference, and whether it is credible after Holm's correction."""
    saes = sorted((r for r in rows if r.group in SAES and r.value is not None), key=lambda r: r.name)
    pairs = {(a.name, b.name): difference(a, b) for a, b in combinations(saes, 2)}
    found = {pair: d for pair, d in pairs.items() if d is not None}
    p = np.array([_p(d) for d in found.values()])
    credible = holm(p).rejected if len(p) else []
    return {pair: (d.value, bool(c)) for (pair, d), c in zip(found.items(), credible, strict=True)}


def _p(d) -> float:
    if d.error == 0:
        return 1.0 if d.value == 0 else 0.0
    return float(2 * stats.norm.sf(abs(d.value) / d.error))


def told_apart(rows: Rows, ask: Question) -> Card:
    """Share of pairs of SAEs that are credibly different."""
    found = _pairs(rows)
    if not found:
        return ask.missing(_why(list(rows)))
    share = float(np.mean([credible for _, credible in found.values()]))
    reason = f"of {len(found)} pairs of SAEs, after Holm's correction"
    return ask.stated(share, share, share, reason, sorted({n for pair in found for n in pair}))


def decisions(rows: Rows, ask: Question) -> Card:
    """Of the pairs that `full` tells apart, the share that `quick` puts in the same order."""
    full = {k: v for k, v in _pairs(rows.where(task_seed=0, budget="full")).items() if v[1]}
    quick = _pairs(rows.first)
    same = [np.sign(v[0]) == np.sign(quick[k][0]) for k, v in full.items() if k in quick]
    if not same:
        return ask.missing("the full budget was not measured here, or tells no pair apart")
    share, n = float(np.mean(same)), len(same)
    interval = stats.binomtest(int(sum(same)), n).proportion_ci(method="wilson")
    reason = f"of {n} pairs that the full budget tells apart"
    names = sorted({x for pair in full for x in pair})
    low, high = min(share, float(interval.low)), max(share, float(interval.high))
    return ask.above(share, low, high, BARS.decisions, reason, names)


def _why(rows: list[Row]) -> str:
    reasons = [r.reason for r in rows if r.group in SAES and r.reason]
    return f"undefined here: {reasons[0]}" if reasons else "no SAE was measured here"
