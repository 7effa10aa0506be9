"""Base prompts beside sources with all of their positions: what sites are looked for on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor


class Passage(NamedTuple):
    """A text as tokens, and where its semantic positions are."""

    tokens: list[int]
    positions: Mapping[str, int]


@dataclass(frozen=True)
class Pairs:
    """One row a base prompt and a source that supplies another value of one attribute."""

    base: tuple[Passage, ...]
    source: tuple[Passage, ...]
    attribute: Int[np.ndarray, "n"]
    """Which of `attributes` the source changes."""
    attributes: tuple[str, ...]
    answer: Int[Tensor, "n"]
    distractor: Int[Tensor, "n"]
    cluster: Int[np.ndarray, "n"]
    """What is independent, and resampled; see `units`."""
    units: Int[np.ndarray, "n n_ways"] | None
    """What recurs across clusters, one column a way, as in `Split.units`."""
    template: Int[np.ndarray, "n"]
    """Number of the base prompt's phrasing."""

    def __len__(self) -> int:
        return len(self.base)

    def take(self, rows: Int[np.ndarray, "m"]) -> "Pairs":
        """Some of the rows."""
        at = torch.from_numpy(np.asarray(rows))
        return replace(
            self,
            base=tuple(self.base[i] for i in rows),
            source=tuple(self.source[i] for i in rows),
            attribute=self.attribute[rows],
            answer=self.answer[at],
            distractor=self.distractor[at],
            cluster=self.cluster[rows],
            units=None if self.units is None else self.units[rows],
            template=self.template[rows],
        )

    def of(self, attribute: int) -> Int[np.ndarray, "m"]:
        """Rows whose source changes the attribute."""
        return np.flatnonzero(self.attribute == attribute)


class Questions(NamedTuple):
    """Pairs to choose sites on, pairs to report on, and pairs on which there is nothing to be found."""

    select: Pairs
    test: Pairs
    null: Pairs | None
    """Prompts of the same surface on which no attribute can move the answer; None where there are none."""
    notes: tuple[str, ...] = ()


class Number(NamedTuple):
    """Base prompts an attribute, of each set."""

    select: int
    test: int


def stacked(parts: Sequence[Pairs]) -> Pairs:
    """Rows of several, of the same attributes, one after the other."""
    units = [p.units for p in parts if p.units is not None]
    return replace(
        parts[0],
        base=tuple(passage for p in parts for passage in p.base),
        source=tuple(passage for p in parts for passage in p.source),
        attribute=np.concatenate([p.attribute for p in parts]),
        answer=torch.cat([p.answer for p in parts]),
        distractor=torch.cat([p.distractor for p in parts]),
        cluster=np.concatenate([p.cluster for p in parts]),
        units=np.concatenate(units) if units else None,
        template=np.concatenate([p.template for p in parts]),
    )
