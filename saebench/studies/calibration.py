"""Which penalty gives which L0: a short search, so that architectures are compared at equal L0.

An L1 or L0 weight says nothing about how many latents will be on. A trained SAE does; its L0 falls as
the weight grows, not always smoothly: where a weight kills all latents at once, some L0s cannot be had.
"""

from collections.abc import Callable, Sequence
from math import log, sqrt
from typing import Any, NamedTuple

import torch

from saebench.dictionaries.training import ARCHITECTURES
from saebench.synthetic.generator import Generator
from saebench.synthetic.training import Recipe, fit

CLOSE = log(1.05)
"""The search ends at an L0 that differs by no more than a twentieth."""
REACHED = log(1.25)
"""An L0 that is farther from the wanted one than by a quarter was not reached."""
_LOW, _HIGH = 0.01, 30.0
_MOST = 8
_SAMPLES = 4000


class Level(NamedTuple):
    """A wanted L0, and the sparsity that came closest."""

    wanted: float
    sparsity: float
    l0: float

    @property
    def reached(self) -> bool:
        return _apart(self.l0, self.wanted) <= REACHED


def _apart(l0: float, wanted: float) -> float:
    return abs(log(max(l0, 1e-9) / wanted))


def search(l0_of: Callable[[float], float], wanted: Sequence[float]) -> list[Level]:
    """A penalty for every wanted L0 by bisection on a logarithmic scale, at most 8 tries each.

    `l0_of` should fall; tries for one L0 also narrow the search for the others.
    """
    known: dict[float, float] = {}
    return [_one(l0_of, target, known) for target in wanted]


def _one(l0_of: Callable[[float], float], wanted: float, known: dict[float, float]) -> Level:
    for _ in range(_MOST):
        if known and _apart(known[best := _nearest(known, wanted)], wanted) <= CLOSE:
            return Level(wanted, best, known[best])
        low = max((c for c, l0 in known.items() if l0 >= wanted), default=_LOW)
        high = min((c for c, l0 in known.items() if l0 < wanted and c > low), default=_HIGH)
        # three digits say what it was; nobody types more
        middle = float(f"{sqrt(low * high):.3g}")
        if middle in known:
            break
        known[middle] = l0_of(middle)
    best = _nearest(known, wanted)
    return Level(wanted, best, known[best])


def _nearest(known: dict[float, float], wanted: float) -> float:
    return min(known, key=lambda c: _apart(known[c], wanted))


def mean_l0(made: Generator, sae: Any) -> float:
    """Mean number of latents on over 4,000 samples of their own."""
    x = made.acts(made.sample(_SAMPLES, 6)).to(made.device)
    with torch.no_grad():
        return float((sae.encode(x) != 0).sum(1).float().mean())


def levels(made: Generator, recipe: Recipe, wanted: Sequence[float]) -> list[Level]:
    """The sparsity of a recipe's architecture for every wanted L0.

    A `k` is set, rounded where it has to be whole; a penalty is searched by training with the
    recipe's own seed and number of samples.
    """
    entry = ARCHITECTURES[recipe.architecture]
    if entry.whole:
        whole = [max(1, round(target)) for target in wanted]
        return [Level(t, k, k) for t, k in zip(wanted, whole, strict=True)]
    if entry.sparsity == "k":
        return [Level(target, round(target, 2), round(target, 2)) for target in wanted]
    return search(lambda c: mean_l0(made, fit(made, recipe.with_sparsity(c))), wanted)
