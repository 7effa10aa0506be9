"""The true dictionary, and what a greedy encoder makes of its decoder alone."""

from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.dictionary import Dictionary, Encoding, Known, LabelledDictionary
from saebench.synthetic.generator import Generator


class Ledger:
    """The generator's codes of every activation handed out, kept sparse, by number.

    The number of an activation is what the oracle, which may look at labels, knows it by.
    """

    def __init__(self, n_features: int) -> None:
        self.n_features, self.n = n_features, 0
        self._latent: list[Tensor] = []
        self._value: list[Tensor] = []
        self._count: list[Tensor] = []
        self._noise: list[Tensor | None] = []

    def add(
        self, codes: Float[Tensor, "n n_features"], noise: Float[Tensor, "n d_in"] | None
    ) -> Int[Tensor, "n"]:
        """Notes down codes; returns the numbers of their rows."""
        row, latent = codes.nonzero(as_tuple=True)
        self._latent.append(latent)
        self._value.append(codes[row, latent])
        self._count.append(torch.bincount(row, minlength=len(codes)))
        self._noise.append(noise)
        first, self.n = self.n, self.n + len(codes)
        return torch.arange(first, self.n)

    def close(self, device: torch.device) -> "Ledger":
        """Joins what was noted; nothing can be added afterwards."""
        self.latent = torch.cat(self._latent).to(device)
        self.value = torch.cat(self._value).to(device)
        self.count = torch.cat(self._count).to(device)
        self.start = self.count.cumsum(0) - self.count
        noise = [part for part in self._noise if part is not None]
        self.noise = torch.cat(noise).to(device) if noise else None
        return self

    def codes(self, number: Int[Tensor, "n"]) -> Float[Tensor, "n n_features"]:
        """Dense codes of some rows."""
        return self.of(torch.arange(self.n_features, device=number.device), number)

    def of(self, features: Int[Tensor, "m"], number: Int[Tensor, "n"]) -> Float[Tensor, "n m"]:
        """Codes of some features in some rows; thousands of others take no memory."""
        count = self.count[number]
        row = torch.arange(len(number), device=number.device).repeat_interleave(count)
        inside = torch.arange(len(row), device=number.device) - (count.cumsum(0) - count)[row]
        at = self.start[number][row] + inside
        slot = torch.full((self.n_features,), -1, device=number.device)
        slot[features] = torch.arange(len(features), device=number.device)
        column = slot[self.latent[at]]
        keep = column >= 0
        out = torch.zeros(len(number), len(features), device=number.device)
        out[row[keep], column[keep]] = self.value[at][keep]
        return out


@final
class Oracle(LabelledDictionary):
    """The generator's own features and codes: the ceiling of a synthetic task.

    What the generator added as noise belongs to no feature and stands in the offset.
    """

    name = "control:oracle"
    sized_edits: ClassVar[bool] = True

    def __init__(
        self,
        generator: Generator,
        ledger: Ledger,
        parts: tuple[Float[Tensor, "p d_in"], Known] | None = None,
        pairs: tuple[Float[Tensor, "m d_in"], Known] | None = None,
    ) -> None:
        self.generator, self.ledger = generator, ledger
        self.parts, self.pairs = parts, pairs
        self.W_dec = generator.D.to(generator.device)
        self.b = generator.b.to(generator.device)

    def encode(self, acts: Float[Tensor, "n d_in"], known: Known) -> Encoding:
        number = _number(known)
        noise = self.ledger.noise
        offset = self.b if noise is None else self.b + noise[number]
        return Encoding(self.ledger.codes(number), offset)

    def edit(
        self,
        attribute: int,
        base: Float[Tensor, "n d_in"],
        known: Known,
        source: Float[Tensor, "n d_in"],
        source_known: Known,
    ) -> Float[Tensor, "n d_in"]:
        """The attribute's features take the source's codes; all others stay."""
        at = torch.tensor(self.generator.groups[attribute].features, device=base.device)
        old, new = (self.ledger.of(at, _number(x)) for x in (known, source_known))
        return base + (new - old) @ self.W_dec[at]


def _number(known: Known) -> Int[Tensor, "n"]:
    assert known.row is not None, "a generator numbers every activation it hands out"
    return known.row


@final
class Pursuit(Dictionary):
    """The true decoder, encoded by matching pursuit at the true L0.

    Under superposition no encoder that sees the activation alone gets back the generator's codes:
    this row says how much of the oracle's lead is that. At most `steps` times the row with the
    largest positive product with the residual is taken, with that product as its code.
    """

    name = "control:matching-pursuit"

    def __init__(self, generator: Generator, steps: int) -> None:
        self.W_dec = generator.D.to(generator.device)
        self._b, self.steps = generator.b.to(generator.device), steps

    def encode(self, acts: Float[Tensor, "n d_in"]) -> Encoding:
        codes = acts.new_zeros(len(acts), self.d_sae)
        rest = acts - self._b
        for _ in range(self.steps):
            top, pick = (rest @ self.W_dec.T).max(1)
            top = top.clamp(min=0)
            codes.scatter_add_(1, pick[:, None], top[:, None])
            rest = rest - top[:, None] * self.W_dec[pick]
        return Encoding(codes, self._b)
