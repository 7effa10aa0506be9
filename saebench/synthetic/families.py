"""Families of synthetic tasks: which features there are and how they fire (docs/methods.md §9)."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from saebench.errors import TaskError
from saebench.synthetic.generator import Generator, Group, seeded

if TYPE_CHECKING:
    from sae_lens.synthetic import FeatureDictionary

MOST_ATTRIBUTES = 64


class Family(BaseModel, ABC):
    """Parameters of a family; `build` makes its generator."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    d_in: int = Field(ge=2)
    bias: float = Field(0.5, ge=0)
    """Norm of `b`."""

    @abstractmethod
    def build(self, task: str, seed: int) -> Generator: ...

    def _features(self, n: int, seed: int) -> "FeatureDictionary":
        """Unit rows: orthonormal where they fit, else pushed apart as far as they go."""
        from sae_lens.synthetic import FeatureDictionary, orthogonal_initializer

        push = _orthonormal if n <= self.d_in else orthogonal_initializer()
        with seeded(seed, 0):
            return FeatureDictionary(n, self.d_in, bias=self.bias, initializer=push, seed=seed)


def _orthonormal(features: "FeatureDictionary") -> None:
    rows = features.feature_vectors.data
    # LAPACK's sign convention differs between builds: the diagonal of R decides it
    q, r = torch.linalg.qr(rows.double().T)
    features.feature_vectors.data = (q * r.diagonal().sign()).T.to(rows).contiguous()


def _law(n: int, **options: Any):
    from sae_lens.synthetic import ActivationGenerator

    return ActivationGenerator(n, **options)


def _probes(features: list[int], most: int, names: list[str] | None = None) -> tuple[Group, ...]:
    """On/off attributes of some features, evenly spread over the list."""
    most = min(most, MOST_ATTRIBUTES, len(features))
    at = [round(i * (len(features) - 1) / max(1, most - 1)) for i in range(most)]
    names = names or [f"f{f}" for f in features]
    return tuple(Group(names[i], (features[i],), ("off", "on")) for i in at)


def _parts(features: "FeatureDictionary") -> tuple[Tensor, Tensor]:
    return features.feature_vectors.data.clone(), features.bias.data.clone()


class Independent(Family):
    """Features that fire independently, more of them than dimensions."""

    features: int = Field(ge=1)
    firing: float = Field(gt=0, lt=1)
    magnitude: float = Field(1.0, gt=0)
    spread: float = Field(0.0, ge=0)
    """Standard deviation of the magnitude."""
    probes: int = Field(12, ge=1, le=MOST_ATTRIBUTES)

    def build(self, task: str, seed: int) -> Generator:
        law = _law(
            self.features,
            firing_probabilities=self.firing,
            mean_firing_magnitudes=self.magnitude,
            std_firing_magnitudes=self.spread,
        )
        D, b = _parts(self._features(self.features, seed))
        groups = _probes(list(range(self.features)), self.probes)
        return Generator(task, D, b, activations=law, groups=groups)


class Correlated(Independent):
    """Blocks of features whose firing is correlated through a Gaussian copula, one ρ a block."""

    rho: tuple[float, ...]
    """Correlation within each block; the features are dealt evenly to the blocks."""

    def build(self, task: str, seed: int) -> Generator:
        rho = self._matrix()
        law = _law(
            self.features,
            firing_probabilities=self.firing,
            correlation_matrix=rho,
            mean_firing_magnitudes=self.magnitude,
            std_firing_magnitudes=self.spread,
        )
        groups = _probes(list(range(self.features)), self.probes)
        D, b = _parts(self._features(self.features, seed))
        return Generator(task, D, b, activations=law, groups=groups, correlation=rho)

    def _matrix(self) -> Tensor:
        size, rest = divmod(self.features, len(self.rho))
        if rest:
            raise TaskError(
                f"{self.features} features cannot be dealt evenly to {len(self.rho)} blocks (rho)."
            )
        out = torch.zeros(self.features, self.features)
        for i, value in enumerate(self.rho):
            if not -1 / max(1, size - 1) < value < 1:
                raise TaskError(
                    f"rho {value} is impossible within a block of {size} features. Expected above"
                    f" {-1 / max(1, size - 1):.3f} and below 1."
                )
            at = slice(i * size, (i + 1) * size)
            out[at, at] = value
        return out.fill_diagonal_(1.0)


class Hierarchical(Family):
    """Parents with children that fire only under them, at most one of them at a time."""

    parents: int = Field(ge=1)
    children: int = Field(ge=2)
    parent_firing: float = Field(gt=0, lt=1)
    child_given_parent: float = Field(gt=0, le=1)
    """P(any child | parent); each child has an equal part of it."""
    magnitude: float = Field(1.0, gt=0)
    spread: float = Field(0.0, ge=0)
    probe_parents: int = Field(4, ge=1)
    probe_children: int = Field(8, ge=1)

    def build(self, task: str, seed: int) -> Generator:
        from sae_lens.synthetic import HierarchyNode, hierarchy_modifier

        n = self.parents * (1 + self.children)
        parent = torch.full((n,), -1)
        nodes = []
        for p in range(self.parents):
            first = self.parents + p * self.children
            parent[first : first + self.children] = p
            leaves = [HierarchyNode(first + c) for c in range(self.children)]
            nodes.append(HierarchyNode(p, leaves, mutually_exclusive_children=True))
        firing = torch.full((n,), self.parent_firing)
        # children fire independently and one of those that do survives: some one does with
        # probability 1 − (1 − q)^children
        firing[self.parents :] = 1 - (1 - self.child_given_parent) ** (1 / self.children)
        law = _law(
            n,
            firing_probabilities=firing,
            modify_activations=hierarchy_modifier(nodes),
            mean_firing_magnitudes=self.magnitude,
            std_firing_magnitudes=self.spread,
        )
        tops = list(range(self.parents))
        leaves = list(range(self.parents, n))
        names = [f"p{int(parent[f])}c{(f - self.parents) % self.children}" for f in leaves]
        groups = _probes(tops, self.probe_parents, [f"p{p}" for p in tops])
        groups += _probes(leaves, self.probe_children, names)
        D, b = _parts(self._features(n, seed))
        return Generator(task, D, b, activations=law, groups=groups, parent=parent, exclusive=True)


class Occlusion(Family):
    """`x = r·u_i + v_j`: two one-hot groups, always on together, norm ratio r."""

    values: tuple[int, int]
    """Values of the strong and of the weak group."""
    ratio: float = Field(ge=1)
    magnitude: float = Field(1.0, gt=0)

    def build(self, task: str, seed: int) -> Generator:
        return self._build(task, seed, [])

    def _build(self, task: str, seed: int, modifiers: list) -> Generator:
        strong, weak = self.values
        names = ("strong", "weak")
        spans = (tuple(range(strong)), tuple(range(strong, strong + weak)))
        groups = tuple(
            Group(name, span, tuple(f"{name}{i}" for i in range(len(span))))
            for name, span in zip(names, spans, strict=True)
        )
        magnitude = torch.full((strong + weak,), self.magnitude)
        magnitude[:strong] *= self.ratio
        law = _law(
            strong + weak,
            firing_probabilities=1.0,
            mean_firing_magnitudes=magnitude,
            modify_activations=[_one_of(groups), *modifiers],
        )
        D, b = _parts(self._features(strong + weak, seed))
        parts = tuple(range(strong + weak))
        return Generator(task, D, b, activations=law, groups=groups, parts=parts)


class Composed(Occlusion):
    """Two one-hot groups, always on together, in which one pair occurs more often than by chance."""

    boost: float = Field(ge=0, lt=1)
    """Share of samples that are made the boosted pair, beside those that are it by chance."""

    def build(self, task: str, seed: int) -> Generator:
        pair = torch.tensor([0, self.values[0]])

        def boosted(codes: Tensor, law: Any) -> Tensor:
            chosen = torch.rand(len(codes)) < self.boost
            only = torch.zeros_like(codes[0])
            only[pair] = law.mean_firing_magnitudes[pair]
            return torch.where(chosen[:, None], only, codes)

        return self._build(task, seed, [boosted])


class Splitting(Family):
    """A wide binary feature, `x = ±μ + noise`."""

    norm: float = Field(gt=0)
    """‖μ‖."""
    noise: float = Field(1.0, ge=0)

    def build(self, task: str, seed: int) -> Generator:
        group = Group("sign", (0, 1), ("plus", "minus"))
        law = _law(
            2,
            firing_probabilities=1.0,
            mean_firing_magnitudes=self.norm,
            modify_activations=[_one_of((group,))],
        )
        D, b = _parts(self._features(1, seed))
        D = torch.cat([D, -D])
        return Generator(task, D, b, activations=law, groups=(group,), noise=self.noise)


def _one_of(groups: tuple[Group, ...]):
    """Keeps one feature of every group, each with equal chance."""
    from sae_lens.synthetic import HierarchyNode, hierarchy_modifier

    nodes = []
    for group in groups:
        leaves = [HierarchyNode(f) for f in group.features]
        nodes.append(HierarchyNode(None, leaves, mutually_exclusive_children=True))
    return hierarchy_modifier(nodes)
