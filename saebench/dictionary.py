"""The three kinds of things that are scored. The type says what may be looked at.

A class here is abstract or final. `Dictionary` sees activations only; `LabelledDictionary` may look
at labels, and is marked wherever it is shown; `Intervention` only edits, so it can be scored on
control and nothing else.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.errors import SiteError

Role = Literal["control", "labelled", "intervention"]
"""What something that is not an SAE is beside one."""


class Encoding(NamedTuple):
    """Codes in activation units, and what of the activation belongs to no latent.

    An input scale found while encoding is multiplied into the codes, so a latent's share of the
    reconstruction is `codes[:, j, None] * W_dec[j]` for every dictionary, and decoding keeps no state.
    """

    codes: Float[Tensor, "n d_sae"]
    offset: Float[Tensor, "n d_in"] | Float[Tensor, "d_in"]
    """`b_dec`, and for some dictionaries a per-example mean."""


class Known(NamedTuple):
    """What is known of prompts besides their activations; only labelled dictionaries look at it."""

    labels: Int[Tensor, "n n_attributes"]
    row: Int[Tensor, "n"] | None = None
    """Number under which a generator remembers what it made the activation of."""
    read: Float[Tensor, "n d_read"] | None = None
    """Activations of the same prompts where a transcoder reads; see `Split.read_at`."""

    def at(self, rows: Tensor | slice) -> "Known":
        """Of some of the prompts."""
        row, read = (None if t is None else t[rows] for t in (self.row, self.read))
        return Known(self.labels[rows], row, read)


class Block(NamedTuple):
    """Latents that write at one site, and the columns of that site's activation."""

    latents: slice
    columns: slice


class _Decodes(ABC):
    """What dictionaries and labelled dictionaries share: a name, decoder rows, a linear decoder."""

    name: str
    W_dec: Float[Tensor, "d_sae d_in"]
    reads_labels: ClassVar[bool]
    """Whether codes come from labels: such a dictionary is a ceiling, not a contestant."""
    reads: str | None = None
    """The hook point whose activations it encodes, where it writes elsewhere (a transcoder)."""
    joins: ClassVar[bool] = False
    """Whether it encodes the activations of where it writes and those of `reads`, side by side."""

    @final
    def decode(self, encoding: Encoding) -> Float[Tensor, "n d_in"]:
        """`â = codes W_dec + offset`."""
        return encoding.codes @ self.W_dec + encoding.offset

    @final
    def shuffled(self, seed: int) -> Float[Tensor, "d_sae d_in"]:
        """The decoder rows of each site in another order: the null of everything that reads directions."""
        generator, order = torch.Generator().manual_seed(seed), torch.arange(self.d_sae)
        for latents, _ in self.blocks:
            own = order[latents]
            order[latents] = own[torch.randperm(len(own), generator=generator)]
        return self.W_dec[order.to(self.W_dec.device)]

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Which latents write where; a single block for a dictionary of one site."""
        return (Block(slice(0, self.d_sae), slice(0, self.d_in)),)

    @property
    def d_sae(self) -> int:
        return self.W_dec.shape[0]

    @property
    def d_in(self) -> int:
        return self.W_dec.shape[1]


class Dictionary(_Decodes):
    """Anything that encodes activations: SAEs, and the controls that see no labels."""

    reads_labels: ClassVar[bool] = False
    role: ClassVar[Role] = "control"

    @abstractmethod
    def encode(self, acts: Float[Tensor, "n d_in"]) -> Encoding:
        """Codes and offset. Stateless: encode(A), encode(B), decode(encode(A)) is right."""


class LabelledDictionary(_Decodes):
    """A dictionary whose codes come from labels: a ceiling, never a contestant."""

    reads_labels: ClassVar[bool] = True
    role: ClassVar[Role] = "labelled"
    sized_edits: ClassVar[bool] = False
    """Whether one value takes several latents, so that an edit of k of them has a ceiling of its own."""

    @abstractmethod
    def encode(self, acts: Float[Tensor, "n d_in"], known: Known) -> Encoding:
        """Codes and offset from activations and what is known of them."""

    @abstractmethod
    def edit(
        self,
        attribute: int,
        base: Float[Tensor, "n d_in"],
        known: Known,
        source: Float[Tensor, "n d_in"],
        source_known: Known,
    ) -> Float[Tensor, "n d_in"]:
        """The ceiling's own edit: the attribute's atom for the base value out, the source's in."""


class Intervention(ABC):
    """Something that edits activations without being a dictionary (no edit, source patch, DAS)."""

    role: ClassVar[Role] = "intervention"

    name: str

    @abstractmethod
    def edit(
        self, attribute: str, base: Float[Tensor, "n d_in"], source: Float[Tensor, "n d_in"]
    ) -> Float[Tensor, "n d_in"]:
        """The base activation with the attribute's value taken from the source."""


Encodes = Dictionary | LabelledDictionary
"""Whatever has codes."""
Scorable = Encodes | Intervention


def encode_any(dictionary: Encodes, acts: Float[Tensor, "n d_in"], known: Known) -> Encoding:
    """Encodes with or without labels, as the type allows; a transcoder encodes what it reads."""
    if dictionary.reads is not None:
        if known.read is None:
            raise SiteError(
                f"{dictionary.name} reads {dictionary.reads}, and only activations of where it writes are here."
                " Expected a task on a language model that has this hook point."
            )
        acts = torch.cat([acts, known.read], 1) if dictionary.joins else known.read
    if isinstance(dictionary, LabelledDictionary):
        return dictionary.encode(acts, known)
    return dictionary.encode(acts)
