"""Repeatability: the same SAEs on other prompts. How far do scores move, and do their intervals say so?"""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from jaxtyping import Float
from scipy import stats

from saebench.audit.cards import Card, Question
from saebench.audit.evidence import Evidence
from saebench.audit.rows import Row, Rows, Z, worth
from saebench.audit.thresholds import BARS

LENS = "repeatability"
SAES = ("trained", "undertrained")


def cards(evidence: Evidence) -> Iterator[Card]:
    for board in evidence.boards:
        for axis in evidence.axes:
            rows = repeats(evidence.rows.where(board=board, axis=axis))
            yield tolerance(rows, evidence.tolerances.get(axis), Question(LENS, board, axis, "tolerance"))
            yield coverage(rows, Question(LENS, board, axis, "intervals"))


def repeats(rows: Rows) -> Rows:
    """The SAEs on the quick budget, at every task seed."""
    return rows.where(lambda r: r.group in SAES, budget="quick")


def table(rows: Rows) -> Float[np.ndarray, "n_saes n_seeds"] | None:
    """Values by SAE and task seed; None without at least two of both.

    Where some are missing, the SAEs and seeds that make the largest full table.
    """
    cells = {(r.name, r.task_seed): r.value for r in rows if r.value is not None}
    names, seeds = rows.distinct("name"), rows.distinct("task_seed")
    seeds.sort(key=lambda seed: -sum((name, seed) in cells for name in names))
    blocks = []
    for n in range(2, len(seeds) + 1):
        whole = [name for name in names if all((name, seed) in cells for seed in seeds[:n])]
        if len(whole) > 1:
            blocks.append([[cells[name, seed] for seed in seeds[:n]] for name in whole])
    return np.array(max(blocks, key=lambda block: len(block) * len(block[0])), float) if blocks else None


def too_few(rows: Rows) -> str:
    """Why there is no table of repeats."""
    seeds = rows.distinct("task_seed")
    if len(seeds) < 2:
        return "measured on one draw of prompts only" if seeds else "no SAE was measured here"
    return "undefined for all but one SAE, or at all but one draw of prompts"


def noise(values: Float[np.ndarray, "n_saes n_seeds"], paired: bool) -> tuple[float, int]:
    """Standard deviation of one SAE between draws of prompts, with its degrees of freedom.

    Paired: what all SAEs share at a seed is taken out, as it cancels when two are compared.
    """
    left = values - values.mean(1, keepdims=True)
    freedom = (values.shape[1] - 1) * values.shape[0]
    if paired:
        left = left - left.mean(0, keepdims=True)
        freedom = (values.shape[1] - 1) * (values.shape[0] - 1)
    return float(np.sqrt((left**2).sum() / freedom)), freedom


def reliable_difference(values: Float[np.ndarray, "n_saes n_seeds"]) -> tuple[float, float, float]:
    """The smallest difference of two SAEs on the same prompts that other prompts would confirm, 95 %."""
    sd, freedom = noise(values, paired=True)
    size = Z * np.sqrt(2) * sd
    low, high = (size * np.sqrt(freedom / stats.chi2.ppf(q, freedom)) for q in (0.975, 0.025))
    return size, float(low), float(high)


def tolerance(rows: Rows, allowed: float | None, ask: Question) -> Card:
    """The minimum reliable difference against what the regression gate tolerates."""
    values = table(rows)
    if values is None:
        return ask.missing(too_few(rows))
    found = reliable_difference(values)
    reason = f"minimum reliable difference over {values.shape[1]} draws of prompts; bar: the gate's tolerance"
    names = rows.distinct("name")
    if allowed is None:
        return ask.stated(*found, reason, names)
    return ask.below(*found, allowed, reason, names)


def coverage(rows: Rows, ask: Question) -> Card:
    """Share of pairs of draws whose values differ by no more than 1.96 standard errors of the difference."""
    names = rows.distinct("name")
    by_name = {name: [r for r in rows.where(name=name) if r.value is not None] for name in names}
    inside = {n: [_agree(a, b) for a, b in combinations(found, 2)] for n, found in by_name.items()}
    every = [hit for hits in inside.values() for hit in hits]
    if not every:
        return ask.missing(too_few(rows))
    share, n = float(np.mean(every)), len(every)
    # pairs of one SAE share draws: its n·(n−1)/2 pairs are worth about n − 1
    worth = sum(max(0, len(found) - 1) for found in by_name.values())
    interval = stats.binomtest(round(share * worth), worth).proportion_ci(method="wilson")
    reason = f"pairs of draws whose values agree within their intervals; {sum(every)} of {n}"
    low, high = min(share, float(interval.low)), max(share, float(interval.high))
    return ask.above(share, low, high, BARS.covered - 1e-9, reason, names)


def _agree(one: Row, other: Row) -> bool:
    errors = [0.0 if r.low is None or r.high is None else (r.high - r.low) / (2 * Z) for r in (one, other)]
    return abs(worth(one) - worth(other)) <= Z * float(np.hypot(errors[0], errors[1])) + 1e-12
