"""Activations drawn from known features: `x = c D + b + noise`.

Feature activations `c` come from `sae_lens.synthetic`. It draws from torch's global generator, so
every draw here sets that generator's state and puts the old one back: the same task and seed give
the same bytes, and nothing else in the process is disturbed.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from sae_lens.synthetic import ActivationGenerator

HOOK = "synthetic"
"""The one site of a generator, `synthetic@sample`."""
_SPREAD = 0x9E3779B1
_TRUE_L0_SAMPLES = 8192


@contextmanager
def seeded(*seeds: int) -> Iterator[None]:
    """Torch's global generator seeded from some numbers; its old state is put back afterwards."""
    seed = 0
    for part in seeds:
        seed = (seed * _SPREAD + part + 1) % 2**63
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@dataclass(frozen=True)
class Group:
    """An attribute in terms of features: one that is on or off, or several of which one is on."""

    name: str
    features: tuple[int, ...]
    values: tuple[str, ...]

    @property
    def on_off(self) -> bool:
        return len(self.features) == 1


class Sample(NamedTuple):
    """What the generator drew: the truth behind some activations."""

    codes: Float[Tensor, "n n_features"]
    noise: Float[Tensor, "n d_in"] | None


@dataclass(frozen=True, eq=False)
class Generator:
    """Known features and their law. Stands where a language model stands for other tasks."""

    task: str
    D: Float[Tensor, "n_features d_in"] = field(repr=False)
    """Unit rows."""
    b: Float[Tensor, "d_in"] = field(repr=False)
    activations: "ActivationGenerator" = field(repr=False)
    groups: tuple[Group, ...] = field(repr=False)
    """The probed attributes, at most 64."""
    noise: float = 0.0
    """Standard deviation per dimension of what belongs to no feature."""
    parent: Int[Tensor, "n_features"] | None = field(default=None, repr=False)
    """Index of each feature's parent, −1 for none; None without a hierarchy."""
    exclusive: bool = False
    """Whether at most one child of a parent is on."""
    correlation: Float[Tensor, "n_features n_features"] | None = field(default=None, repr=False)
    """Correlation of the Gaussians behind the firing."""
    parts: tuple[int, ...] = ()
    """Features that are parts of always co-active pairs."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    name: str = "synthetic"
    n_layers: int = 0
    dtype: torch.dtype = torch.float32

    @property
    def n_features(self) -> int:
        return self.D.shape[0]

    @property
    def d_model(self) -> int:
        return self.D.shape[1]

    def hook_points(self) -> list[str]:
        return [HOOK]

    @property
    def sha256(self) -> str:
        """Digest of the features and of how often and how strongly they fire."""
        law = self.activations
        total = hashlib.sha256(f"{self.task}\0{self.noise}\0{self.groups}".encode())
        for part in (
            self.D,
            self.b,
            law.firing_probabilities,
            law.mean_firing_magnitudes,
            law.std_firing_magnitudes,
            self.parent,
            self.correlation,
        ):
            if part is not None:
                total.update(part.cpu().numpy().tobytes())
        return total.hexdigest()

    def sample(self, n: int, *seeds: int) -> Sample:
        """Draws feature activations and noise; the same seeds give the same bytes."""
        with seeded(*seeds), torch.no_grad():
            codes = self.activations.sample(n)
            noise = self.noise * torch.randn(n, self.d_model) if self.noise else None
        return Sample(codes, noise)

    def acts(self, sample: Sample) -> Float[Tensor, "n d_in"]:
        """`x = c D + b + noise`."""
        x = sample.codes @ self.D + self.b
        return x if sample.noise is None else x + sample.noise

    def batches(self, batch: int, seed: int) -> Iterator[Float[Tensor, "batch d_in"]]:
        """Fresh activations for ever, for training; never those of an evaluation."""
        step = 0
        while True:
            yield self.acts(self.sample(batch, 1, seed, step)).to(self.device)
            step += 1

    def magnitudes(self, features: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
        """How strongly the given features fire when they do: drawn from their law, above zero."""
        mean = self.activations.mean_firing_magnitudes[features]
        drawn = mean + torch.randn(len(features)) * self.activations.std_firing_magnitudes[features]
        # a feature that is drawn to be on has to be on
        return torch.maximum(drawn, 0.05 * mean)

    def settled(self, codes: Float[Tensor, "n n_features"], group: Group) -> Bool[Tensor, "n"]:
        """Rows in which the group's attribute can be changed alone and stay a possible input.

        A parent only while no child is on; a child only under a parent that is on, and with no
        exclusive sibling on. Everything is possible where features know no parents.
        """
        if self.parent is None or not group.on_off:
            return torch.ones(len(codes), dtype=torch.bool)
        feature = group.features[0]
        children = (self.parent == feature).nonzero()[:, 0]
        fine = ~(codes[:, children] > 0).any(1)
        above = int(self.parent[feature])
        if above >= 0:
            fine &= codes[:, above] > 0
            if self.exclusive:
                siblings = (self.parent == above).nonzero()[:, 0]
                others = siblings[siblings != feature]
                fine &= ~(codes[:, others] > 0).any(1)
        return fine

    def true_l0(self) -> float:
        """Mean number of features that are on, measured on a fixed sample."""
        codes = self.sample(min(_TRUE_L0_SAMPLES, 2**24 // self.n_features), 2).codes
        return float((codes > 0).sum(1).float().mean())
