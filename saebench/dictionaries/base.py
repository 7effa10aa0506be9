"""The three kinds of things that are scored. The type says what may be looked at.

A class here is abstract or final. `Dictionary` sees activations only; `LabelledDictionary` may look
at labels, and is marked wherever it is shown; `Intervention` only edits, so it can be scored on
control and nothing else.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple, final

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Encoding(NamedTuple):
    """Codes in activation units, and what of the activation belongs to no latent.

    An input scale found while encoding is multiplied into the codes, so a latent's share of the
    reconstruction is `codes[:, j, None] * W_dec[j]` for every dictionary, and decoding keeps no state.
    """

    codes: Float[Tensor, "n d_sae"]
    offset: Float[Tensor, "n d_in"] | Float[Tensor, "d_in"]
    """`b_dec`, and for some dictionaries a per-example mean."""


class _Decodes(ABC):
    """What dictionaries and labelled dictionaries share: a name, decoder rows, a linear decoder."""

    name: str
    W_dec: Float[Tensor, "d_sae d_in"]

    @final
    def decode(self, encoding: Encoding) -> Float[Tensor, "n d_in"]:
        """`â = codes W_dec + offset`."""
        return encoding.codes @ self.W_dec + encoding.offset

    @property
    def d_sae(self) -> int:
        return self.W_dec.shape[0]

    @property
    def d_in(self) -> int:
        return self.W_dec.shape[1]


class Dictionary(_Decodes):
    """Anything that encodes activations: SAEs, and the controls that see no labels."""

    @abstractmethod
    def encode(self, acts: Float[Tensor, "n d_in"]) -> Encoding:
        """Codes and offset. Stateless: encode(A), encode(B), decode(encode(A)) is right."""


class LabelledDictionary(_Decodes):
    """A dictionary whose codes come from labels: a ceiling, never a contestant."""

    @abstractmethod
    def encode(self, acts: Float[Tensor, "n d_in"], labels: Int[Tensor, "n n_attributes"]) -> Encoding:
        """Codes and offset from activations and labels."""

    @abstractmethod
    def edit(
        self,
        attribute: int,
        base: Float[Tensor, "n d_in"],
        labels: Int[Tensor, "n n_attributes"],
        source: Float[Tensor, "n d_in"],
        source_labels: Int[Tensor, "n n_attributes"],
    ) -> Float[Tensor, "n d_in"]:
        """The ceiling's own edit: the attribute's atom for the base value out, the source's in."""


class Intervention(ABC):
    """Something that edits activations without being a dictionary (no edit, source patch, DAS)."""

    name: str

    @abstractmethod
    def edit(
        self, attribute: str, base: Float[Tensor, "n d_in"], source: Float[Tensor, "n d_in"]
    ) -> Float[Tensor, "n d_in"]:
        """The base activation with the attribute's value taken from the source."""


@torch.no_grad()
def reconstruct(
    dictionary: Dictionary | LabelledDictionary,
    acts: Float[Tensor, "n d_in"],
    labels: Int[Tensor, "n n_attributes"],
    block: int = 1024,
) -> Float[Tensor, "n d_in"]:
    """`â` for every row, in blocks so that codes never exist for all prompts at once."""
    parts = []
    for rows in torch.arange(len(acts), device=acts.device).split(block):
        parts.append(dictionary.decode(encode_any(dictionary, acts[rows], labels[rows])))
    return torch.cat(parts)


def encode_any(
    dictionary: Dictionary | LabelledDictionary,
    acts: Float[Tensor, "n d_in"],
    labels: Int[Tensor, "n n_attributes"],
) -> Encoding:
    """Encodes with or without labels, as the type allows."""
    if isinstance(dictionary, LabelledDictionary):
        return dictionary.encode(acts, labels)
    return dictionary.encode(acts)
