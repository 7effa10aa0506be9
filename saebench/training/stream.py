"""Activations of a site, batch after batch: captured part by part, shuffled, the same for the same seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.errors import SiteError
from saebench.models.language_model import LanguageModel
from saebench.patching import Placement, capture, capture_all
from saebench.patching.pairs import Passage
from saebench.training.sources import Source

PROBE = 64
"""Passages whose length says how many fill a part."""


@dataclass(frozen=True, eq=False)
class Stream:
    """Batches of activations at a hook point, for ever.

    With a `position` one activation of every passage, else those of all tokens but the first, which
    attends to nothing and is unlike the rest. Parts hold `per_part` activations, a whole number of
    batches; with `parts` there are so many different ones, and they come round again.
    """

    model: LanguageModel
    source: Source
    hook: str
    position: str | None
    head: int | None
    batch: int
    per_part: int
    parts: int | None
    seed: int
    kept: Float[Tensor, "per_part d_in"] | None = None
    """The only part of a stream of one, captured before: several SAEs are trained on it."""

    def batches(self, start: int = 0) -> Iterator[Float[Tensor, "batch d_in"]]:
        """Batches from number `start` on."""
        each = self.per_part // self.batch
        number, skip = divmod(start, each)
        while True:
            rows = self._part(number if self.parts is None else number % self.parts)
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
            order = torch.randperm(len(rows), generator=generator).to(rows.device)
            for at in order.view(each, self.batch)[skip:]:
                yield rows[at]
            number, skip = number + 1, 0

    def held_out(self, n: int) -> Float[Tensor, "m d_in"]:
        """About `n` activations that are never trained on; fewer where there are no more."""
        passages = self.source.held_out(max(2, n // self._per_passage))
        return self.read(passages)[:n]

    def read(self, passages: Sequence[Passage]) -> Float[Tensor, "m d_in"]:
        """The activations of passages."""
        tokens = [passage.tokens for passage in passages]
        if self.position is None:
            return capture_all(self.model, tokens, self.hook, self.head, skip=1).float()
        at = torch.tensor([self._position(self.position, passage) for passage in passages])
        return capture(self.model, tokens, {0: Placement(self.hook, at, self.head)})[0]

    def _position(self, name: str, passage: Passage) -> int:
        if name not in passage.positions:
            listed = ", ".join(passage.positions) or "none: leave @POSITION out to train on every token"
            raise SiteError(f"{self.source.name} has no position {name!r}; it has {listed}.")
        return passage.positions[name]

    @cached_property
    def _per_passage(self) -> int:
        """Activations that a passage gives, on average."""
        if self.position is not None:
            return 1
        probe = self.source.draw(0, PROBE)
        return max(1, sum(len(p.tokens) - 1 for p in probe) // len(probe))

    def _part(self, number: int) -> Float[Tensor, "per_part d_in"]:
        return self._only_part if self.parts == 1 else self.capture(number)

    @cached_property
    def _only_part(self) -> Float[Tensor, "per_part d_in"]:
        """Captured once where it is all there is."""
        return self.capture(0) if self.kept is None else self.kept

    def capture(self, number: int) -> Float[Tensor, "per_part d_in"]:
        """The activations of a part."""
        wanted = -(-self.per_part // self._per_passage)
        while True:
            passages = self.source.draw(number, wanted)
            if self.position or sum(len(p.tokens) - 1 for p in passages) >= self.per_part:
                return self.read(passages)[: self.per_part]
            wanted += wanted // 8 + 1
