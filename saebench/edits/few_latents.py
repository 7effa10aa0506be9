"""Edits of an activation by changing few latents (docs/methods.md §5) [PE §4.2]."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saebench.dictionaries.codes import SparseCodes, difference
from saebench.scoring.settings import EDIT_SIZES

# Rows of the decoder gathered at once: small pieces stay in a CPU's cache, a GPU wants large ones.
_CPU_BLOCK_BYTES, _GPU_BLOCK_BYTES = 3 * 2**20, 128 * 2**20
# Gains within this share of the best count as tied: float32 cannot order them.
_TIE = 1e-6


class Exchange(NamedTuple):
    """An attribute whose value an aware edit exchanges, prompt by prompt."""

    f1: Float[Tensor, "n_detectors n_values"]
    """Of every detector for every value, on `select`."""
    old: Int[Tensor, "n"]
    new: Int[Tensor, "n"]


class Edit(NamedTuple):
    """An edited activation and the number of latents it changed."""

    acts: Float[Tensor, "n d_in"]
    n_changed: Int[Tensor, "n"]
    removed_weight: Float[Tensor, "n"]
    """Σ over changed latents of `(what of α_j goes) · w_jᵀ(â − b) / ‖â − b‖²`; a code that shrinks goes in part."""


def _blocks(n: int, width: int, d_in: int, device: torch.device) -> int:
    size = _CPU_BLOCK_BYTES if device.type == "cpu" else _GPU_BLOCK_BYTES
    return max(1, min(n, size // max(1, 4 * width * d_in)))


class _Batch(NamedTuple):
    """Some rows and the latents that may change in them."""

    at: Int[Tensor, "b"]
    latents: Int[Tensor, "b m"]
    steps: Float[Tensor, "b m"]
    """By how much each would change; 0 where it does not."""
    rows: Float[Tensor, "*b m d_in"]
    """The latents' rows of the decoder: one set for all, or one for each."""


def _batches(change: SparseCodes, W_dec: Float[Tensor, "d_sae d_in"]) -> Iterator[_Batch]:
    """All rows in batches. Where most latents change, as neurons do, every row shares all of them."""
    every, (d_sae, d_in) = torch.arange(change.n, device=W_dec.device), W_dec.shape
    if change.crowded:
        latents, steps = torch.arange(d_sae, device=W_dec.device), change.all_dense()
        for at in every.split(_blocks(change.n, d_sae, 1, W_dec.device)):
            yield _Batch(at, latents.expand(len(at), -1), steps[at], W_dec)
        return
    (latents, steps), count = change.padded(), change.per_row
    for at in every.split(_blocks(change.n, latents.shape[1], d_in, W_dec.device)):
        most = max(1, int(count[at].max()))
        yield _Batch(at, latents[at, :most], steps[at, :most], W_dec[latents[at, :most]])


def greedy(
    base: Float[Tensor, "n d_in"],
    target: Float[Tensor, "n d_in"],
    alpha: SparseCodes,
    beta: SparseCodes,
    W_dec: Float[Tensor, "d_sae d_in"],
    sizes: Sequence[int] = EDIT_SIZES,
    weight: Float[Tensor, "n d_in"] | None = None,
) -> dict[int, Edit]:
    """Agnostic edits: at most k latents that bring the base closest to the source in L2 [PE §4.2].

    With c the change so far and Δ = source − base, each step takes
    `argmin_j ‖c + (β_j − α_j) w_j − Δ‖²`, each latent once, and stops when nothing lowers the
    distance. Expanding the square, the step's gain is `2 D_j w_j·(Δ − c) − D_j² ‖w_j‖²`, so only
    products with the rows of latents that change are needed. Ties go to the larger contribution
    `|D_j| ‖w_j‖`, then to the lower index. Starts from the base activation, not its reconstruction.

    `weight` is `(â − b) / ‖â − b‖²` per row, for the edit magnitude.
    """
    change = difference(alpha, beta)
    changed = {k: torch.zeros(len(base), dtype=torch.long, device=base.device) for k in sizes}
    acts = {k: base.clone() for k in sizes}
    lost = {k: torch.zeros(len(base), device=base.device) for k in sizes}
    for at, j, d, rows in _batches(change, W_dec):
        norm = rows.square().sum(-1) * d.square()
        rest = target[at] - base[at]
        open_ = d != 0
        taken = torch.zeros(len(at), dtype=torch.long, device=base.device)
        shed = torch.zeros(len(at), device=base.device)
        here = None
        if weight is not None:
            # α_j = β_j − D_j is known only through the base codes; gather those of this block
            here = _taken(_base_codes(alpha, at, j), d) * _products(rows, weight[at])
        # once each latent that changes was taken, further steps do nothing
        last = min(max(sizes), j.shape[1])
        for step in range(1, last + 1):
            gain = 2 * d * _products(rows, rest) - norm
            gain = gain.masked_fill(~open_, -torch.inf)
            top = gain.max(1, keepdim=True).values
            tied = gain >= top - _TIE * top.abs()
            pick = norm.masked_fill(~tied, -1.0).argmax(1, keepdim=True)
            go = top[:, 0] > 0
            move = d.gather(1, pick) * W_dec[j.gather(1, pick)[:, 0]]
            rest = rest - move * go[:, None]
            open_ = open_.scatter(1, pick, False)
            open_ = open_ & go[:, None]
            taken = taken + go
            if here is not None:
                shed = shed + here.gather(1, pick)[:, 0] * go
            for size in sizes:
                if step == size or step == last < size:
                    acts[size][at] = target[at] - rest
                    changed[size][at] = taken
                    lost[size][at] = shed
    return {k: Edit(acts[k], changed[k], lost[k]) for k in sizes}


def _products(rows: Float[Tensor, "*b m d_in"], x: Float[Tensor, "b d_in"]) -> Float[Tensor, "b m"]:
    """`w_j · x` of every row's own latents, or of latents that all rows share."""
    return x @ rows.T if rows.ndim == 2 else torch.einsum("bmd,bd->bm", rows, x)


def _taken(alpha: Float[Tensor, "*shape"], change: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """What of a code goes when it changes: all if its sign turns, nothing if it grows."""
    return torch.where(
        alpha > 0, torch.minimum(alpha, (-change).clamp(min=0)), torch.maximum(alpha, (-change).clamp(max=0))
    )


def _base_codes(alpha: SparseCodes, at: Tensor, latents: Int[Tensor, "b m"]) -> Float[Tensor, "b m"]:
    """α of the given latents for rows `at`."""
    return _codes_at(alpha, at[:, None].expand_as(latents), latents)


def _codes_at(
    codes: SparseCodes, row: Int[Tensor, "*shape"], latent: Int[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Codes at some places, 0 where a latent is off, by a search in the ordered codes."""
    key = codes.row * codes.d_sae + codes.latent
    if len(key) == 0:
        return torch.zeros(row.shape, device=codes.value.device, dtype=codes.value.dtype)
    wanted = row * codes.d_sae + latent
    place = torch.searchsorted(key, wanted).clamp(max=len(key) - 1)
    return torch.where(key[place] == wanted, codes.value[place], 0.0)


def swap_all(
    base: Float[Tensor, "n d_in"], alpha: SparseCodes, beta: SparseCodes, W_dec: Float[Tensor, "d_sae d_in"]
) -> Float[Tensor, "n d_in"]:
    """Every latent takes the source's code: `a_b + Σ_j (β_j − α_j) w_j`."""
    return add_codes(base, difference(alpha, beta), W_dec)


def random_swap(
    base: Float[Tensor, "n d_in"],
    alpha: SparseCodes,
    beta: SparseCodes,
    W_dec: Float[Tensor, "d_sae d_in"],
    sizes: Sequence[int],
    seed: int,
) -> dict[int, Float[Tensor, "n d_in"]]:
    """The same number of latents as an edit of size k, drawn at random among those that differ."""
    change = difference(alpha, beta)
    generator = torch.Generator().manual_seed(seed)
    shuffle = torch.rand(len(change.row), generator=generator).to(base.device)
    # rank of every code within its row, in random order
    order = shuffle.argsort()
    order = order[change.row[order].argsort(stable=True)]
    start = change.per_row.cumsum(0) - change.per_row
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=base.device) - start[change.row[order]]
    out = {}
    for k in sizes:
        keep = rank < k
        kept = SparseCodes(change.row[keep], change.latent[keep], change.value[keep], change.n, change.d_sae)
        out[k] = add_codes(base, kept, W_dec)
    return out


def add_codes(
    base: Float[Tensor, "n d_in"], codes: SparseCodes, W_dec: Float[Tensor, "d_sae d_in"]
) -> Float[Tensor, "n d_in"]:
    """`a + Σ_j code_j w_j`, in pieces."""
    if codes.crowded:
        return torch.addmm(base, codes.all_dense(), W_dec)
    out = base.clone()
    for at in _pieces(codes, W_dec):
        out.index_add_(0, codes.row[at], codes.value[at, None] * W_dec[codes.latent[at]])
    return out


def _pieces(codes: SparseCodes, W_dec: Tensor) -> Iterator[slice]:
    """Codes few enough that their decoder rows may stand in memory one by one."""
    size = _blocks(len(codes.row), 1, W_dec.shape[1], W_dec.device)
    return (slice(start, start + size) for start in range(0, len(codes.row), size))


def aware(
    base: Float[Tensor, "n d_in"],
    alpha: SparseCodes,
    beta: SparseCodes,
    W_dec: Float[Tensor, "d_sae d_in"],
    exchanged: Sequence[Exchange],
    sizes: Sequence[int] = EDIT_SIZES,
    weight: Float[Tensor, "n d_in"] | None = None,
) -> dict[int, Edit]:
    """Aware edits: out with the latents that stand for the old value, in with those for the new.

    Removes the e latents active in α that rank highest by F1 (on `select`) for the old value and
    adds the e active in β that rank highest for the new one, each with its own coefficient
    [PE §4.2, A.16]. Changes up to 2e latents for each attribute that is exchanged; one that ranks for two of
    them changes once.
    """
    out = {}
    lost_by = [rank_in_row(alpha, by_detector(alpha, each.f1, each.old)) for each in exchanged]
    gained_by = [rank_in_row(beta, by_detector(beta, each.f1, each.new)) for each in exchanged]
    for e in sizes:
        gone, come = (
            only(codes, torch.stack([rank < e for rank in ranks]).any(0))
            for codes, ranks in ((alpha, lost_by), (beta, gained_by))
        )
        change = difference(gone, come)
        lost = torch.zeros(len(base), device=base.device)
        if weight is not None:
            for at in _pieces(change, W_dec):
                row, latent, step = change.row[at], change.latent[at], change.value[at]
                taken = _taken(_codes_at(gone, row, latent), step)
                lost.index_add_(0, row, taken * (W_dec[latent] * weight[row]).sum(1))
        out[e] = Edit(add_codes(base, change, W_dec), change.per_row, lost)
    return out


def by_detector(codes: SparseCodes, f1: Tensor, value: Int[Tensor, "n"]) -> Float[Tensor, "nnz"]:
    """F1 of each code's detector for its row's value."""
    detector = codes.detector
    # a detector unseen on `select` has never been right there
    seen = detector < len(f1)
    return torch.where(seen, f1[detector.clamp(max=len(f1) - 1), value[codes.row]], 0.0)


def rank_in_row(codes: SparseCodes, score: Float[Tensor, "nnz"]) -> Int[Tensor, "nnz"]:
    """Rank of each code within its row, the highest score first; ties by latent."""
    order = score.argsort(descending=True, stable=True)
    order = order[codes.row[order].argsort(stable=True)]
    start = codes.per_row.cumsum(0) - codes.per_row
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - start[codes.row[order]]
    return rank


def only(codes: SparseCodes, keep: Bool[Tensor, "nnz"]) -> SparseCodes:
    """Some of the codes."""
    return SparseCodes(codes.row[keep], codes.latent[keep], codes.value[keep], codes.n, codes.d_sae)


def top_in_row(codes: SparseCodes, score: Float[Tensor, "nnz"], size: int) -> SparseCodes:
    """At most `size` codes of each row, those of the highest positive score."""
    return only(codes, (rank_in_row(codes, score) < size) & (score > 0))
