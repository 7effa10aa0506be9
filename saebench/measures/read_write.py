"""How the supervised atom of a value is written, and by whom (docs/methods.md §6–8) [ours, on PE's atoms].

A latent can fire perfectly and write nothing. With `u_v` the atom of value v, `δ_v(x) = E[x | v] − E[x]`
and `w_j` the decoder's rows, latent j writes `c_jv = δ_v(α_j) ⟨w_j, u_v⟩` of v, and all of them together
what is written: `W = Σ_v Σ_j c_jv / D`. An offset's part belongs to no latent and is not written: otherwise a
dictionary that puts the activation into its offset would have written it.

Whatever is chosen (who writes, what a latent stands for, how many share a value) is chosen on `select`;
`contributions` measures on other prompts, one number a prompt, so that every score is a ratio of sums.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saebench.dictionaries.codes import SparseCodes
from saebench.dictionaries.writers import Writers
from saebench.measures.detection import F1Table

PARTS = ("gross", "selective", "specific", "split")
"""What `contributions` gives beside `written`."""


class Readings(NamedTuple):
    """F1* and P* on `select` of each latent's two detectors: code above its threshold, and below."""

    f1_star: Float[Tensor, "2 d_sae n_values"]
    p_star: Float[Tensor, "2 d_sae n_values"]

    @classmethod
    def of(cls, table: F1Table, d_sae: int) -> "Readings":
        """From counts; both clipped at 0, since an always-on detector is always at hand."""
        prevalence = table.positives / table.n
        precision = table.true_positives / table.fires.clamp(min=1)[:, None]
        p_star = (precision - prevalence) / (1 - prevalence).clamp(min=1e-12)
        both = []
        for star in (table.f1_star, p_star):
            star = star.clamp(min=0).float()
            blank = star.new_zeros(2 * d_sae - len(star), star.shape[1])
            both.append(torch.cat([star, blank]).view(2, d_sae, -1))
        return cls(*both)


def centred_means(
    codes: SparseCodes, label: Int[Tensor, "n"], n_values: int, latents: Int[Tensor, "m"]
) -> Float[Tensor, "m n_values"]:
    """δ_v(α_j) of some latents, by one pass over the non-zero codes."""
    slot = torch.full((codes.d_sae,), -1, device=label.device)
    slot[latents] = torch.arange(len(latents), device=label.device)
    keep = slot[codes.latent] >= 0
    cell = slot[codes.latent[keep]] * n_values + label[codes.row[keep]]
    sums = torch.zeros(len(latents) * n_values, dtype=torch.float64, device=label.device)
    sums = sums.index_add(0, cell, codes.value[keep].double()).view(-1, n_values)
    positives = torch.bincount(label, minlength=n_values).clamp(min=1)
    return sums / positives - sums.sum(1, keepdim=True) / codes.n


def choose(
    codes: SparseCodes,
    readings: Readings,
    W_dec: Float[Tensor, "d_sae d_in"],
    atoms: Float[Tensor, "n_values d_in"],
    label: Int[Tensor, "n"],
    keep: Bool[Tensor, "n_values"],
    common: Bool[Tensor, "n_values"],
) -> Writers:
    """Who writes each value and what it stands for, on `select`.

    `keep` marks the values that are scored, `common` those with enough positives here, for which a
    latent may stand.
    """
    n_values = len(atoms)
    live = codes.latent.unique()
    rise = centred_means(codes, label, n_values, live)
    gain = W_dec[live].double() @ atoms.double().T
    written = rise * gain
    counts = (written > 0) & common
    two_sided = (readings.f1_star[1, live] > 0).any(1)
    reads, only = (_by_reading(r[:, live].double() * common, rise, two_sided) for r in readings)
    effective = _effective(torch.where(counts & only.own, written * only.star, 0.0))
    # the silence of a latent that stands for another value is shared by as many as share that value
    share = 1 / effective[only.value].clamp(min=1)
    gain = gain.where(counts & keep, 0.0)
    return Writers(live, rise, written, gain, reads.star, only.star, share, effective.where(keep, 0.0))


class _Reading(NamedTuple):
    star: Float[Tensor, "m n_values"]
    value: Int[Tensor, "m n_values"]
    """The value that the detector stands for: the one written, or another that is silent then."""
    own: Bool[Tensor, "m n_values"]


def _by_reading(
    star: Float[Tensor, "2 m n_values"], rise: Float[Tensor, "m n_values"], two_sided: Bool[Tensor, "m"]
) -> _Reading:
    """The reading by which a latent that moves with a value can stand for it.

    A code that rises with v may be v's own detector. One that falls is the detector below its threshold,
    where it has one, or the silence of a latent that stands for another value.
    """
    up = rise > 0
    own = torch.where(up, star[0], star[1])
    others, which = _best_other(star[0])
    # a latent with a detector on either side needs no silence: where its code falls the other one fires
    others = torch.where(up | two_sided[:, None], 0.0, others)
    mine = own >= others
    here = torch.arange(star.shape[2], device=star.device).expand_as(which)
    return _Reading(torch.maximum(own, others), torch.where(mine, here, which), mine)


def _best_other(star: Float[Tensor, "m n_values"]) -> tuple[Tensor, Tensor]:
    """For every value the largest entry among the other values, and whose it is; 0 if there is none."""
    if star.shape[1] < 2:
        return torch.zeros_like(star), torch.zeros_like(star, dtype=torch.long)
    top = star.topk(2, dim=1)
    at_top = torch.arange(star.shape[1], device=star.device) == top.indices[:, :1]
    star, value = (torch.where(at_top, x[:, 1:], x[:, :1]) for x in top)
    return star, value


def _effective(mass: Float[Tensor, "m n_values"]) -> Float[Tensor, "n_values"]:
    """`(Σ m)² / Σ m²`: 1 if one latent has it all, k if k share it equally, 0 if there is none."""
    square = mass.square().sum(0)
    return torch.where(square > 0, mass.sum(0).square() / square.clamp(min=1e-300), 0.0)


def value_weights(label: Int[Tensor, "n"], keep: Bool[Tensor, "n_values"]) -> Float[Tensor, "n"]:
    """`n / (V n_v)` for prompts of the V values kept, else 0: a mean over prompts is one over values."""
    positives = torch.bincount(label, minlength=len(keep)).double()
    each = len(label) / (max(1, int(keep.sum())) * positives.clamp(min=1))
    return torch.where(keep, each, 0.0)[label]


def along_atoms(
    acts: Float[Tensor, "n d_in"],
    atoms: Float[Tensor, "n_values d_in"],
    label: Int[Tensor, "n"],
    keep: Bool[Tensor, "n_values"],
) -> Float[Tensor, "n"]:
    """`⟨x_i − E[x], u_{v(i)}⟩`, weighted: what is available in `a`, what latents write in `Σ_j α_j w_j`."""
    centred = acts.double() - acts.double().mean(0)
    return (centred * atoms.double()[label]).sum(1) * value_weights(label, keep)


def contributions(
    writers: Writers, codes: SparseCodes, label: Int[Tensor, "n"], keep: Bool[Tensor, "n_values"]
) -> dict[str, Float[Tensor, "n"]]:
    """What writers found on `select` write of each prompt's own value here, weighted like `along_atoms`.

    `gross`: all of them; `selective`: times what they stand for; `specific`: times how little else
    they stand for; `split`: that, divided by the effective number of latents that share it.
    """
    n_values = writers.gain.shape[1]
    slot = torch.full((codes.d_sae,), -1, device=label.device)
    slot[writers.latents] = torch.arange(len(writers.latents), device=label.device)
    place = slot[codes.latent]
    known = place >= 0
    row, place, value = codes.row[known], place[known], codes.value[known].double()
    cell = place * n_values + label[row]
    mean = torch.zeros(len(writers.latents), dtype=torch.float64, device=label.device)
    mean = mean.index_add(0, place, value) / codes.n
    weight = value_weights(label, keep)
    alone = writers.gain * writers.only_for
    tables = (writers.gain, writers.gain * writers.stands_for, alone, alone * writers.share)
    out = {}
    for name, table in zip(PARTS, tables, strict=True):
        total = torch.zeros(codes.n, dtype=torch.float64, device=label.device)
        total = total.index_add(0, row, value * table.reshape(-1)[cell])
        out[name] = (total - (mean @ table)[label]) * weight
    return out
