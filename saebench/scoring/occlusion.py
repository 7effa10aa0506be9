"""Occlusion scores from outcomes (docs/methods.md §7) [PE §6, A.14; ours]."""

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from saebench.records.outcomes import Key
from saebench.scoring import read_write
from saebench.scoring.base import Context, Entry, Headline
from saebench.scoring.control import average
from saebench.scoring.detection import detect, key_fact, scalar
from saebench.scoring.estimates import Estimate, Maybe, Undefined, ratio
from saebench.scoring.read_write import NULL, ReadWrite

AXIS = "occlusion"
THRESHOLD = 0.5
TAUS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the strong attribute's atom that the surgical check takes away."""
DOSES = (0.5, 1.0, 2.0, 4.0)
"""Multiples of the weak attribute's atom that are added to find how large it would have to be."""
ELSEWHERE = "reads_elsewhere"
"""Fact of a dictionary that encodes another hook point than it writes (a transcoder)."""
NOT_ENCODED = "it encodes another hook point than it writes: changes of what it writes are not encoded"
NOTHING_TO_HIDE = "nothing can hide another here: no two attributes differ credibly in size"
OWN_SIZE = "the size of the attribute itself, not of what a dictionary makes of it"


class Pair(NamedTuple):
    """Two causal attributes, neither following from the other, of credibly different size."""

    strong: str
    weak: str
    ratio: Estimate
    """Size of the strong one over that of the weak one, √(D / values) each; above 1."""

    @property
    def name(self) -> str:
        return f"{self.weak}<{self.strong}"


def pairs(ctx: Context) -> list[Pair]:
    """Which attribute could hide which: a matter of the task, whatever the dictionary."""
    found = []
    for one, two in combinations(read_write.scored(ctx), 2):
        if follows(ctx, one, two) or follows(ctx, two, one):
            continue
        sizes = {name: _size(ctx, name) for name in (one, two)}
        strong, weak = sorted(sizes, key=lambda name: -float(sizes[name]))
        if (sizes[strong] - sizes[weak]).excludes_zero:
            found.append(Pair(strong, weak, (sizes[strong] / sizes[weak]).map(_root)))
    return found


def follows(ctx: Context, child: str, parent: str) -> bool:
    """Whether the parent's value follows from the child's, as a continent from a country."""
    declared = ctx.outcomes.attributes[child].parent == parent
    return declared or Key("task", "follows", f"{child}>{parent}") in ctx.outcomes.facts


def _size(ctx: Context, name: str) -> Estimate:
    size = read_write.available(ctx, name)
    assert isinstance(size, Estimate), "an attribute is scored only where it is there"
    return size


def _root(x: Any) -> Any:
    return np.sqrt(np.maximum(x, 0.0))


def score(ctx: Context) -> tuple[Headline, list[Entry]]:
    n, entries, retained = ctx.test.n, [], []
    for pair in pairs(ctx):
        weak, strong, null = (
            read_write.read(ctx, name, edit)
            for name, edit in ((pair.weak, ""), (pair.strong, ""), (pair.strong, NULL))
        )
        assert isinstance(weak, ReadWrite) and isinstance(strong, ReadWrite) and isinstance(null, ReadWrite)
        retention = retained_share(pair, weak, strong, null)
        retained.append(retention)
        limit = detection_limit(ctx, pair, weak, strong)
        entries += [
            Entry(AXIS, "retention", retention, n, pair.name),
            Entry(AXIS, "size_ratio", pair.ratio, n, pair.name, direction="none", note=OWN_SIZE),
            Entry(AXIS, "detection_limit", limit, n, pair.name, direction="lower"),
            *_coverage(ctx, pair),
            *_curves(ctx, pair),
        ]
    return _headline(ctx, retained), entries + _reconstructions(ctx)


def retained_share(pair: Pair, weak: ReadWrite, strong: ReadWrite, null: ReadWrite) -> Maybe:
    """`min(1, max(0, W_weak) / W_strong)`; undefined where the strong one is not written above the null."""
    if not (strong.written - null.written).excludes_zero or float(strong.written) <= float(null.written):
        return Undefined(f"{pair.strong} is not written above its null: there is nothing to be hidden behind")
    kept = ratio(weak.written, strong.written, f"what is written of {pair.strong} may be nothing")
    return kept if isinstance(kept, Undefined) else kept.map(lambda x: np.clip(x, 0.0, 1.0))


def detection_limit(ctx: Context, pair: Pair, weak: ReadWrite, strong: ReadWrite) -> Maybe:
    """How many times larger the weak attribute would have to be to be written as the strong one is.

    `a + τ u_weak` is encoded for τ up to 4; what is written of it is held against the `1 + τ` times that
    is there. 1 is best: it is written as well as it is. Interpolated between doses.
    """
    size = _size(ctx, pair.weak)
    keys = [Key(AXIS, "written", pair.weak, "plus", round(100 * dose)) for dose in DOSES]
    if not all(key in ctx.outcomes for key in keys):
        why = NOT_ENCODED if _elsewhere(ctx) else "its codes come from labels, whatever the activation"
        return Undefined(why)
    written = [weak.written]
    for key, dose in zip(keys, DOSES, strict=True):
        written.append(ctx.mean(key) / (size * (1 + dose)))
    value = _crossing(np.stack([w.value for w in written])[:, None], np.atleast_1d(strong.written.value))
    draws = _crossing(np.stack([w.draws for w in written]), strong.written.draws)
    if not np.isfinite(value[0]):
        return Undefined(f"not written as {pair.strong} is even at {1 + DOSES[-1]:g} times its size")
    return Estimate(value[0], draws)


def _elsewhere(ctx: Context) -> bool:
    return Key(AXIS, ELSEWHERE) in ctx.outcomes.facts


def _crossing(curve: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Factor `1 + τ` at which each curve over (0, *doses) `[6, n]` first reaches its level; ∞ if never."""
    at = 1 + np.array([0.0, *DOSES])
    reached = curve >= level
    first = np.argmax(reached, axis=0)
    columns = np.arange(curve.shape[1])
    before = np.maximum(first - 1, 0)
    low, high = curve[before, columns], curve[first, columns]
    share = np.divide(level - low, high - low, out=np.zeros_like(high), where=high > low)
    found = at[before] + share * (at[first] - at[before])
    return np.where(reached.any(axis=0), np.where(first == 0, 1.0, found), np.inf)


def _coverage(ctx: Context, pair: Pair) -> list[Entry]:
    """PE's form: `R_weak / R_strong` and `R_weak − R_strong`, R the share of values with F1* ≥ ½."""
    weak, strong = (detect(ctx, "interpretability", name) for name in (pair.weak, pair.strong))
    if weak is None or strong is None:
        return []
    low, high = weak.coverage(THRESHOLD), strong.coverage(THRESHOLD)
    covered = ratio(low, high, f"no value of {pair.strong} may be detected")
    n = ctx.test.n
    return [
        Entry(AXIS, "coverage_ratio", covered, n, pair.name),
        Entry(AXIS, "coverage_difference", low - high, n, pair.name),
    ]


def _curves(ctx: Context, pair: Pair) -> list[Entry]:
    """What is written of the weak one, and its coverage, as the strong one's atom goes; `k` is 100 τ."""
    edit, size = f"minus:{pair.strong}", _size(ctx, pair.weak)
    found = []
    for place, tau in enumerate(TAUS):
        axis, kind, k = (AXIS, edit, place) if place else ("interpretability", "", 0)
        if place and _elsewhere(ctx):
            found += [
                Entry(AXIS, name, Undefined(NOT_ENCODED), ctx.test.n, pair.weak, edit, round(100 * tau))
                for name in ("weak_written", "weak_coverage")
            ]
            continue
        key = Key(AXIS, "written", pair.weak, edit, place) if place else Key(axis, "written", pair.weak)
        hits = detect(ctx, axis, pair.weak, kind, k)
        if key not in ctx.outcomes or hits is None:
            return []
        for name, value in (
            ("weak_written", ctx.mean(key) / size),
            ("weak_coverage", hits.coverage(THRESHOLD)),
        ):
            found.append(Entry(AXIS, name, value, ctx.test.n, pair.weak, edit, round(100 * tau)))
    return found


def _reconstructions(ctx: Context) -> list[Entry]:
    """`1 − mean_v ‖E[â|v] − E[a|v]‖² / mean_v ‖E[a|v] − ā‖²`, where class means differ credibly."""
    found = []
    for name in ctx.outcomes.attributes:
        value = key_fact(ctx, AXIS, "attribute_reconstruction", name)
        if value is None:
            continue
        there = read_write.available(ctx, name)
        shown = there if isinstance(there, Undefined) else scalar(value, there)
        why = "from class means over all test prompts; not resampled"
        found.append(Entry(AXIS, "attribute_reconstruction", shown, ctx.test.n, name, exact=why))
    return found


def _headline(ctx: Context, retained: list[Maybe]) -> Headline:
    """Mean over pairs."""
    defined = [r for r in retained if isinstance(r, Estimate)]
    missing = next((r for r in retained if isinstance(r, Undefined)), Undefined(NOTHING_TO_HIDE))
    if not defined:
        return Headline(missing, missing, missing, ctx.test.n)
    value = average(defined)
    note = None
    if len(defined) < len(retained):
        note = f"{len(defined)} of {len(retained)} pairs; {missing.reason}"
    return Headline(value, scalar(0.0, value), scalar(1.0, value), ctx.test.n, note)
