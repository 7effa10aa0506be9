"""F1* of chosen detectors, as estimates, from what they did on each prompt."""

from collections import defaultdict
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from saebench.records.outcomes import Key
from saebench.scoring.base import Context
from saebench.scoring.estimates import Estimate

TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE = 1, 2, 3
"""What a detector did on a prompt, as stored in the column `hit`; 0 is a true negative."""
MIN_CLUSTERS = 5
"""Values whose positives stand in fewer test clusters than this are counted: one city can decide them."""


class Detection(NamedTuple):
    """One property's values: F1* (and F1) of the detector chosen for each, ties averaged."""

    f1_star: Estimate
    f1: Estimate
    labels: tuple[str, ...]
    drawn: Float[np.ndarray, "n_resamples n_values"]
    """How often each value's positives were drawn, 1 on average: values are resampled with prompts."""
    thin: int
    """Values whose positives stand in fewer than 5 test clusters."""

    @property
    def note(self) -> str | None:
        if not self.thin:
            return None
        return f"{self.thin} of {len(self.labels)} values have fewer than {MIN_CLUSTERS} test clusters"

    def mean(self, of_values: Estimate) -> Estimate:
        """Mean over values; in a resample each counts as often as it was drawn."""
        return mean_over_values(of_values, self.drawn)

    def coverage(self, threshold: float) -> Estimate:
        """Share of values with F1* at or above the threshold."""
        reached = self.f1_star.map(lambda x: (x >= threshold).astype(float))
        return self.mean(reached).chosen(bounds=(0.0, 1.0))


def mean_over_values(of_values: Estimate, drawn: Float[np.ndarray, "n_resamples n_values"]) -> Estimate:
    """Mean over values; in a resample each counts as often as its positives were drawn.

    A value that was not drawn has no F1 there, and must not count as one with an F1 of 0.
    """
    known = np.where(drawn > 0, of_values.draws, 0.0)
    whole = drawn.sum(1)
    # a resample in which no value was drawn says nothing, and intervals leave it out
    draws = np.divide((known * drawn).sum(1), whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return Estimate(of_values.value.mean(), draws, normal=True, units=of_values.units)


def f1_and_star(tp: Estimate, fp: Estimate, fn: Estimate, n: Estimate) -> tuple[Estimate, Estimate]:
    """`F1 = 2TP/(2TP+FP+FN)`, and `max(0, (F1 − F1₀)/(1 − F1₀))` with `F1₀ = 2p/(1+p)`.

    An always-on detector is always at hand, so nothing is worse than 0. A resample moves recall and
    the rate of false alarms; the prevalence `p` stays what it is. It is a property of the task's
    design, and where a value is itself a unit of resampling (a name) it would double whenever the
    value is drawn twice.
    """
    positives, share = tp + fn, (tp.value + fn.value) / n.value
    recall, alarms = tp / positives, fp / (n - positives)
    hits, false = recall * share, alarms * (1 - share)
    f1 = (2 * hits / (hits + share + false)).map(_zero_if_empty)
    chance = 2 * share / (1 + share)
    return f1, ((f1 - chance) / (1 - chance)).map(lambda x: np.maximum(_zero_if_empty(x), 0.0))


def _zero_if_empty(x: np.ndarray) -> np.ndarray:
    # 0/0 without a positive or a hit: F1 is 0 where TP is 0
    return np.where(np.isfinite(x), x, 0.0)


def detect(ctx: Context, axis: str, name: str, edit: str = "", k: int = 0) -> Detection | None:
    """The stored hits of one property, or None if none of its values was looked for."""
    keys = list(ctx.outcomes.find(axis, "hit", attribute=name, edit=edit, k=k))
    if not keys:
        return None
    hits = ctx.outcomes.matrix(keys)
    tp, fp, fn = (ctx.test.total(hits == what) for what in (TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE))
    n = ctx.test.total(np.ones((ctx.test.n, 1)))
    f1, star = f1_and_star(tp, fp, fn, n)
    columns: dict[str, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        columns[key.label.rsplit("|", 1)[0]].append(i)
    groups = list(columns.values())
    first = [group[0] for group in groups]
    thin = sum(_clusters_of(ctx, hits[:, at]) < MIN_CLUSTERS for at in first)
    drawn = ((tp + fn) / (tp.value + fn.value)).draws[:, first]
    return Detection(_grouped(star, groups), _grouped(f1, groups), tuple(columns), drawn, thin)


def _clusters_of(ctx: Context, hits: np.ndarray) -> int:
    positive = np.isin(hits, (TRUE_POSITIVE, FALSE_NEGATIVE))
    return len(np.unique(ctx.outcomes.cluster["test"][positive]))


def _grouped(estimate: Estimate, groups: list[list[int]]) -> Estimate:
    """Averages the columns of each group: detectors that tied on `select`."""
    value = np.stack([estimate.value[g].mean() for g in groups])
    draws = np.stack([estimate.draws[:, g].mean(1) for g in groups], axis=1)
    return Estimate(value, draws, normal=True, units=estimate.units)


def null(ctx: Context, name: str) -> float:
    """Mean F1* of the label-permuted choice; a number of the dictionary, without sampling error."""
    facts = ctx.outcomes.facts
    found = [v for key, v in facts.items() if key[:3] == ("interpretability", "null", name)]
    return float(np.mean(found))


def null_spread(ctx: Context, name: str) -> float:
    """Standard deviation of the permuted choices."""
    facts = ctx.outcomes.facts
    found = [v for key, v in facts.items() if key[:3] == ("interpretability", "null", name)]
    return float(np.std(found, ddof=1)) if len(found) > 1 else 0.0


def properties(ctx: Context, axis: str = "interpretability") -> list[str]:
    """Attributes and conjunctions with stored hits, in order."""
    found = dict.fromkeys(
        key.attribute for key in ctx.outcomes.columns if key.axis == axis and key.score == "hit"
    )
    return list(found)


def scalar(value: float, like: Estimate) -> Estimate:
    """A fact as an estimate without sampling error."""
    return Estimate(np.array(float(value)), np.full(len(like.draws), float(value)))


def key_fact(ctx: Context, axis: str, score: str, attribute: str = "", k: int = -1) -> float | None:
    return ctx.outcomes.facts.get(Key(axis, score, attribute, k=k))
