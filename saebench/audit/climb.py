"""Hill climbing on a headline: what a search gains that knows the score and nothing else."""

from collections.abc import Callable
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.dictionary import Dictionary, Encoding

STEPS = 200
CHANGED = 24
"""Latents that a step changes."""


@final
class Tuned(Dictionary):
    """Directions with a threshold and a decoder norm each: everything that the search may change."""

    def __init__(self, name: str, mean: Tensor, rows: Tensor, threshold: Tensor, scale: Tensor) -> None:
        self.name, self.mean, self.rows, self.threshold, self.scale = name, mean, rows, threshold, scale
        self.W_dec = rows * scale[:, None]

    def encode(self, acts: Float[Tensor, "n d_in"]) -> Encoding:
        shown = (acts - self.mean) @ self.rows.T
        return Encoding(torch.where(shown > self.threshold, shown, 0.0), self.mean)

    def changed(self, acts: Float[Tensor, "n d_in"], generator: torch.Generator) -> "Tuned":
        """The same with a few latents pointed at other activations, thresholds and norms redrawn."""
        n = min(CHANGED, len(self.rows))
        at = torch.randperm(len(self.rows), generator=generator)[:n]
        rows, threshold, scale = self.rows.clone(), self.threshold.clone(), self.scale.clone()
        shown = acts[torch.randint(len(acts), (n,), generator=generator)] - self.mean
        noise = torch.randn(rows[at].shape, generator=generator).to(rows)
        mixed = shown / shown.norm(dim=1, keepdim=True) + noise / noise.norm(dim=1, keepdim=True)
        rows[at] = mixed / mixed.norm(dim=1, keepdim=True)
        share = torch.rand(n, generator=generator) ** 3 * 0.2
        projected = ((acts - self.mean) @ rows[at].T).sort(0, descending=True).values
        rank = (share * len(acts)).long().clamp(1, len(acts) - 1)
        threshold[at] = projected[rank, torch.arange(n)].clamp(min=0)
        scale[at] = torch.exp2(torch.randn(n, generator=generator)).to(scale)
        return Tuned(self.name, self.mean, rows, threshold, scale)


def start(acts: Float[Tensor, "n d_in"], latents: int, name: str, seed: int = 0) -> Tuned:
    """Random directions, each on for one activation in a hundred."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(latents, acts.shape[1], generator=generator).to(acts)
    rows = rows / rows.norm(dim=1, keepdim=True)
    mean = acts.mean(0)
    threshold = ((acts - mean) @ rows.T).quantile(0.99, dim=0).clamp(min=0)
    return Tuned(name, mean, rows, threshold, torch.ones(latents).to(acts))


def climb(
    first: Tuned,
    acts: Float[Tensor, "n d_in"],
    headline: Callable[[Dictionary], float],
    steps: int = STEPS,
    seed: int = 0,
    tick: Callable[[int, float], None] = lambda step, reached: None,
) -> Tuned:
    """Keeps a random change whenever the headline rises; `tick` is told after every step how far it is."""
    generator = torch.Generator().manual_seed(seed)
    best, reached = first, headline(first)
    for step in range(1, steps + 1):
        tried = best.changed(acts, generator)
        value = headline(tried)
        if value > reached:
            best, reached = tried, value
        tick(step, reached)
    return best
