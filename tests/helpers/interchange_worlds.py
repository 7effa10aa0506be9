"""Planted facts without a model: attributes in orthogonal subspaces, prompts that ask for one each."""

from typing import NamedTuple

import torch
from torch import Tensor

from saebench.cross_section import Attribute, CrossSection, LinearReadout, Split
from saebench.dictionary import Dictionary, Encoding


class World(NamedTuple):
    section: CrossSection
    subspaces: dict[str, Tensor]
    """Orthonormal rows of each attribute's subspace."""
    atoms: dict[str, Tensor]
    """What a value adds to the activation, `[n_values, d_in]`."""


def facts(nested: bool, d_in: int = 24, n: int = 480, noise: float = 0.02, seed: int = 0) -> World:
    """Two attributes, child and parent, whose atoms lie in orthogonal subspaces.

    Nested: the child's value fixes the parent's (country in continent). Crossed: every pair occurs.
    Child atoms sum to zero within each parent value, as the supervised dictionary assumes.
    """
    g = torch.Generator().manual_seed(seed)
    n_child, n_parent = 6, 3
    basis = torch.linalg.qr(torch.randn(d_in, d_in, generator=g)).Q.T
    child_rows, parent_rows = basis[:n_child], basis[n_child : n_child + n_parent]
    group = torch.arange(n_child) * n_parent // n_child
    shape = torch.eye(n_child)
    if nested:
        shape = shape - torch.stack([(group == group[c]).float() / 2 for c in range(n_child)])
    atoms = {"child": 4 * shape @ child_rows, "parent": 4 * torch.eye(n_parent) @ parent_rows}
    # one vocabulary for both: child values, then parent values; a head per attribute
    weight = torch.zeros(2, n_child + n_parent, d_in)
    weight[0, :n_child], weight[1, n_child:] = atoms["child"], atoms["parent"]
    bias = torch.full((2, n_child + n_parent), -100.0)
    bias[0, :n_child], bias[1, n_child:] = 0.0, 0.0

    def build(labels: Tensor) -> Tensor:
        clean = atoms["child"][labels[:, 0]] + atoms["parent"][labels[:, 1]]
        return clean + noise * torch.randn(clean.shape, generator=g)

    def draw(size: int) -> Tensor:
        child = torch.randint(n_child, (size,), generator=g)
        parent = group[child] if nested else torch.randint(n_parent, (size,), generator=g)
        return torch.stack([child, parent], 1)

    def split(size: int) -> Split:
        labels, query = draw(size), torch.arange(size) % 2
        token = torch.where(query == 0, labels[:, 0], n_child + labels[:, 1])
        other = torch.where(query == 0, (labels[:, 0] + 1) % n_child, n_child + (labels[:, 1] + 1) % n_parent)
        sources, source_labels, expected = {}, {}, {}
        for at, name in enumerate(("child", "parent")):
            there = draw(size)
            while (same := there[:, at] == labels[:, at]).any():
                there[same] = draw(int(same.sum()))
            sources[name], source_labels[name] = build(there), there
            expected[name] = torch.where(query == at, at * n_child + there[:, at], token)
        readout = LinearReadout(weight, bias, query, token, other)
        cluster = torch.arange(size) // 2
        return Split(build(labels), labels, cluster, readout, sources, source_labels, expected, query)

    attributes = (
        Attribute("child", tuple(f"c{i}" for i in range(n_child)), "parent" if nested else None),
        Attribute("parent", tuple(f"p{i}" for i in range(n_parent))),
    )
    section = CrossSection(attributes, split(n), split(n), split(n))
    return World(section, {"child": child_rows, "parent": parent_rows}, atoms)


def carriers(world: World) -> dict[str, Tensor]:
    """Orthonormal rows of the directions in which an attribute's atoms differ.

    The direction that all values share never changes, so nothing can find it.
    """
    found = {}
    for name, atoms in world.atoms.items():
        _, strength, rows = torch.linalg.svd(atoms - atoms.mean(0), full_matrices=False)
        found[name] = rows[strength > 1e-3]
    return found


class Rows(Dictionary):
    """Orthonormal decoder rows, codes by projection: without error if they span the space."""

    name = "rows"

    def __init__(self, rows: Tensor) -> None:
        self.W_dec, self._zero = rows, torch.zeros(rows.shape[1])

    def encode(self, acts: Tensor) -> Encoding:
        return Encoding(acts @ self.W_dec.T, self._zero)
