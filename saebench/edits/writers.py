"""The writers' edit: few latents, chosen with labels, and the rest must stay (docs/methods.md §5) [ours].

Agnostic and aware edits take their codes from a source that differs in one attribute only, so they
cannot do damage. Here the source is another prompt that carries the new value and differs in every
other attribute as well: what is swapped beside the value shows.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.dictionaries.codes import SparseCodes, difference
from saebench.dictionaries.writers import Writers
from saebench.edits.few_latents import add_codes, top_in_row

WRITER_SIZES = (1, 2, 4, 8, 16)
SPECIFIC_SIZES = (1, 4)


def partners(
    labels: Int[Tensor, "n n_attributes"],
    wanted: Int[Tensor, "n"],
    attribute: int,
    content: Int[Tensor, "n"],
    seed: int,
    template: Int[Tensor, "n"] | None = None,
) -> Int[Tensor, "n"]:
    """For each prompt another one that has value `wanted` and differs in as many other attributes as can be.

    Of those that do, one in another phrasing, drawn by what the two prompts are (`content`) and not by where
    they stand. A prompt for whose value there is no other stays its own partner.
    """
    out = torch.arange(len(labels), device=labels.device)
    others = [a for a in range(labels.shape[1]) if a != attribute]
    for value in wanted.unique():
        base, pool = (wanted == value).nonzero()[:, 0], (labels[:, attribute] == value).nonzero()[:, 0]
        if len(pool) == 0:
            continue
        differs = 2 * (labels[base][:, None, others] != labels[pool][None, :, others]).sum(2)
        if template is not None:
            differs += template[base][:, None] != template[pool][None, :]
        drawn = _mixed(content[base][:, None], content[pool][None, :], seed)
        out[base] = pool[(differs + 0.5 * drawn).argmax(1)]
    return out


def _mixed(one: Int[Tensor, "n 1"], other: Int[Tensor, "1 m"], seed: int) -> Float[Tensor, "n m"]:
    """A number in [0, 1) for every pair that looks drawn: the finaliser of MurmurHash3, 32 bits."""
    bits = (one * 0x9E3779B1 + other * 0x85EBCA77 + (seed * 0xC2B2AE3D & 0xFFFFFFFF)) & 0xFFFFFFFF
    for factor, shift in ((0x85EBCA6B, 16), (0xC2B2AE35, 13), (1, 16)):
        bits = ((bits ^ (bits >> shift)) * factor) & 0xFFFFFFFF
    return bits.double() / 2**32


def strength(
    writers: Writers, codes: SparseCodes, value: Int[Tensor, "n"], specific: bool = False
) -> Float[Tensor, "nnz"]:
    """How much each code's latent writes of its row's value by being on: `c_jv`, or `c_jv P_jv`; else 0.

    A latent that is on although the value is one for which it is off writes none of it.
    """
    slot = torch.full((codes.d_sae,), -1, device=codes.row.device)
    slot[writers.latents] = torch.arange(len(writers.latents), device=codes.row.device)
    known = slot[codes.latent] >= 0
    place, at = slot[codes.latent[known]], value[codes.row[known]]
    wrote = writers.written[place, at]
    if specific:
        wrote = wrote * writers.only_for[place, at]
    by_being_on = codes.value[known] * writers.rise[place, at] > 0
    out = torch.zeros(len(codes.row), dtype=wrote.dtype, device=wrote.device)
    out[known] = torch.where(by_being_on, wrote.clamp(min=0), 0.0)
    return out


def writers_edit(
    base: Float[Tensor, "n d_in"],
    alpha: SparseCodes,
    beta: SparseCodes,
    W_dec: Float[Tensor, "d_sae d_in"],
    out_of: Float[Tensor, "nnz_alpha"],
    into: Float[Tensor, "nnz_beta"],
    sizes: Sequence[int] = WRITER_SIZES,
) -> dict[int, Float[Tensor, "n d_in"]]:
    """Out with the e latents of α that write most of the old value, in with the e of β for the new.

    Each with its own code. `beta` are the partner's codes; `out_of` and `into` the strengths of the codes.
    """
    out = {}
    for e in sizes:
        gone, come = top_in_row(alpha, out_of, e), top_in_row(beta, into, e)
        out[e] = add_codes(base, difference(gone, come), W_dec)
    return out
