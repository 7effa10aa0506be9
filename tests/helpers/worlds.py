"""Cross-sections whose truth is known, made of a few matrix products: what the theorems run on."""

from dataclasses import replace

import torch
from torch import Tensor

from saebench.axes import select_axes
from saebench.axes.base import Bench
from saebench.axes.bench import make_bench
from saebench.cross_section import Attribute, CrossSection, LinearReadout, Split
from saebench.dictionaries.supervised import fit_supervised
from saebench.dictionary import Dictionary, Encoding
from saebench.records.outcomes import Outcomes
from saebench.scoring import Scored, score
from saebench.scoring.axes import AXES


class Planted(Dictionary):
    """A dictionary given by decoder rows; its codes are found by the rows' pseudo-inverse."""

    def __init__(self, rows: Tensor, offset: Tensor, name: str = "planted", encoder: Tensor | None = None):
        self.name, self.W_dec, self._offset = name, rows, offset
        self._encoder = torch.linalg.pinv(rows) if encoder is None else encoder

    def encode(self, acts: Tensor) -> Encoding:
        codes = (acts - self._offset) @ self._encoder
        return Encoding(torch.where(codes > 0.5, codes, 0.0), self._offset)


def two_groups(
    n_values: tuple[int, int] = (10, 10),
    norms: tuple[float, float] = (3.0, 2.0),
    d_in: int = 40,
    n: int = 800,
    noise: float = 0.0,
    jitter: float = 0.0,
    seed: int = 0,
) -> tuple[CrossSection, Tensor, Tensor]:
    """Two independent one-hot attributes, `x = r₁ d_{1,i} + r₂ d_{2,j} + b`, orthonormal rows.

    The answer's logits are read off the rows of both groups at once: token v of group 1 against
    token v of group 2, so both attributes have a causal effect. Returns the section, the rows
    `[Σ values, d_in]` scaled by their norms, and the bias.
    """
    g = torch.Generator().manual_seed(seed)
    total = sum(n_values)
    rows = torch.linalg.qr(torch.randn(d_in, d_in, generator=g)).Q[:total]
    scale = torch.tensor([norms[0]] * n_values[0] + [norms[1]] * n_values[1])
    # rows of equal norm make exact ties between latents; jitter breaks them
    scale = scale * (1 + jitter * torch.rand(total, generator=g))
    rows = rows * scale[:, None]
    bias = torch.randn(d_in, generator=g) * 0.1
    loud = torch.tensor([2.0] * n_values[0] + [1.5] * n_values[1])
    # nor do two answers of one group that are both written tie
    loud = loud * (1 + 0.1 * jitter * torch.rand(total, generator=torch.Generator().manual_seed(seed + 1)))
    weight = (rows / scale[:, None] ** 2)[None] * loud[None, :, None]
    readout_bias = -(weight[0] @ bias)[None]

    def draw(size: int) -> tuple[Tensor, Tensor]:
        labels = torch.stack(
            [torch.arange(size) % n_values[0], torch.arange(size) // n_values[0] % n_values[1]], 1
        )
        labels = labels[torch.randperm(size, generator=g)]
        return labels, build(labels)

    def build(labels: Tensor) -> Tensor:
        clean = rows[labels[:, 0]] + rows[n_values[0] + labels[:, 1]] + bias
        return clean + noise * torch.randn(clean.shape, generator=g)

    def split(size: int) -> Split:
        labels, acts = draw(size)
        readout = LinearReadout(
            weight,
            readout_bias,
            torch.zeros(size, dtype=torch.long),
            labels[:, 0],
            n_values[0] + labels[:, 1],
        )
        sources, source_labels, expected = {}, {}, {}
        for at, name in enumerate(("one", "two")):
            moved = labels.clone()
            step = torch.randint(1, n_values[at], (size,), generator=g)
            moved[:, at] = (labels[:, at] + step) % n_values[at]
            sources[name], source_labels[name] = build(moved), moved
            expected[name] = readout.run({0: sources[name]})[0].top
        cluster = torch.arange(size) // 2
        return Split(acts, labels, cluster, readout, sources, source_labels, expected)

    attributes = tuple(
        Attribute(name, tuple(f"{name}{v}" for v in range(n_values[at])))
        for at, name in enumerate(("one", "two"))
    )
    section = CrossSection(attributes, split(n), split(n), split(n))
    return section, rows, bias


def bench_of(section: CrossSection) -> Bench:
    supervised = fit_supervised(section)
    return make_bench(section, supervised, supervised)


def measure(dictionary, bench: Bench, axes: tuple[str, ...] = tuple(AXES)) -> Outcomes:
    """Outcomes of a dictionary on some axes of a bench."""
    return replace(bench, measures=select_axes(axes)).measure(dictionary)


def scores(dictionary, bench: Bench, axes: tuple[str, ...] = tuple(AXES)) -> Scored:
    return score(measure(dictionary, bench, axes))


def entry(scored: Scored, name: str, attribute: str | None = None, edit: str | None = None, k=None):
    """The one entry of that name."""
    wanted = (name, attribute, edit, k)
    found = [e for e in scored.entries if e.identity[1:] == wanted]
    assert len(found) == 1, f"{len(found)} entries for {wanted}"
    return found[0]
