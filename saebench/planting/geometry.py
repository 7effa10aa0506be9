"""Where variables are to lie: a subspace for each, and an atom in it for each value."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.planting.spec import PlantSpec, VariableSpec

_PACKING_STEPS = 400


@dataclass(frozen=True)
class Geometry:
    """Subspaces and atoms of the carried variables.

    `rows[A]` are orthonormal `[rank, d]`; `atoms[A]` is `[n_values, d]` and lies in them (a first row of
    zeros where entities may have none). `span` is an orthonormal basis of all subspaces together.
    """

    rows: dict[str, Float[Tensor, "rank d"]]
    atoms: dict[str, Float[Tensor, "n_values d"]]
    span: Float[Tensor, "s d"]

    @property
    def coherence(self) -> float:
        """Largest cosine between directions of two variables' subspaces, in [0, 1]; 0 if orthogonal."""
        names = list(self.rows)
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        cosines = [float(torch.linalg.matrix_norm(self.rows[a] @ self.rows[b].T, 2)) for a, b in pairs]
        return min(1.0, max(cosines, default=0.0))

    @property
    def orthogonal(self) -> bool:
        return len(self.span) == sum(len(rows) for rows in self.rows.values())


def make_geometry(spec: PlantSpec) -> Geometry:
    """Subspaces and atoms of a spec, from its seed: orthogonal where they fit, else packed apart."""
    generator = torch.Generator().manual_seed(spec.training.seed + 1)
    ranks = [spec.variables[name].dimensions for name in spec.carried]
    parts = _subspaces(ranks, spec.model.d_model, generator)
    rows = {name: part.float() for name, part in zip(spec.carried, parts, strict=True)}
    atoms = {n: _coordinates(spec.variables[n], generator).float() @ rows[n] for n in spec.carried}
    _, strength, basis = torch.linalg.svd(torch.cat(parts), full_matrices=False)
    return Geometry(rows, atoms, basis[strength > 1e-6].float().contiguous())


def _subspaces(ranks: list[int], d: int, generator: torch.Generator) -> list[Float[Tensor, "rank d"]]:
    free = torch.randn(d, max(d, sum(ranks)), generator=generator, dtype=torch.float64)
    if sum(ranks) <= d:
        return [part.T.contiguous() for part in torch.linalg.qr(free).Q[:, : sum(ranks)].split(ranks, 1)]
    parts = [part.clone().requires_grad_() for part in free[:, : sum(ranks)].split(ranks, 1)]
    optimizer = torch.optim.Adam(parts, lr=0.02)
    for _ in range(_PACKING_STEPS):
        bases = torch.cat([torch.linalg.qr(part).Q for part in parts], 1)
        gram = (bases.T @ bases).square()
        own = torch.block_diag(*[torch.ones(rank, rank, dtype=gram.dtype) for rank in ranks])
        # fourth powers: the largest overlaps count most
        loss = (gram * (1 - own)).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [torch.linalg.qr(part.detach()).Q.T.contiguous() for part in parts]


def _coordinates(variable: VariableSpec, generator: torch.Generator) -> Float[Tensor, "n_values rank"]:
    """Points of equal norm, as far apart as their number and the rank allow; `none` at zero."""
    n, rank = variable.n_values, variable.dimensions
    if variable.circular:
        angle = 2 * torch.pi * torch.arange(n, dtype=torch.float64) / n
        points = torch.zeros(n, rank, dtype=torch.float64)
        points[:, 0], points[:, 1] = angle.cos(), angle.sin()
    else:
        points = _spread(n, rank, generator)
    points = variable.norm * points
    if variable.present < 1:
        points = torch.cat([torch.zeros(1, rank, dtype=points.dtype), points])
    return points


def _spread(n: int, rank: int, generator: torch.Generator) -> Float[Tensor, "n rank"]:
    """Unit vectors pushed apart: a simplex where the rank allows it, at right angles where it allows that."""
    free = torch.randn(n, rank, generator=generator, dtype=torch.float64)
    if rank >= n:
        # pushed apart they would be a simplex, which leaves a dimension empty
        return torch.linalg.qr(free.T).Q.T
    free.requires_grad_()
    optimizer = torch.optim.Adam([free], lr=0.05)
    for _ in range(_PACKING_STEPS):
        points = torch.nn.functional.normalize(free, dim=1)
        away = torch.pdist(points).clamp_min(1e-3)
        loss = away.reciprocal().square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return torch.nn.functional.normalize(free.detach(), dim=1)
