"""Scores of other benchmarks beside ours, on the same data: written from their papers (docs/methods.md §12, peers).

A *concept* is one value of one attribute, and a probe is a logistic regression that tells it from the rest.

- k-sparse probing: the k latents whose mean codes differ most between a concept and the rest, and a probe on
  those alone; balanced accuracy on new samples (Gurnee et al. 2023, arXiv 2305.01610; SAEBench, arXiv
  2503.09532).
- TPP, targeted probe perturbation: take away the latents that matter most to one concept's probe; how much
  more does that probe lose than the others? (SAEBench, §3.)
- SCR, spurious correlation removal: a probe trained where two concepts agree; take away the latents that
  matter most to the wrong one; which part of the gap to a probe trained on balanced data closes? (SHIFT, Marks
  et al. 2024, arXiv 2403.19647; SAEBench, §3.)

Samples, concepts and probes are ours and small: these are scores of that kind, not those benchmarks.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saebench.cross_section import CrossSection

MOST_CONCEPTS = 8
SPARSE = (1, 4)
ABLATED = 4
_STEPS, _RIDGE = 12, 1e-2
_LEAST = 10
"""Samples that a probe needs of either class."""
_GAP = 0.02
"""A gap between biased and balanced probe that is smaller says nothing about closing it."""


class Probe(NamedTuple):
    """`weight · x + bias > 0` says that the concept is there."""

    weight: Float[Tensor, "d"]
    bias: float

    def accuracy(self, x: Float[Tensor, "n d"], on: Bool[Tensor, "n"]) -> float:
        """Balanced: the mean of what is right among those with the concept and those without."""
        said = x @ self.weight.to(x) + self.bias > 0
        return 0.5 * float((said & on).sum() / on.sum().clamp(min=1)) + 0.5 * float(
            (~said & ~on).sum() / (~on).sum().clamp(min=1)
        )


def fit_probe(x: Float[Tensor, "n d"], on: Bool[Tensor, "n"]) -> Probe:
    """Logistic regression with both classes weighted alike, a small ridge, Newton's method in float64."""
    x = x.double()
    mean, spread = x.mean(0), x.std(0).clamp(min=1e-6)
    z = torch.cat([(x - mean) / spread, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    y = on.double()
    weight = torch.where(on, 0.5 / on.sum(), 0.5 / (~on).sum()).double()
    ridge = torch.eye(z.shape[1], dtype=x.dtype) * _RIDGE
    ridge[-1, -1] = 0.0
    beta = torch.zeros(z.shape[1], dtype=x.dtype)
    for _ in range(_STEPS):
        p = torch.sigmoid(z @ beta)
        slope = z.T @ (weight * (p - y)) + ridge @ beta
        curve = (z * (weight * p * (1 - p))[:, None]).T @ z + ridge
        # constant columns leave a flat direction, which lstsq passes over
        beta = beta - torch.linalg.lstsq(curve + 1e-9 * torch.eye(len(beta), dtype=x.dtype), slope).solution
    direction = beta[:-1] / spread
    return Probe(direction, float(beta[-1] - direction @ mean))


class Concepts(NamedTuple):
    """Concepts with their probes on activations, made once for a section and shared by all dictionaries."""

    fit: Bool[Tensor, "n c"]
    test: Bool[Tensor, "m c"]
    probes: list[Probe]

    @classmethod
    def of(cls, section: CrossSection) -> "Concepts":
        """At most eight, evenly spread over those with enough samples in both splits."""
        fit, test = [], []
        for at, attribute in enumerate(section.attributes):
            for value in attribute.detectable:
                here = [split.labels[:, at] == value for split in (section.fit, section.test)]
                if all(_LEAST <= int(on.sum()) <= len(on) - _LEAST for on in here):
                    fit.append(here[0])
                    test.append(here[1])
        chosen = np.unique(np.linspace(0, len(fit) - 1, min(MOST_CONCEPTS, len(fit))).round()).astype(int)
        fit, test = [torch.stack([side[i] for i in chosen], 1) for side in (fit, test)]
        return cls(fit, test, [fit_probe(section.fit.acts, fit[:, c]) for c in range(fit.shape[1])])


class Views(NamedTuple):
    """One dictionary's codes of both splits, dense, with the activations and decoder rows."""

    fit: Float[Tensor, "n d_sae"]
    test: Float[Tensor, "m d_sae"]
    fit_acts: Float[Tensor, "n d_in"]
    test_acts: Float[Tensor, "m d_in"]
    W_dec: Float[Tensor, "d_sae d_in"]


def contrast(codes: Float[Tensor, "n d_sae"], on: Bool[Tensor, "n"]) -> Float[Tensor, "d_sae"]:
    """Mean code with the concept minus mean code without."""
    return codes[on].mean(0) - codes[~on].mean(0)


def sparse_probing(views: Views, concepts: Concepts, k: int) -> float:
    """Mean balanced accuracy of probes on k latents; ½ is chance, 1 best."""
    found = []
    for c in range(concepts.fit.shape[1]):
        on = concepts.fit[:, c]
        latents = contrast(views.fit, on).abs().topk(min(k, views.fit.shape[1])).indices
        probe = fit_probe(views.fit[:, latents], on)
        found.append(probe.accuracy(views.test[:, latents].double(), concepts.test[:, c]))
    return float(np.mean(found))


def _important(views: Views, probe: Probe, on: Bool[Tensor, "n"], k: int) -> Tensor:
    """Latents by how much of the probe's decision they write, on average, where the concept is there."""
    effect = contrast(views.fit, on) * (views.W_dec @ probe.weight.to(views.W_dec))
    return effect.topk(min(k, len(effect))).indices


def _without(views: Views, latents: Tensor) -> Float[Tensor, "m d_in"]:
    """Test activations with the latents' share taken away; the error term stays."""
    return views.test_acts - views.test[:, latents] @ views.W_dec[latents]


def tpp(views: Views, concepts: Concepts, k: int = ABLATED) -> float | None:
    """Mean over concepts of the own probe's loss in accuracy minus the other probes'; None for one concept."""
    n = concepts.fit.shape[1]
    if n < 2:
        return None
    before = [
        p.accuracy(views.test_acts.double(), concepts.test[:, c]) for c, p in enumerate(concepts.probes)
    ]
    found = []
    for c, probe in enumerate(concepts.probes):
        edited = _without(views, _important(views, probe, concepts.fit[:, c], k)).double()
        lost = [before[o] - p.accuracy(edited, concepts.test[:, o]) for o, p in enumerate(concepts.probes)]
        found.append(lost[c] - np.mean([lost[o] for o in range(n) if o != c]))
    return float(np.mean(found))


def scr(views: Views, concepts: Concepts, k: int = ABLATED) -> float | None:
    """Mean share of the gap between biased and balanced probe that is closed; None where there is no gap."""
    found = []
    for wanted, wrong in pairwise(range(concepts.fit.shape[1])):
        on, other = concepts.fit[:, wanted], concepts.fit[:, wrong]
        agree = on == other
        if min(int((agree & on).sum()), int((agree & ~on).sum())) < _LEAST:
            continue
        biased = fit_probe(views.fit_acts[agree], on[agree])
        test = concepts.test[:, wanted]
        base = biased.accuracy(views.test_acts.double(), test)
        gap = concepts.probes[wanted].accuracy(views.test_acts.double(), test) - base
        if gap < _GAP:
            continue
        edited = _without(views, _important(views, concepts.probes[wrong], other, k)).double()
        found.append((biased.accuracy(edited, test) - base) / gap)
    return float(np.mean(found)) if found else None


def peers(views: Views, concepts: Concepts) -> dict[str, float | None]:
    """All of them by name."""
    probing: dict[str, float | None] = {f"probing@{k}": sparse_probing(views, concepts, k) for k in SPARSE}
    return probing | {"tpp": tpp(views, concepts), "scr": scr(views, concepts)}
