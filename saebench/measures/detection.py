"""Pure tensor maths on codes and labels: detectors, F1 tables, unions, reconstruction."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saebench.dictionaries.codes import SparseCodes

MIN_POSITIVES, MIN_CLUSTERS = 5, 2
"""Values with fewer positives, or positives in fewer clusters, in a split are dropped, counted (docs/methods.md §6)."""
MAX_UNION = 64
"""Largest union of detectors that over-splitting looks at (docs/methods.md §8)."""
_MAX_CANDIDATES = 1024


class F1Table(NamedTuple):
    """How every detector does on every value, as counts."""

    true_positives: Int[Tensor, "n_detectors n_values"]
    fires: Int[Tensor, "n_detectors"]
    positives: Int[Tensor, "n_values"]
    n: int

    @property
    def f1(self) -> Float[Tensor, "n_detectors n_values"]:
        """`F1 = 2TP / (2TP + FP + FN)` in [0, 1], 0 if TP = 0; higher is better [PE §5]."""
        # 2TP + FP + FN = fires + positives; where that is 0, TP is 0 too
        both = (self.fires[:, None] + self.positives[None]).clamp(min=1)
        return 2 * self.true_positives / both

    @property
    def f1_star(self) -> Float[Tensor, "n_detectors n_values"]:
        """`(F1 − F1₀) / (1 − F1₀)`, `F1₀ = 2p / (1 + p)` what an always-on latent gets (docs/methods.md §6)."""
        return correct(self.f1, self.positives / self.n)


def correct(f1: Float[Tensor, "*shape"], prevalence: Float[Tensor, "*shape2"]) -> Float[Tensor, "*shape3"]:
    """F1 relative to an always-on detector: 0 for that one, 1 at best, negative below it."""
    chance = 2 * prevalence / (1 + prevalence)
    # at prevalence 1 there is nothing to detect; the caller drops such values
    return (f1 - chance) / (1 - chance).clamp(min=1e-12)


def frequent(label: Int[Tensor, "n"], cluster: Int[Tensor, "n"], n_values: int) -> Bool[Tensor, "n_values"]:
    """Values with at least 5 positives in at least 2 clusters."""
    clusters = torch.bincount(pairs(cluster, label, n_values).unique() % n_values, minlength=n_values)
    return (torch.bincount(label, minlength=n_values) >= MIN_POSITIVES) & (clusters >= MIN_CLUSTERS)


def pairs(cluster: Int[Tensor, "n"], value: Int[Tensor, "n"], n_values: int) -> Int[Tensor, "n"]:
    """One number for each pair, in the order of clusters, then values; modulo `n_values` it is the value.

    Distinct numbers are found many times faster than distinct rows.
    """
    return cluster.unique(return_inverse=True)[1] * n_values + value


def f1_table(codes: SparseCodes, label: Int[Tensor, "n"], n_values: int, signed: bool) -> F1Table:
    """Counts for all detectors × values of one attribute, by one pass over the non-zero codes.

    A row has one value of the attribute, so a code adds to one cell: a histogram of
    (detector, value) pairs, with no array of prompts × latents. `signed` says whether detectors for
    negative codes are counted; without them the table is half as tall.
    """
    n_detectors = 2 * codes.d_sae if signed else codes.d_sae
    detector = codes.detector
    cells = torch.bincount(detector * n_values + label[codes.row], minlength=n_detectors * n_values)
    fires = torch.bincount(detector, minlength=n_detectors)
    positives = torch.bincount(label, minlength=n_values)
    return F1Table(cells.view(n_detectors, n_values), fires, positives, codes.n)


def f1_tables(codes: SparseCodes, labels: Int[Tensor, "n m"], n_values: int, signed: bool) -> F1Table:
    """Counts where a row has m different values at once, as a prompt has two names."""
    found = [f1_table(codes, label, n_values, signed) for label in labels.T]
    hits = torch.stack([table.true_positives for table in found]).sum(0)
    positives = torch.stack([table.positives for table in found]).sum(0)
    return F1Table(hits, found[0].fires, positives, codes.n)


def permuted(
    labels: Int[Tensor, "n"], cluster: Int[Tensor, "n"], generator: torch.Generator
) -> Int[Tensor, "n"]:
    """Labels that say nothing: all prompts of a cluster that share a label get one other label.

    Prompts of one cluster (a pair of names, a city) are one draw. Permuted prompt by prompt, labels
    could not be learned from the pairs a latent stands for, and any choice would look meaningful.
    """
    _, cell = pairs(cluster, labels, int(labels.max()) + 1).unique(return_inverse=True)
    label = labels.new_empty(int(cell.max()) + 1).scatter(0, cell, labels)
    return label[torch.randperm(len(label), generator=generator).to(label.device)][cell]


def best_detectors(table: F1Table, value: int) -> Int[Tensor, "m"]:
    """The detectors with the highest F1 for a value, all of them where several tie; none if 0."""
    f1 = table.f1[:, value]
    top = f1.max()
    if top == 0:
        return torch.empty(0, dtype=torch.long, device=f1.device)
    return (f1 == top).nonzero()[:, 0]


class Union(NamedTuple):
    """Detectors in the order in which a greedy union took them, and its F1* on `select` after each."""

    detectors: Int[Tensor, "m"]
    f1_star: Float[Tensor, "m"]


def grow_union(codes: SparseCodes, table: F1Table, positive: Bool[Tensor, "n"], value: int) -> Union:
    """Greedy union of detectors for one value, up to 64 of them, while F1 rises [PE §6; ours].

    Each step adds the detector that gives the union the highest F1. Grown twice, from all
    candidates and from the precise ones alone: a latent that is on nearly everywhere has a higher
    F1 than any one fragment of a split feature, and would block the fragments' union. The growth
    with the higher final F1* counts.
    """
    hits, fires = table.true_positives[:, value], table.fires
    n_positive = int(table.positives[value])
    prevalence = n_positive / table.n
    excess = hits - prevalence * fires
    candidates = (excess > 0).nonzero()[:, 0]
    if len(candidates) > _MAX_CANDIDATES:
        candidates = candidates[excess[candidates].argsort(descending=True, stable=True)]
        candidates = candidates[:_MAX_CANDIDATES].sort().values
    precise = candidates[hits[candidates] > (1 + prevalence) / 2 * fires[candidates]]
    grown = [_grow(codes, c, positive) for c in (candidates, precise) if len(c)]
    if not grown:
        empty = torch.empty(0, device=positive.device)
        return Union(empty.long(), empty)
    chance = torch.tensor(prevalence)
    unions = [Union(order, correct(f1, chance)) for order, f1 in grown]
    return max(unions, key=lambda u: float(u.f1_star[-1]))


def _grow(
    codes: SparseCodes, candidates: Int[Tensor, "c"], positive: Bool[Tensor, "n"]
) -> tuple[Int[Tensor, "m"], Float[Tensor, "m"]]:
    fires = codes.fires(candidates).float()
    # what a candidate would add: rows not yet covered, weighted apart for positives and negatives
    weights = torch.stack([positive.float(), (~positive).float()])
    n_positive = positive.sum()
    tp = fp = torch.zeros((), device=fires.device)
    order, trace, best = [], [], -1.0
    for _ in range(min(MAX_UNION, len(candidates))):
        more_tp, more_fp = weights @ fires
        f1 = 2 * (tp + more_tp) / (tp + more_tp + fp + more_fp + n_positive)
        pick = int(f1.argmax())
        if float(f1[pick]) <= best:
            break
        best = float(f1[pick])
        tp, fp = tp + more_tp[pick], fp + more_fp[pick]
        order.append(pick)
        trace.append(best)
        weights = weights * (1 - fires[:, pick])
    return candidates[order], torch.tensor(trace)


def first_hit(codes: SparseCodes, order: Int[Tensor, "m"]) -> Int[Tensor, "n"]:
    """For each row the place in `order` of the first detector that fires, or m if none does.

    A prefix of j detectors covers a row iff its first hit is below j.
    """
    if len(order) == 0:
        return torch.zeros(codes.n, dtype=torch.long, device=codes.row.device)
    place = torch.arange(len(order), device=codes.row.device).expand(codes.n, -1)
    return torch.where(codes.fires(order), place, len(order)).min(1).values


class Explained(NamedTuple):
    """Per detector of an attribute: the union of its values that `select` prefers, its F1* there and on `test`."""

    select: Float[Tensor, "n_detectors"]
    f1_star: Float[Tensor, "n_detectors"]


def explain(select: F1Table, test: F1Table, keep: Bool[Tensor, "n_values"], most: int = 10) -> Explained:
    """How well each detector matches a union of up to 10 values of one attribute [PE §5].

    Values are sorted by F1 on `select` and every prefix is tried (F1 is not monotone in the
    prefix); the prefix with the highest F1* there is scored on `test`.
    """
    kept = keep.nonzero()[:, 0]
    order = select.f1[:, kept].sort(dim=1, descending=True, stable=True).indices
    order = kept[order[:, :most]]

    def prefixes(table: F1Table) -> Float[Tensor, "n_detectors m"]:
        # values of one attribute exclude each other, so a union's counts are sums
        tp = table.true_positives.gather(1, order).cumsum(1)
        positives = table.positives[order].cumsum(1)
        f1 = 2 * tp / (table.fires[:, None] + positives).clamp(min=1)
        # a union of all values is true everywhere: no detector can be right or wrong about it
        return correct(f1, positives / table.n).where(positives < table.n, -torch.inf)

    best, pick = prefixes(select).max(1, keepdim=True)
    return Explained(best[:, 0], prefixes(test).gather(1, pick)[:, 0])


def squared_norm(x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n"]:
    """Row-wise ‖x‖² in float64."""
    return x.double().square().sum(1)
