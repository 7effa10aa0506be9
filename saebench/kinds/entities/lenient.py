"""A readout that counts other words for the same answer as that answer."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.answers import Outcome
from saebench.cache.tensors import digest
from saebench.cross_section import K, Readout
from saebench.patching import PatchedReadout
from saebench.site import Span


class LenientReadout(Readout):
    """Sends every arg-max token through `canonical [vocab]` (Chinese → Mandarin), the rest unchanged.

    `answer` holds canonical tokens. The logit difference is that of the inner readout, whose answer
    is the word that the model itself says: a model that prefers the alias is not marked down.
    """

    def __init__(
        self, inner: PatchedReadout, answer: Int[Tensor, "n"], canonical: Int[Tensor, "vocab"]
    ) -> None:
        self.inner = inner
        self.answer, self.distractor = answer.to(inner.answer.device), inner.distractor
        self.canonical = canonical.to(inner.answer.device)

    @property
    def made_from(self) -> list[Any] | None:
        """The same as the inner one's, and what counts as what."""
        inner = self.inner.made_from
        return inner and [*inner, digest(self.answer), digest(self.canonical)]

    @property
    def groups(self) -> list[Int[Tensor, "_"]]:
        """Prompts of the same length and edited position, which share a pass."""
        where = torch.stack([place.positions for place in self.inner.places])
        keys: dict[tuple[int, ...], list[int]] = {}
        for i, prompt in enumerate(self.inner.tokens):
            keys.setdefault((len(prompt), *where[:, i].tolist()), []).append(i)
        return [torch.tensor(rows) for rows in keys.values()]

    def only(self, number: int, span: Span, clean: Float[Tensor, "n d_in"]) -> "LenientReadout":
        return LenientReadout(self.inner.only(number, span, clean), self.answer, self.canonical)

    def logits(self, edited: Float[Tensor, "b d_in"], rows: Int[Tensor, "b"]) -> Float[Tensor, "b vocab"]:
        return self.inner.logits(edited, rows)

    def run(
        self,
        edits: Mapping[K, Float[Tensor, "n d_in"]],
        reference: Float[Tensor, "n d_in"] | None = None,
        rows: Int[Tensor, "n"] | None = None,
    ) -> dict[K, Outcome]:
        found = self.inner.run(edits, reference, rows)
        return {key: run._replace(top=self.canonical[run.top]) for key, run in found.items()}

    def differences(self, edits: Mapping[K, Float[Tensor, "n d_in"]]) -> dict[K, Float[Tensor, "n"]]:
        return self.inner.differences(edits)
