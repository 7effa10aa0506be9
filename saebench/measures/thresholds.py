"""From which code on a latent counts as firing (docs/methods.md §6).

"Active" means non-zero for a sparse code. A latent that is negative somewhere, or on everywhere, has no such
threshold and is cut where it tells a value best on `select`: cut at zero, such dictionaries are straw men. What
a latent *stands for* when it writes is read with a cut of its own for every latent, sparse ones too: many are
weakly on where they mean nothing, the more the denser the dictionary.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saebench.dictionaries.codes import SparseCodes
from saebench.measures.detection import correct

_BLOCK_BYTES = 64 * 2**20


class Cuts(NamedTuple):
    """Where the two detectors of each dense latent fire: `code ≥ at[0]` and `−code ≥ at[1]`."""

    latents: Int[Tensor, "m"]
    at: Float[Tensor, "2 m"]
    """−∞ where nothing is better than to be always on."""


def dense_latents(codes: SparseCodes) -> Int[Tensor, "m"]:
    """Latents that are negative somewhere or zero nowhere."""
    dense = torch.bincount(codes.latent, minlength=codes.d_sae) == codes.n
    dense[codes.latent[codes.value < 0]] = True
    return dense.nonzero()[:, 0]


def best_cuts(codes: SparseCodes, latents: Int[Tensor, "m"], label: Int[Tensor, "n"], n_values: int) -> Cuts:
    """One cut for each latent and sign: the one with the highest F1* for any value of the attribute.

    It lies between two codes; of equals the highest is taken.
    """
    one_hot = torch.nn.functional.one_hot(label, n_values).float()
    positives = one_hot.sum(0)
    fires = torch.arange(1, codes.n + 1, device=label.device)[:, None, None]
    at = torch.full((2, len(latents)), torch.inf, device=label.device, dtype=codes.value.dtype)
    block = max(1, _BLOCK_BYTES // (4 * codes.n * n_values))
    for part in torch.arange(len(latents), device=label.device).split(block):
        values = codes.dense(latents[part])
        for side, sign in enumerate((1.0, -1.0)):
            down, order = (sign * values).sort(0, descending=True)
            f1 = 2 * one_hot[order].cumsum(0) / (fires + positives)
            star = correct(f1, positives / codes.n).max(2).values
            lower = torch.cat([down[1:], torch.full_like(down[:1], -torch.inf)])
            # a cut cannot part equal codes
            place = star.masked_fill(lower == down, -torch.inf).argmax(0, keepdim=True)
            at[side, part] = ((down + lower) / 2).gather(0, place)[0]
    return Cuts(latents, at)


def best_levels(
    codes: SparseCodes, label: Int[Tensor, "n"], common: Bool[Tensor, "n_values"]
) -> Float[Tensor, "d_sae"]:
    """For every latent the code from which it tells any of the `common` values best, by F1*; ∞ if it tells none.

    At a best cut the lowest code that fires is one of the value's own, so codes are ranked once within latents
    and once within latents and values: time and memory grow with the non-zero codes. Equal codes fire together;
    of equally good cuts the highest is taken.
    """
    keep = codes.value > 0
    latent, value, own = codes.latent[keep], codes.value[keep], label[codes.row[keep]]
    positives = torch.bincount(label, minlength=len(common))
    fires = _at_least(latent, value)
    hits = _at_least(latent * len(common) + own, value)
    star = correct(2 * hits / (fires + positives[own]), positives[own] / codes.n)
    star = star.masked_fill(~common[own] | (star <= 0), -torch.inf)
    top = star.new_full((codes.d_sae,), -torch.inf).scatter_reduce(0, latent, star, "amax")
    best = (star == top[latent]) & star.isfinite()
    blank = value.new_full((codes.d_sae,), -torch.inf)
    level = blank.scatter_reduce(0, latent[best], value[best], "amax")
    return level.masked_fill(level == -torch.inf, torch.inf)


def _at_least(group: Int[Tensor, "m"], value: Float[Tensor, "m"]) -> Int[Tensor, "m"]:
    """For every entry how many of its group have a value as high, itself among them."""
    order = value.argsort(descending=True)
    order = order[group[order].argsort(stable=True)]
    g, v = group[order], value[order]
    first = torch.ones(len(g), dtype=torch.bool, device=g.device)
    first[1:] = g[1:] != g[:-1]
    place = torch.arange(len(g), device=g.device)
    start = torch.where(first, place, 0).cummax(0).values
    # equal values of a group count as its last one
    last = torch.ones_like(first)
    last[:-1] = first[1:] | (v[1:] != v[:-1])
    ends = torch.where(last, place, len(g)).flip(0).cummin(0).values.flip(0)
    out = torch.empty_like(place)
    out[order] = ends - start + 1
    return out


def from_level(codes: SparseCodes, level: Float[Tensor, "d_sae"]) -> SparseCodes:
    """The codes that reach their latent's level."""
    keep = codes.value >= level[codes.latent]
    return SparseCodes(codes.row[keep], codes.latent[keep], codes.value[keep], codes.n, codes.d_sae)


def cut(codes: SparseCodes, cuts: Cuts) -> SparseCodes:
    """The same codes with dense latents as +1 above their cut and −1 below the other one.

    For detection only. A latent may be in a row twice, once for each of its detectors.
    """
    if len(cuts.latents) == 0:
        return codes
    dense = torch.zeros(codes.d_sae, dtype=torch.bool, device=codes.row.device)
    dense[cuts.latents] = True
    rest = ~dense[codes.latent]
    rows, latents, values = [codes.row[rest]], [codes.latent[rest]], [codes.value[rest]]
    shown = codes.dense(cuts.latents)
    for side, sign in enumerate((1.0, -1.0)):
        row, place = (sign * shown >= cuts.at[side]).nonzero(as_tuple=True)
        rows.append(row)
        latents.append(cuts.latents[place])
        values.append(torch.full_like(shown[:1, 0], sign).expand(len(row)))
    row, latent, value = (torch.cat(parts) for parts in (rows, latents, values))
    order = (row * codes.d_sae + latent).argsort(stable=True)
    return SparseCodes(row[order], latent[order], value[order], codes.n, codes.d_sae)
