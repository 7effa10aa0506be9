"""Supervised feature dictionaries: what an ideal dictionary would find, computed from labels.

docs/methods.md §2 [PE §3]. `â = ā + Σ_A u_{A, value_A}`, coefficients 1; the ceiling of the axes.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.linalg import null_space
from torch import Tensor

from saebench.cross_section import Attribute, CrossSection
from saebench.dictionary import Encoding, Known, LabelledDictionary

Method = Literal["mean", "mse"]
CEILING: Method = "mse"
"""What labels can do at best: `mean` gives an attribute's atoms a share of every attribute that goes with it."""


class Variable(NamedTuple):
    """One block of atoms: a lookup from the labels of some attributes to an atom of the block.

    The place of a row in the block is `Σ_i labels[:, columns[i]] · strides[i]`, sent through
    `recode` where two different label tuples stand for the same atom (name at a place).
    """

    name: str
    columns: tuple[int, ...]
    strides: tuple[int, ...]
    size: int
    recode: Int[Tensor, "m"] | None = None

    def index(self, labels: Int[Tensor, "n n_attributes"]) -> Int[Tensor, "n"]:
        flat = sum(labels[:, c] * s for c, s in zip(self.columns, self.strides, strict=True))
        assert isinstance(flat, Tensor)
        return flat if self.recode is None else self.recode.to(flat.device)[flat]


def product(attributes: Sequence[Attribute], names: Sequence[str]) -> Variable:
    """The variable whose values are the joint values of some attributes."""
    columns = [[a.name for a in attributes].index(n) for n in names]
    sizes = [len(attributes[c].values) for c in columns]
    strides = [int(np.prod(sizes[i + 1 :], dtype=int)) for i in range(len(sizes))]
    return Variable("∧".join(names), tuple(columns), tuple(strides), int(np.prod(sizes)))


def independent(attributes: Sequence[Attribute]) -> tuple[Variable, ...]:
    """One block of atoms per attribute: the default parametrization."""
    return tuple(product(attributes, [a.name]) for a in attributes)


@final
class SupervisedDictionary(LabelledDictionary):
    """Atoms computed from labels. `W_dec` holds them block by block, `b_dec` is ā."""

    def __init__(
        self,
        name: str,
        variables: tuple[Variable, ...],
        atoms: Float[Tensor, "d_sae d_in"],
        mean: Float[Tensor, "d_in"],
    ) -> None:
        self.name, self.variables, self.W_dec, self.b_dec = name, variables, atoms, mean

    def atoms_of(self, labels: Int[Tensor, "n n_attributes"]) -> Int[Tensor, "n n_variables"]:
        """Row of `W_dec` that each variable contributes."""
        start, columns = 0, []
        for variable in self.variables:
            columns.append(start + variable.index(labels))
            start += variable.size
        return torch.stack(columns, 1)

    def encode(self, acts: Float[Tensor, "n d_in"], known: Known) -> Encoding:
        codes = acts.new_zeros(len(acts), self.d_sae)
        atoms = self.atoms_of(known.labels)
        return Encoding(codes.scatter(1, atoms, 1.0), self.b_dec)

    def edit(
        self,
        attribute: int,
        base: Float[Tensor, "n d_in"],
        known: Known,
        source: Float[Tensor, "n d_in"],
        source_known: Known,
    ) -> Float[Tensor, "n d_in"]:
        """`a − u_{A,v} + u_{A,v'}`: the source supplies the new label and nothing else."""
        wanted = Known(with_attribute(known.labels, source_known.labels, attribute))
        old, new = self.encode(base, known).codes, self.encode(base, wanted).codes
        return base + (new - old) @ self.W_dec


def with_attribute(
    labels: Int[Tensor, "n n_attributes"], source: Int[Tensor, "n n_attributes"], attribute: int
) -> Int[Tensor, "n n_attributes"]:
    """The base labels with one attribute taken from the source."""
    out = labels.clone()
    out[:, attribute] = source[:, attribute]
    return out


def fit_supervised(
    section: CrossSection, method: Method = "mean", variables: tuple[Variable, ...] | None = None
) -> SupervisedDictionary:
    """Fits a supervised dictionary on `fit` (docs/methods.md §2).

    `mean`: `u_{A,v} = mean{a : A = v} − ā`, right when attributes are independent. `mse`: least
    squares on the one-hot design, minimum norm, from counts and cross-counts; children of a nested
    attribute sum to zero within each parent value.
    """
    variables = variables or independent(section.attributes)
    labels, mean = section.fit.labels, section.mean
    centred = (section.fit.acts - mean).double()
    blank = SupervisedDictionary("", variables, mean.new_zeros(_width(variables), len(mean)), mean)
    atoms_at = blank.atoms_of(labels)
    sums = centred.new_zeros(blank.d_sae, len(mean))
    for column in atoms_at.T:
        sums.index_add_(0, column, centred)
    counts = torch.bincount(atoms_at.flatten(), minlength=blank.d_sae)
    if method == "mean":
        atoms = sums / counts.clamp(min=1)[:, None]
    else:
        gram = _cross_counts(atoms_at, blank.d_sae)
        basis = _free_directions(section.attributes, variables, labels, blank.d_sae)
        atoms = torch.from_numpy(_solve(gram, sums.cpu().numpy(), basis)).to(mean.device)
    return SupervisedDictionary(f"supervised:{method}", variables, atoms.to(mean.dtype), mean)


def _width(variables: tuple[Variable, ...]) -> int:
    return sum(v.size for v in variables)


def _cross_counts(atoms_at: Int[Tensor, "n v"], size: int) -> Float[np.ndarray, "d_sae d_sae"]:
    """CᵀC of the one-hot design, from how often two atoms occur together; C itself never exists."""
    gram = np.zeros((size, size))
    columns = atoms_at.cpu().numpy()
    for a in range(columns.shape[1]):
        for b in range(columns.shape[1]):
            np.add.at(gram, (columns[:, a], columns[:, b]), 1.0)
    return gram


def _free_directions(
    attributes: Sequence[Attribute],
    variables: tuple[Variable, ...],
    labels: Int[Tensor, "n n_attributes"],
    size: int,
) -> Float[np.ndarray, "d_sae m"] | None:
    """Basis of the atoms in which children sum to zero within each parent value; None if unneeded.

    Minimum norm alone splits the parent's effect between parent and child [ours].
    """
    names = [a.name for a in attributes]
    rows, start = [], 0
    observed = labels.cpu().numpy()
    for variable in variables:
        child = attributes[variable.columns[0]] if len(variable.columns) == 1 else None
        if child is not None and child.parent is not None:
            pairs = np.unique(observed[:, [names.index(child.parent), variable.columns[0]]], axis=0)
            for parent in np.unique(pairs[:, 0]):
                row = np.zeros(size)
                row[start + pairs[pairs[:, 0] == parent, 1]] = 1.0
                rows.append(row)
        start += variable.size
    return null_space(np.stack(rows)) if rows else None


def _solve(
    gram: Float[np.ndarray, "d_sae d_sae"],
    sums: Float[np.ndarray, "d_sae d_in"],
    basis: Float[np.ndarray, "d_sae m"] | None,
) -> Float[np.ndarray, "d_sae d_in"]:
    """`U = (CᵀC)⁺ Cᵀ (a − ā)`, within the span of `basis` where one is given."""
    if basis is None:
        return np.linalg.pinv(gram, hermitian=True) @ sums
    return basis @ (np.linalg.pinv(basis.T @ gram @ basis, hermitian=True) @ (basis.T @ sums))


def unidentified_parents(section: CrossSection) -> dict[str, list[str]]:
    """Parent values with a single child: parent and child cannot be told apart there."""
    found: dict[str, list[str]] = {}
    names = [a.name for a in section.attributes]
    for at, child in enumerate(section.attributes):
        if child.parent is None:
            continue
        pairs = section.fit.labels[:, [names.index(child.parent), at]].unique(dim=0)
        parents, counts = pairs[:, 0].unique(return_counts=True)
        values = section.attributes[names.index(child.parent)].values
        single = [values[int(p)] for p, c in zip(parents, counts, strict=True) if int(c) == 1]
        if single:
            found[child.name] = single
    return found
