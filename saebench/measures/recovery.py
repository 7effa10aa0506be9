"""How much of the true features a dictionary has found (docs/methods.md §9): pure functions of tensors.

W are decoder rows of a dictionary, D the true features, both compared by direction alone.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from saebench.dictionaries.codes import SparseCodes

RECOVERED_AT = 0.8
MIN_ROWS = 5
"""Rows needed on either side of a conditional probability."""
# Decides between a feature and its mirror image (±μ); far below what float32 weights resolve.
_TIE = 1e-7
_ROUNDING = 1e-5


def unit(rows: Float[Tensor, "m d_in"]) -> Float[Tensor, "m d_in"]:
    """Rows at norm 1 in float64; a zero row stays zero."""
    rows = rows.double()
    norm = rows.norm(dim=1, keepdim=True)
    return rows / torch.where(norm > 0, norm, 1.0)


def cosines(
    D: Float[Tensor, "n_features d_in"], W: Float[Tensor, "d_sae d_in"]
) -> Float[Tensor, "n_features d_sae"]:
    """Cosine of every feature with every decoder row, in [−1, 1]."""
    return unit(D) @ unit(W).T


class Matching(NamedTuple):
    """One latent for each feature, as far as they last, so that the sum of |cos| is largest."""

    latent: Int[Tensor, "n_features"]
    """−1 for a feature without a latent (fewer latents than features)."""
    cosine: Float[Tensor, "n_features"]
    """Signed cosine with that latent, 0 without one."""

    @property
    def matched(self) -> Bool[Tensor, "n_features"]:
        return self.latent >= 0


def match(cos: Float[Tensor, "n_features d_sae"]) -> Matching:
    """The Hungarian matching on |cos|; min(d_sae, n_features) pairs.

    The mean |cos| over its pairs is what the field calls MCC, mean correlation coefficient
    (arXiv 2505.20254); it has nothing to do with Matthews'.
    """
    weight = cos.abs() + _TIE * cos
    feature, latent = linear_sum_assignment(weight.cpu().numpy(), maximize=True)
    found = torch.full((len(cos),), -1, dtype=torch.long, device=cos.device)
    found[torch.from_numpy(feature).to(cos.device)] = torch.from_numpy(latent).to(cos.device)
    value = cos.gather(1, found.clamp(min=0)[:, None])[:, 0]
    return Matching(found, torch.where(found >= 0, value, 0.0))


def nearest(cos: Float[Tensor, "n_features d_sae"]) -> Int[Tensor, "d_sae"]:
    """The feature that each latent is closest to, by |cos|."""
    return (cos.abs() + _TIE * cos).argmax(0)


def random_rows(n: int, d_in: int, seed: int) -> Float[Tensor, "n d_in"]:
    """Independent random directions: what a decoder of this size matches by chance."""
    return torch.randn(n, d_in, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def calibrated(value: float, null: float) -> float:
    """`(value − null) / (1 − null)`: 0 is what random decoders of the same size reach, 1 is best."""
    return (value - null) / (1 - null)


class Detections(NamedTuple):
    """Each latent as a detector of the feature assigned to it: counts over samples."""

    true_positives: Float[Tensor, "d_sae"]
    fires: Float[Tensor, "d_sae"]
    positives: Float[Tensor, "d_sae"]

    @property
    def f1(self) -> Float[Tensor, "d_sae"]:
        """`2TP / (2TP + FP + FN)`; 0 if TP = 0, also where neither ever is on."""
        return 2 * self.true_positives / (self.fires + self.positives).clamp(min=1)


def detections(codes: SparseCodes, truth: SparseCodes, feature: Int[Tensor, "d_sae"]) -> Detections:
    """Counts for latents that each stand for a feature (−1 for none). Active means non-zero."""
    of = feature[codes.latent]
    keep = of >= 0
    wanted = codes.row[keep] * truth.d_sae + of[keep]
    known = truth.row * truth.d_sae + truth.latent
    hit = torch.isin(wanted, known)
    d_sae = codes.d_sae
    tp = torch.bincount(codes.latent[keep][hit], minlength=d_sae)
    fires = torch.bincount(codes.latent, minlength=d_sae)
    per_feature = torch.bincount(truth.latent, minlength=truth.d_sae)
    positives = torch.where(feature >= 0, per_feature[feature.clamp(min=0)], 0)
    return Detections(tp.double(), fires.double(), positives.double())


def inverse(matching: Matching, d_sae: int) -> Int[Tensor, "d_sae"]:
    """The feature of each latent, −1 for latents without one."""
    out = torch.full((d_sae,), -1, dtype=torch.long, device=matching.latent.device)
    features = matching.matched.nonzero()[:, 0]
    out[matching.latent[features]] = features
    return out


def absorption(
    codes: SparseCodes,
    truth: SparseCodes,
    latent: Int[Tensor, "n_features"],
    parent: Int[Tensor, "n_features"],
) -> Float[Tensor, "n_children"]:
    """`P(parent latent off | parent and child on) − P(off | parent on, no child)` for every child.

    0 is best: the parent's latent does not care whether a child is on (arXiv 2409.14507). NaN where
    either side has fewer than 5 rows, or the parent has no latent; callers leave those out.
    """
    children = (parent >= 0).nonzero()[:, 0]
    tops, place = parent[children].unique(return_inverse=True)
    on = truth.dense(tops) > 0
    child_on = truth.dense(children) > 0
    # code ≠ 0 counts as active, as everywhere
    live = codes.dense(latent[tops].clamp(min=0)) != 0
    off = ~live
    counts = torch.zeros(on.shape, device=on.device)
    counts.index_add_(1, place, child_on.float())
    alone = on & (counts == 0)
    n_alone = alone.sum(0)
    base = (off & alone).sum(0) / n_alone.clamp(min=1)
    both = child_on & on[:, place]
    n_both = both.sum(0)
    rate = (off[:, place] & both).sum(0) / n_both.clamp(min=1)
    fine = (n_both >= MIN_ROWS) & (n_alone[place] >= MIN_ROWS) & (latent[tops][place] >= 0)
    return torch.where(fine, rate - base[place], torch.nan).double()


def leakage(
    D: Float[Tensor, "n_features d_in"],
    W: Float[Tensor, "d_sae d_in"],
    matching: Matching,
    parent: Int[Tensor, "n_features"],
) -> Float[Tensor, "n_children"]:
    """`cos(w_child, d_parent) − cos(d_child, d_parent)`; 0 is best, NaN without a latent.

    A row is turned to face the feature it is matched with, since codes may be negative.
    """
    children = (parent >= 0).nonzero()[:, 0]
    rows = _facing(W, matching)[children]
    above, own = unit(D)[parent[children]], unit(D)[children]
    moved = (rows * above).sum(1) - (own * above).sum(1)
    return torch.where(matching.matched[children], moved, torch.nan)


def _facing(W: Float[Tensor, "d_sae d_in"], matching: Matching) -> Float[Tensor, "n d_in"]:
    rows = unit(W)[matching.latent.clamp(min=0)]
    return rows * torch.where(matching.cosine < 0, -1.0, 1.0)[:, None]


class Hedging(NamedTuple):
    """Per feature: sum over its correlated partners, and how many there are."""

    total: Float[Tensor, "n_features"]
    pairs: Float[Tensor, "n_features"]


def hedging(
    D: Float[Tensor, "n_features d_in"],
    W: Float[Tensor, "d_sae d_in"],
    matching: Matching,
    correlation: Float[Tensor, "n_features n_features"],
) -> Hedging:
    """Σ over pairs with ρ ≠ 0 of `sign(ρ_ij) (cos(w_m(i), d_j) − cos(d_i, d_j))`; 0 is best.

    Positive: the latent of one feature leans towards features that fire together with it, and away
    from those that do not (arXiv 2505.11756).
    """
    sign = correlation.double().sign().fill_diagonal_(0)
    sign = sign * matching.matched[:, None]
    moved = _facing(W, matching) @ unit(D).T - unit(D) @ unit(D).T
    return Hedging((sign * moved).sum(1), sign.abs().sum(1))


def mixing(
    D: Float[Tensor, "n_features d_in"], W: Float[Tensor, "d_sae d_in"], matching: Matching
) -> Float[Tensor, "n_features"]:
    """Mean over other features of `cos(w_m(i), d_j) − cos(d_i, d_j)`, signed: hedging at ρ = 0."""
    moved = _facing(W, matching) @ unit(D).T - unit(D) @ unit(D).T
    return moved.fill_diagonal_(0).sum(1) / max(1, len(D) - 1)


def composition(parts: Float[Tensor, "n_parts d_sae"]) -> Float[Tensor, "d_sae"]:
    """`max_i |f_j(e_i)| / Σ_i |f_j(e_i)|` of every latent, e_i the input with part i alone.

    1: the latent stands for one part; ½: for a pair equally. NaN for latents that no part turns on.
    """
    size = parts.abs().double()
    total = size.sum(0)
    return torch.where(total > 0, size.max(0).values / total, torch.nan)


def pair_composition(codes: SparseCodes, sizes: tuple[int, int]) -> Float[Tensor, "d_sae"]:
    """`composition` of the main effects that parts have on every latent, over all pairs of parts once.

    Rows of `codes` are pairs (i, k), k fastest. The effect of part i is the latent's mean size over
    all pairs with i, minus its mean over all pairs, where that is positive. All pairs being equally
    frequent, a latent for part i owes nothing to its companions, however often they meet in the data;
    and a latent that only whole pairs turn on is seen, which lone parts do not.
    """
    first, second = sizes
    size = codes.value.abs().double()
    mean = torch.zeros(codes.d_sae, dtype=size.dtype, device=size.device)
    mean.index_add_(0, codes.latent, size / codes.n)
    effects = []
    for part, n in ((codes.row // second, first), (codes.row % second, second)):
        flat = torch.zeros(n * codes.d_sae, dtype=size.dtype, device=size.device)
        flat.index_add_(0, part * codes.d_sae + codes.latent, size * n / codes.n)
        effects.append(flat.view(n, -1) - mean)
    effect = torch.cat(effects)
    # a latent that is on alike for all pairs has no part: only rounding is left of its effects
    return composition(torch.where(effect > _ROUNDING * mean, effect, 0.0))
