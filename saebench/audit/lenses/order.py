"""Order: ceilings above SAEs, SAEs above dictionaries that learned nothing, later snapshots above earlier."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

from scipy import stats

from saebench.audit.cards import Card, Question, Verdict
from saebench.audit.evidence import Evidence
from saebench.audit.rows import Difference, Row, Rows, difference, worth
from saebench.audit.thresholds import BARS

LENS = "order"


def cards(evidence: Evidence) -> Iterator[Card]:
    for board in evidence.boards:
        rows = evidence.rows.first.where(board=board)
        for axis in evidence.axes:
            part = rows.where(axis=axis)
            yield ceiling(part, Question(LENS, board, axis, "ceiling"))
            yield above_null(part, Question(LENS, board, axis, "matched null"))
            yield random_directions(part, Question(LENS, board, axis, "random directions"))
            yield no_fall(part, Question(LENS, board, axis, "no fall in training"))
            yield rise(part, Question(LENS, board, axis, "rise in training"))
        yield twins(rows, Question(LENS, board, "all", "under-trained"), evidence.axes)


def ceiling(rows: Rows, ask: Question) -> Card:
    """The SAE that is farthest above the ceiling, which is 1."""
    saes = [row for row in rows.where(group="trained") if row.value is not None]
    if not saes:
        return ask.missing(_why(rows.where(group="trained")))
    top = max(saes, key=worth)
    low, high = (1.0 if v is None else v for v in (top.low, top.high))
    reason = f"{top.name} minus the ceiling"
    return ask.below(worth(top) - 1, low - 1, high - 1, BARS.ceiling_margin, reason, [top.name])


def above_null(rows: Rows, ask: Question) -> Card:
    """The SAE that is least above its own matched null."""
    found = dict(_against_null(rows))
    if not found:
        return ask.missing(_why(rows.where(group="null")))
    alone = [row.name for row in rows.where(group="trained") if rows.one(group="null", of=row.name) is None]
    name, least = min(found.items(), key=lambda item: item[1].value)
    beaten = sum(d.low <= BARS.above_null for d in found.values())
    reason = (
        f"{name} minus its matched random dictionary; {beaten} of {len(found)} SAEs not credibly above theirs"
    )
    if alone:
        reason += f"; measured without one: {', '.join(alone)}"
    card = ask.above(*least, BARS.above_null, reason, found)
    return replace(card, verdict=Verdict.PROVISIONAL) if alone and card.verdict == Verdict.PASS else card


def _against_null(rows: Rows) -> Iterator[tuple[str, Difference]]:
    for sae in rows.where(group="trained"):
        null = rows.one(group="null", of=sae.name)
        moved = None if null is None else difference(sae, null)
        if moved is not None:
            yield sae.name, moved


def random_directions(rows: Rows, ask: Question) -> Card:
    """The SAE that is least above the best random directions with one threshold for all, fitted to the task.

    Stated, without a bar: all of such a dictionary's latents serve the task, those of an SAE serve other text too.
    """
    best = max(
        (r for r in rows.where(group="reference") if ":random:" in r.name and r.value is not None),
        key=worth,
        default=None,
    )
    if best is None:
        return ask.missing("no random directions were measured here, or undefined")
    found = {r.name: difference(r, best) for r in rows.where(group="trained")}
    there = {name: d for name, d in found.items() if d is not None}
    if not there:
        return ask.missing(_why(rows.where(group="trained")))
    name, least = min(there.items(), key=lambda item: item[1].value)
    below = sum(d.high < 0 for d in there.values())
    level = sum(d.low <= 0 for d in there.values()) - below
    reason = f"{name} minus {best.name}; of {len(there)} SAEs {below} are credibly below it and {level} level with it"
    return ask.stated(*least, reason, [best.name, *there])


def twins(rows: Rows, ask: Question, axes: tuple[str, ...]) -> Card:
    """On how many axes every under-trained SAE lies credibly below its twin, the SAE it is named after."""
    short = rows.where(group="undertrained")
    names = short.distinct("name")
    if not names:
        return ask.missing("no under-trained SAE was measured here")
    lower = []
    for axis in axes:
        here = rows.where(axis=axis)
        pairs = [(short.one(axis=axis, name=n), here.one(group="trained", name=_twin(n))) for n in names]
        moved = [difference(twin, sae) for sae, twin in pairs if sae is not None and twin is not None]
        if moved and all(d is not None and d.low > 0 for d in moved):
            lower.append(axis)
    bar = BARS.undertrained_axes - 1
    reason = f"axes on which it is credibly lower: {', '.join(lower) or 'none'}"
    return ask.above(len(lower), len(lower), len(lower), bar, reason, names)


def _twin(name: str) -> str:
    return name.removesuffix("-undertrained")


def _runs(rows: Rows) -> list[list[Row]]:
    """Snapshots of every training run in order; runs of which one is undefined start where all are defined."""
    shots = rows.where(lambda r: r.value is not None, group="snapshot")
    runs = [sorted(shots.where(of=name), key=lambda r: r.step) for name in shots.distinct("of")]
    return [run for run in runs if len(run) > 1]


def no_fall(rows: Rows, ask: Question) -> Card:
    """The most credible fall between neighbouring snapshots, with an interval for all of them together."""
    steps = [
        (later, difference(later, earlier))
        for run in _runs(rows)
        for earlier, later in itertools.pairwise(run)
    ]
    steps = [(row, d) for row, d in steps if d is not None]
    if not steps:
        return ask.missing("no training run was measured here")
    z = float(stats.norm.ppf(1 - 0.025 / len(steps)))
    row, fall = min(steps, key=lambda step: step[1].value + z * step[1].error)
    high = fall.value + z * fall.error
    reason = f"{row.name} minus the snapshot before; interval for {len(steps)} steps together"
    # a fall is credible if the whole interval lies below 0: the upper end alone decides
    return ask.above(fall.value, high, high, BARS.fall, reason, [row.name])


def rise(rows: Rows, ask: Question) -> Card:
    """The training run that gains least from its first snapshot to its last."""
    ends = [(run[-1], difference(run[-1], run[0])) for run in _runs(rows)]
    found = [(row, d) for row, d in ends if d is not None]
    if not found:
        return ask.missing("no training run was measured here")
    row, least = min(found, key=lambda item: item[1].value)
    return ask.above(*least, 0.0, f"end minus start of {row.of}", [r.of for r, _ in found])


def _why(rows: Rows) -> str:
    """Why there is nothing to compare."""
    reasons = [row.reason for row in rows if row.reason]
    return f"undefined here: {reasons[0]}" if reasons else "no SAE was measured here"
