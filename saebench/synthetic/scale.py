"""SynthSAEBench's model (arXiv 2602.14687): thousands of features with everything at once.

Zipf firing, low-rank correlation, trees of mutually exclusive children, magnitudes that fall with
rank. Pushing 16,384 features apart in 768 dimensions takes about an hour of one core: they are built
once and cached.
"""

import hashlib
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from torch import Tensor

from saebench.cache import build_folder, cache_folder
from saebench.synthetic.families import MOST_ATTRIBUTES, Family
from saebench.synthetic.generator import Generator, Group, seeded

if TYPE_CHECKING:
    from sae_lens.synthetic import SyntheticModel

_WORTH_CACHING = 4096


class Scale(Family):
    """Parameters in the terms of `sae_lens.synthetic`."""

    features: int = Field(ge=2)
    exponent: float = 0.5
    max_prob: float = Field(0.4, gt=0, le=1)
    min_prob: float = Field(5e-4, gt=0, le=1)
    rank: int = Field(25, ge=0)
    """Rank of the correlation; 0 for none."""
    correlation_scale: float = Field(0.1, ge=0)
    roots: int = Field(ge=1)
    branching: int = Field(4, ge=2)
    depth: int = Field(3, ge=1)
    magnitudes: tuple[float, float] = (5.0, 4.0)
    """Mean magnitude of the most and of the least frequent feature, linear in rank."""
    spread: tuple[float, float] = (0.5, 0.5)
    """Mean and standard deviation of the folded normal that standard deviations are drawn from."""
    steps: int = Field(100, ge=0)
    """Steps that push features apart."""
    lr: float = Field(3e-4, gt=0)
    probes: int = Field(32, ge=1, le=MOST_ATTRIBUTES)

    def build(self, task: str, seed: int) -> Generator:
        with seeded(seed, 0):
            model = self._model(seed)
        parent = _parents(model, self.features)
        D, b = (t.data.clone() for t in (model.feature_dict.feature_vectors, model.feature_dict.bias))
        law = model.activation_generator
        groups = self._probes(law.mean_firing_magnitudes, law.firing_probabilities)
        return Generator(task, D, b, law, groups, parent=parent, exclusive=True)

    def _model(self, seed: int) -> "SyntheticModel":
        from sae_lens.synthetic import SyntheticModel

        config = self._config(seed)
        if not self.steps or self.features < _WORTH_CACHING:
            return SyntheticModel(config)
        key = hashlib.sha256(f"{self.model_dump_json()}/{seed}/1".encode()).hexdigest()[:16]
        path = cache_folder("synthetic") / f"scale-{self.features}x{self.d_in}-{key}"
        build_folder(path, lambda part: SyntheticModel(config).save(part))
        return SyntheticModel.load_from_disk(path)

    def _config(self, seed: int) -> Any:
        from sae_lens.synthetic import (
            FoldedNormalMagnitudeConfig,
            HierarchyConfig,
            LinearMagnitudeConfig,
            LowRankCorrelationConfig,
            OrthogonalizationConfig,
            SyntheticModelConfig,
            ZipfianFiringProbabilityConfig,
        )

        firing = ZipfianFiringProbabilityConfig(
            exponent=self.exponent, max_prob=self.max_prob, min_prob=self.min_prob
        )
        trees = HierarchyConfig(
            total_root_nodes=self.roots,
            branching_factor=self.branching,
            max_depth=self.depth,
            mutually_exclusive_portion=1.0,
            compensate_probabilities=True,
            scale_children_by_parent=True,
        )
        # its own seed field is ignored by SAELens: the model's seed decides
        low_rank = LowRankCorrelationConfig(self.rank, self.correlation_scale) if self.rank else None
        apart = OrthogonalizationConfig(self.steps, self.lr) if self.steps else None
        return SyntheticModelConfig(
            num_features=self.features,
            hidden_dim=self.d_in,
            firing_probability=firing,
            hierarchy=trees,
            orthogonalization=apart,
            correlation=low_rank,
            bias=self.bias,
            seed=seed,
            mean_firing_magnitudes=LinearMagnitudeConfig(*self.magnitudes),
            std_firing_magnitudes=FoldedNormalMagnitudeConfig(*self.spread),
        )

    def _probes(self, magnitude: Tensor, firing: Tensor) -> tuple[Group, ...]:
        """On/off attributes spread evenly over the frequent half of the features, by mean strength."""
        frequent = firing.argsort(descending=True, stable=True)[: max(self.probes, 64)]
        order = frequent[magnitude[frequent].argsort(descending=True, stable=True)].tolist()
        step = (len(order) - 1) / max(1, self.probes - 1)
        chosen = dict.fromkeys(order[round(i * step)] for i in range(self.probes))
        return tuple(Group(f"f{f}", (f,), ("off", "on")) for f in chosen)


def _parents(model: "SyntheticModel", n: int) -> Tensor:
    """Index of each feature's parent in the forest, −1 for none."""
    parent = torch.full((n,), -1)
    waiting = list(model.hierarchy.roots) if model.hierarchy else []
    while waiting:
        node = waiting.pop()
        for child in node.children:
            if node.feature_index is not None and child.feature_index is not None:
                parent[child.feature_index] = node.feature_index
            waiting.append(child)
    return parent
