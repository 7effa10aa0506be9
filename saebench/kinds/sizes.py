"""How much of a task a budget is: sizes by name, and in between."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from saebench.errors import OptionError
from saebench.spec import budget_times

S = TypeVar("S", bound=Any)


@dataclass(frozen=True)
class Sizes(Generic[S]):
    """A kind's budgets: `quick`, or `2.5x` for two and a half times as many independent units as quick."""

    named: Mapping[str, S]
    units: Callable[[S], int]
    """What intervals rest on: names, entities, samples."""

    def times(self, budget: str) -> float:
        """Units of a budget over those of `quick`."""
        said = budget_times(budget)
        return self.units(self.named[budget]) / self.units(self.named["quick"]) if said is None else said

    def of(self, budget: str) -> S:
        """The size of a budget; between two named ones every part of it grows as a power of the units.

        Raises:
            OptionError: for less than `tiny` or more than `standard`.
        """
        if budget in self.named:
            return self.named[budget]
        times, names = self.times(budget), ("tiny", "quick", "standard")
        ends = [self.times(name) for name in names]
        if not ends[0] <= times <= ends[-1]:
            raise OptionError(
                f"A budget of {budget} is not between tiny and standard. Expected {math.ceil(100 * ends[0]) / 100:g}x"
                f" to {math.floor(100 * ends[-1]) / 100:g}x on tasks of this kind, or full."
            )
        at = next(i for i in range(len(names) - 1) if times <= ends[i + 1])
        share = math.log(times / ends[at]) / math.log(ends[at + 1] / ends[at])
        low, high = (self.named[name] for name in names[at : at + 2])
        parts = (round(a ** (1 - share) * b**share) for a, b in zip(low, high, strict=True))
        return type(low)(*parts)
