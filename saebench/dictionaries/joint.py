"""One dictionary a site, of several sites that are edited together: a block-diagonal product."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.dictionary import Block, Dictionary, Encoding
from saebench.errors import SiteError


class JointDictionary(Dictionary):
    """Dictionaries of several sites as one of their activations side by side.

    Its latents are those of every site in turn, and a latent writes at its own site only. Edit sizes and the
    latents that stand for a value are per site; `blocks` says which belong where.

    Raises:
        SiteError: if one of them reads elsewhere than it writes.
    """

    def __init__(self, name: str, parts: Sequence[Dictionary]) -> None:
        elsewhere = next((part.name for part in parts if part.reads is not None), None)
        if elsewhere is not None:
            raise SiteError(
                f"{elsewhere} is a transcoder: it reads another hook point than it writes at, and cannot be one of"
                " several dictionaries that are edited together. Score it at one site."
            )
        self.name, self.parts = name, tuple(parts)
        self.W_dec = torch.block_diag(*(part.W_dec for part in parts))
        found, latent, column = [], 0, 0
        for part in parts:
            ends = latent + part.d_sae, column + part.d_in
            found.append(Block(slice(latent, ends[0]), slice(column, ends[1])))
            latent, column = ends
        self._blocks = tuple(found)

    @property
    def blocks(self) -> tuple[Block, ...]:
        return self._blocks

    def encode(self, acts: Float[Tensor, "n d_in"]) -> Encoding:
        done = [
            part.encode(acts[:, block.columns]) for part, block in zip(self.parts, self.blocks, strict=True)
        ]
        offsets = [each.offset.expand(len(acts), -1) for each in done]
        return Encoding(torch.cat([each.codes for each in done], 1), torch.cat(offsets, 1))
