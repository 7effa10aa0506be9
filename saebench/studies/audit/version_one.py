"""The headlines of version 1, from outcomes that version 2 stores too: what version 2 has to beat.

Point values only, normalised as they were shown; the audit's truth lens ranks SAEs by them.
"""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from saebench.records.outcomes import Key, Outcomes
from saebench.scoring.base import Context
from saebench.scoring.causal import effects

_SHARE = 0.05
_REACH, _SEEN, _COVERED = 0.9, 0.5, 0.5


def headlines(out: Outcomes) -> dict[str, float | None]:
    """`v1_<axis>` by axis; None where version 1 was undefined."""
    found = effects(Context.of(out, n_resamples=200))
    causal = [name for name, effect in found.items() if effect.credible and float(effect.share) >= _SHARE]
    return {
        "v1_approximation": _approximation(out),
        "v1_control": _control(out, causal),
        "v1_interpretability": _interpretability(out, causal),
        "v1_occlusion": _occlusion(out, causal),
        "v1_oversplitting": _oversplitting(out, causal),
    }


def _approximation(out: Outcomes) -> float | None:
    """`½ (1 − |1 − sufficiency| + necessity)`, as a share of what the ceiling has."""

    def ld(key: Key) -> float:
        return float(out[key].mean(dtype=np.float64))

    clean, mean = (ld(Key("task", "ld", edit=edit)) for edit in ("clean", "mean"))

    def folded(hat: float, rest: float) -> float:
        whole = clean - mean
        return 0.5 * (1 - abs(1 - (hat - mean) / whole) + 1 - abs(rest - mean) / abs(whole))

    value = folded(*(ld(Key("approximation", "ld", edit=e)) for e in ("hat", "rest")))
    ceiling = folded(*(ld(Key("task", "ld", edit=e)) for e in ("ceiling", "ceiling_rest")))
    return value / ceiling


def _mean(out: Outcomes, key: Key) -> float:
    asks = out[Key("task", "asks", key.attribute)] > 0
    return float(out[key][asks].mean(dtype=np.float64))


def _control(out: Outcomes, causal: list[str]) -> float | None:
    """Agnostic edit success, mean over sizes, between no edit and the oracle's edit of each size."""
    values, floors, ceilings = [], [], []
    for name in causal:
        floor, best = (_mean(out, Key("task", "success", name, e)) for e in ("none", "ceiling"))
        if abs(best - floor) < 1e-9:
            continue
        keys = list(out.find("control", "success", attribute=name, edit="agnostic"))
        sized = [Key("task", "success", name, "ceiling", key.k) for key in keys]
        values.append(np.mean([_mean(out, key) for key in keys]))
        ceilings.append(np.mean([_mean(out, s if s in out else s._replace(k=-1)) for s in sized]))
        floors.append(floor)
    if not values:
        return None
    floor = float(np.mean(floors))
    return (float(np.mean(values)) - floor) / (float(np.mean(ceilings)) - floor)


def _stars(out: Outcomes, name: str) -> np.ndarray:
    """F1* on `test` of the detector chosen for each value, ties averaged."""
    by_label: dict[str, list[float]] = {}
    for key in out.find("interpretability", "hit", attribute=name, edit="", k=0):
        hit = out[key]
        tp, fp, fn = (float((hit == what).sum()) for what in (1, 2, 3))
        by_label.setdefault(key.label.rsplit("|", 1)[0], []).append(_star(tp, fp, fn, len(hit)))
    return np.array([np.mean(stars) for stars in by_label.values()])


def _star(tp: float, fp: float, fn: float, n: int) -> float:
    f1 = 2 * tp / (2 * tp + fp + fn) if tp else 0.0
    p = (tp + fn) / n
    chance = 2 * p / (1 + p)
    return (f1 - chance) / (1 - chance) if chance < 1 else 0.0


def _interpretability(out: Outcomes, causal: list[str]) -> float | None:
    names = [name for name in causal if len(_stars(out, name))]
    if not names:
        return None
    value = np.mean([_stars(out, name).mean() for name in names])
    null = np.mean([_null(out, name) for name in names])
    return float((value - null) / (1 - null))


def _null(out: Outcomes, name: str) -> float:
    return float(np.mean([v for k, v in out.facts.items() if k[:3] == ("interpretability", "null", name)]))


def _occlusion(out: Outcomes, causal: list[str]) -> float | None:
    """Coverage of the weaker attribute over that of the stronger one, at most 1, mean over pairs."""
    norm = {name: out.facts[Key("task", "norm", name)] for name in causal}
    found = []
    for pair in combinations(causal, 2):
        strong, weak = sorted(pair, key=lambda name: -norm[name])
        stars = [_stars(out, name) for name in (strong, weak)]
        if not all(len(s) for s in stars):
            continue
        high, low = ((s >= _COVERED).mean() for s in stars)
        if high > max(0.0, _null(out, strong)):
            found.append(min(1.0, float(low / high)))
    return float(np.mean(found)) if found else None


def _oversplitting(out: Outcomes, causal: list[str]) -> float | None:
    """Mean over values of 1/n90 of the union grown and scored on `select`."""
    found = [list(_inverses(out, name)) for name in causal]
    return float(np.mean([np.mean(part) for part in found if part])) if any(found) else None


def _inverses(out: Outcomes, name: str) -> Iterator[float]:
    for key in out.find("oversplitting", "first", attribute=name, split="select"):
        first = out[key]
        size = int(np.abs(first).max(initial=0))
        if size == 0:
            yield 0.0
            continue
        place = np.where(np.abs(first) >= 1, np.abs(first) - 1, size).astype(int)
        tp = np.bincount(place[first > 0], minlength=size + 1)[:size].cumsum()
        fp = np.bincount(place[first < 0], minlength=size + 1)[:size].cumsum()
        positives = int((first > 0).sum())
        star = np.array([_star(t, f, positives - t, len(first)) for t, f in zip(tp, fp, strict=True)])
        yield 1 / (1 + int((star >= _REACH * star.max()).argmax())) if star.max() >= _SEEN else 0.0
