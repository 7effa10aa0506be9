"""Supervised dictionaries against dense least squares and hand-made means."""

from dataclasses import replace

import pytest
import torch
from worlds import two_groups

from saebench.cross_section import Attribute, CrossSection, LinearReadout, Split
from saebench.dictionaries.supervised import fit_supervised, independent, product, unidentified_parents
from saebench.kinds.names.sections import parametrizations


def section_of(labels, acts, attributes) -> CrossSection:
    n, d = acts.shape
    zeros = torch.zeros(n, dtype=torch.long)
    readout = LinearReadout(torch.zeros(1, 2, d), torch.zeros(1, 2), zeros, zeros, zeros + 1)
    split = Split(acts, labels, torch.arange(n), readout)
    return CrossSection(attributes, split, split, split)


def dependent(seed=0, n=300):
    """Two attributes that mostly agree, random activations."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(5, (n, 2), generator=g)
    follow = torch.rand(n, generator=g) < 0.6
    labels[follow, 1] = labels[follow, 0]
    attributes = tuple(Attribute(x, tuple("abcde")) for x in "pq")
    return section_of(labels, torch.randn(n, 8, generator=g), attributes)


def design(labels, sizes):
    return torch.cat([torch.nn.functional.one_hot(labels[:, i], k) for i, k in enumerate(sizes)], 1).double()


def test_mean_atoms_are_class_means_minus_the_mean():
    section = dependent()
    atoms = fit_supervised(section, "mean").W_dec
    acts, labels = section.fit.acts, section.fit.labels
    for v in range(5):
        assert torch.allclose(atoms[v], acts[labels[:, 0] == v].mean(0) - acts.mean(0), atol=1e-5)
        assert torch.allclose(atoms[5 + v], acts[labels[:, 1] == v].mean(0) - acts.mean(0), atol=1e-5)


def test_mse_is_the_minimum_norm_least_squares_of_the_one_hot_design():
    section = dependent()
    atoms = fit_supervised(section, "mse").W_dec
    c = design(section.fit.labels, (5, 5))
    centred = (section.fit.acts - section.mean).double()
    wanted = torch.linalg.pinv(c) @ centred
    assert torch.allclose(atoms.double(), wanted, atol=1e-5)


def nested():
    """Ten countries in two continents, unequal sizes; the truth is continent + country effects."""
    g = torch.Generator().manual_seed(0)
    parent_of = torch.tensor([0] * 5 + [1] * 5)
    child = torch.arange(400) % 10
    labels = torch.stack([child, parent_of[child]], 1)
    continents, countries = 3 * torch.randn(2, 12, generator=g), torch.randn(10, 12, generator=g)
    for p in (0, 1):
        countries[parent_of == p] -= countries[parent_of == p].mean(0)
    acts = continents[labels[:, 1]] + countries[labels[:, 0]]
    attributes = (
        Attribute("country", tuple("abcdefghij"), parent="continent"),
        Attribute("continent", ("x", "y")),
    )
    return section_of(labels, acts, attributes), continents


def test_nested_children_sum_to_zero_so_the_parent_keeps_its_whole_effect():
    section, continents = nested()
    atoms = fit_supervised(section, "mse").W_dec
    assert torch.allclose(atoms[:5].sum(0), torch.zeros(12), atol=1e-4)
    edit = atoms[10] - atoms[11]
    assert torch.allclose(edit, continents[0] - continents[1], atol=1e-4)


def test_without_declaring_the_nesting_the_parent_loses_part_of_its_effect():
    section, continents = nested()
    flat = replace(section, attributes=(Attribute("country", tuple("abcdefghij")), section.attributes[1]))
    atoms = fit_supervised(flat, "mse").W_dec
    share = (atoms[10] - atoms[11]).norm() / (continents[0] - continents[1]).norm()
    assert float(share) == pytest.approx(5 / 6, abs=1e-3)


def test_a_parent_with_one_child_is_reported():
    section, _ = nested()
    assert unidentified_parents(section) == {}
    labels = section.fit.labels[section.fit.labels[:, 0] < 6]
    lonely = section_of(labels, section.fit.acts[: len(labels)], section.attributes)
    assert unidentified_parents(lonely) == {"country": ["y"]}


def test_an_edit_moves_one_atom_out_and_one_in():
    section, rows, _ = two_groups()
    supervised = fit_supervised(section)
    test = section.test
    edited = supervised.edit(1, test.acts, test.known, test.source_acts["two"], test.source_known("two"))
    old, new = test.labels[:, 1], test.source_labels["two"][:, 1]
    assert torch.allclose(edited, test.acts - rows[10 + old] + rows[10 + new], atol=1e-4)


def test_parametrizations_of_ioi_cut_the_labels_as_they_say():
    names = tuple("abcd")
    attributes = (Attribute("io", names), Attribute("s", names), Attribute("pos", ("abb", "bab")))
    found = parametrizations(attributes)
    labels = torch.tensor([[0, 1, 0], [0, 1, 1], [3, 2, 1]])
    assert [v.name for v in found["coupled"]] == ["io∧pos", "s∧pos"]
    one, two, three = (v.index(labels).tolist() for v in found["names"])
    assert (one, two, three) == ([0, 1, 2], [1, 0, 3], [1, 1, 2])
    assert [v.size for v in found["names"]] == [4, 4, 4]
    assert found["coupled"][0].index(labels).tolist() == [0, 1, 7]
    assert [v.index(labels).tolist() for v in independent(attributes)] == labels.T.tolist()


def test_products_index_every_pair_once():
    attributes = (Attribute("p", tuple("abc")), Attribute("q", tuple("de")))
    grid = torch.cartesian_prod(torch.arange(3), torch.arange(2))
    assert product(attributes, ("p", "q")).index(grid).tolist() == list(range(6))
