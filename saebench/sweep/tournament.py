"""`--keep-best`: SAEs that are credibly out are not scored further (docs/methods.md §2)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from saebench.errors import OptionError
from saebench.evaluation.units import Group, Unit
from saebench.scoring.axes import AXES
from saebench.scoring.stopping import credibly_better, mean_draws, out
from saebench.spec import BUDGETS, budget_times
from saebench.sweep.stages import SCHEMA, Found, Rule, Said, at, by_group, competes, where

BY = ("control",)
"""What is best, where no axis is named."""


Who = tuple[str, str | None]
"""An SAE by name and digest."""


class Player(NamedTuple):
    """An SAE in one stage."""

    name: str
    sha256: str | None
    id: str
    """Of its result."""
    value: float | None
    """Mean of the headlines that count; None where one is undefined, which drops nobody."""
    out: bool


class Stage(NamedTuple):
    """One budget's round in a group."""

    budget: str
    n_test: int
    players: tuple[Player, ...]


class KeepBest(Rule):
    """Tournaments, one a group, at growing budgets; controls join those that are left in the last one."""

    name = "keep-best"

    def __init__(self, text: str) -> None:
        keep, axes = Said.of("--keep-best", text)
        if keep != int(keep):
            raise OptionError(f"--keep-best {text}: {keep:g} SAEs cannot be kept. Expected a whole number.")
        self.keep, self.by = int(keep), axes or BY
        self._budgets: dict[Group, tuple[str, ...]] = {}
        self._units: dict[Group, list[Unit]] = {}
        self._stages: dict[Group, list[Stage]] = {}

    def first(self, units: Sequence[Unit]) -> list[Unit]:
        self._units = by_group(units)
        self._budgets = {group: stages(group.options.budget) for group in self._units}
        for group, members in self._units.items():
            if sum(map(competes, members)) <= self.keep:
                # nobody can be out
                self._budgets[group] = (group.options.budget,)
        return [unit for group in self._units for unit in self._round(group, None)]

    def next(self, found: Sequence[Found]) -> list[Unit]:
        results = {(f.unit.group, _who(f.unit)): f for f in found}
        units = []
        for group in self._units:
            number = len(self._stages.get(group, []))
            if number == len(self._budgets[group]):
                continue
            asked = [(u.group, _who(u)) for u in self._round(group, self._left(group)) if competes(u)]
            # those that failed are out of it
            playing = [results[who] for who in asked if who in results]
            if playing:
                stage = self._play(playing, len(self._budgets[group]))
                self._stages.setdefault(group, []).append(stage)
                units += self._round(group, self._left(group))
        return units

    def _round(self, group: Group, left: set[Who] | None) -> list[Unit]:
        """Units of a group's next stage: SAEs that are left, and in the last one the rest too."""
        number, budgets = len(self._stages.get(group, [])), self._budgets[group]
        if number == len(budgets):
            return []
        last = number == len(budgets) - 1
        units = []
        for unit in self._units[group]:
            if competes(unit):
                if left is None or _who(unit) in left:
                    units.append(at(unit, budget=budgets[number]))
            elif last:
                saes = tuple(
                    c for c in unit.saes if left is None or c.d_sae is None or (c.name, c.sha256) in left
                )
                units.append(at(replace(unit, saes=saes), budget=budgets[number]))
        return units

    def _left(self, group: Group) -> set[Who] | None:
        played = self._stages.get(group)
        return (
            {(player.name, player.sha256) for player in played[-1].players if not player.out}
            if played
            else None
        )

    def _play(self, found: Sequence[Found], looks: int) -> Stage:
        values = [_mean(f, self.by) for f in found]
        draws = [mean_draws(self.by, f.stored.headlines) for f in found]
        both = enumerate(zip(values, draws, strict=True))
        judged = {i: (v, d) for i, (v, d) in both if v is not None and d is not None}
        dropped = np.zeros(len(found), dtype=bool)
        if len(judged) > self.keep:
            numbers, resampled = zip(*judged.values(), strict=True)
            units = found[0].stored.outcomes.n_units()
            better = credibly_better(np.array(numbers), np.stack(resampled, axis=1), units, looks)
            dropped[list(judged)] = out(better, self.keep)
        players = tuple(
            Player(*_who(f.unit), f.stored.result.id, value, bool(gone))
            for f, value, gone in zip(found, values, dropped, strict=True)
        )
        result = found[0].stored.result
        return Stage(result.budget, result.task.n.test, players)

    def best(self, group: Group) -> list[Player]:
        """The best by the last stage, the first first."""
        last = self._stages[group][-1].players
        return sorted((p for p in last if p.value is not None), key=lambda p: -(p.value or 0.0))[: self.keep]

    def heading(self) -> str:
        budgets = dict.fromkeys(" < ".join(each) for each in self._budgets.values())
        played = max(map(len, self._stages.values()), default=0)
        return f"Stage {played + 1} of a tournament at {' or '.join(budgets)}:"

    def lines(self) -> Iterator[str]:
        by = " and ".join(AXES[axis].title for axis in self.by)
        for group, played in self._stages.items():
            stage, n = played[-1], len(played[-1].players)
            gone = [player.name for player in stage.players if player.out]
            yield f"{group}, budget {stage.budget}: {len(gone)} of {n} credibly not among the best {self.keep} by {by}"
            if gone:
                yield f"  not scored further: {', '.join(gone)}"
            if len(played) == len(self._budgets[group]):
                yield f"  the best: {', '.join(f'{p.name} {p.value:.3f}' for p in self.best(group))}"
                took, all_of_it = prompts(played)
                saved = f"{1 - took / all_of_it:.0%} saved" if took < all_of_it else "nothing saved"
                yield f"  test prompts {took:,} of {all_of_it:,} for all at {stage.budget}: {saved}"

    def document(self) -> dict[str, Any]:
        groups = []
        for group, played in self._stages.items():
            took, all_of_it = prompts(played)
            groups.append(
                {
                    **where(group),
                    "best": [player.name for player in self.best(group)],
                    "prompts": took,
                    "prompts_without": all_of_it,
                    "stages": [
                        {**stage._asdict(), "players": [player._asdict() for player in stage.players]}
                        for stage in played
                    ],
                }
            )
        return {"schema": SCHEMA, "rule": self.name, "keep": self.keep, "by": self.by, "groups": groups}


def stages(budget: str) -> tuple[str, ...]:
    """Budgets up to the last one, each several times the one before it."""
    if budget in ("tiny", "quick"):
        return BUDGETS[: BUDGETS.index(budget) + 1]
    if budget in BUDGETS:
        return BUDGETS[1 : BUDGETS.index(budget) + 1]
    return ("quick", budget) if (budget_times(budget) or 0) > 1 else ("tiny", budget)


def prompts(played: Sequence[Stage]) -> tuple[int, int]:
    """Test prompts of SAEs so far, and those that all of them at the last budget take."""
    took = sum(stage.n_test * len(stage.players) for stage in played)
    return took, played[-1].n_test * len(played[0].players)


def _who(unit: Unit) -> Who:
    return unit.name, unit.contestant.sha256 if unit.contestant else None


def _mean(found: Found, by: Sequence[str]) -> float | None:
    numbers = [found.stored.result.axes[axis].normalized for axis in by]
    known = [number for number in numbers if number is not None]
    return sum(known) / len(known) if len(known) == len(numbers) else None


def marks(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Ids of results that were not scored further, each with why."""
    for group in document["groups"]:
        for number, stage in enumerate(group.get("stages", ())):
            if number == len(group["stages"]) - 1:
                continue
            for player in stage["players"]:
                if player["out"]:
                    yield (
                        player["id"],
                        f"credibly not among the best {document['keep']} by {' and '.join(document['by'])}",
                    )
