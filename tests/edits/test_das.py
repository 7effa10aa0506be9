"""DAS on planted subspaces, and what it is made of."""

import pytest
import torch
from interchange_worlds import carriers, facts

from saebench.dictionaries.supervised import fit_supervised
from saebench.edits.das import DAS, candidate_ranks, fit_das, leads, orthonormal, start, swap
from saebench.edits.pairs import Pairs, balance, balances
from saebench.measures.subspaces import by_chance, overlap, swapped


def score(world, edit) -> float:
    """Mean disentangle on `test`, of `edit(attribute index, name, split)`."""
    section, test = world.section, world.section.test
    found = balances(
        section, test, {at: {"": edit(at, a.name, test)} for at, a in enumerate(section.attributes)}
    )
    return sum(one[""] for one in found.values()) / len(found)


@pytest.mark.parametrize("nested", [False, True])
def test_das_and_least_squares_reach_the_planted_edit(nested):
    world = facts(nested)
    das, mse = fit_das(world.section), fit_supervised(world.section, "mse")
    assert score(world, lambda at, name, t: das.edit(name, t.acts, t.source_acts[name])) >= 0.99

    def supervised(at, name, t):
        return mse.edit(at, t.acts, t.known, t.source_acts[name], t.source_known(name))

    assert score(world, supervised) >= 0.99


@pytest.mark.parametrize(("nested", "fails"), [(True, True), (False, False)])
def test_class_means_carry_the_parent_along_only_when_nested(nested, fails):
    world = facts(nested)
    section, test = world.section, world.section.test
    mean = fit_supervised(section, "mean")
    edited = mean.edit(0, test.acts, test.known, test.source_acts["child"], test.source_known("child"))
    top = test.readout.run({"": edited})[""].top
    isolate = (top == test.expected["child"])[~test.asks(0)].float().mean()
    assert (isolate < 0.9) == fails


@pytest.mark.parametrize("nested", [False, True])
def test_merged_subspaces_reach_no_more_than_chance_of_equal_labels(nested):
    world = facts(nested)
    both = torch.cat(list(world.subspaces.values()))
    test = world.section.test
    # the other label stays right only where the source happens to share it
    equal = [
        (test.source_labels[a.name][:, 1 - at] == test.labels[:, 1 - at])[~test.asks(at)].float().mean()
        for at, a in enumerate(world.section.attributes)
    ]
    bound = (1 + float(torch.stack(equal).mean())) / 2
    merged = score(world, lambda at, name, t: swap(t.acts, t.source_acts[name], both))
    assert merged <= bound + 0.02
    apart = world.subspaces
    assert score(world, lambda at, n, t: swap(t.acts, t.source_acts[n], apart[n])) >= 0.99


@pytest.mark.parametrize("nested", [False, True])
def test_rotation_finds_the_planted_subspace(nested):
    world = facts(nested)
    das = fit_das(world.section)
    for name, rows in carriers(world).items():
        agreement, angles = overlap(das.rows[name], rows)
        assert agreement >= 0.9, (name, angles)
        assert len(angles) == min(len(das.rows[name]), len(rows))
    wrong, _ = overlap(world.subspaces["child"], world.subspaces["parent"])
    assert wrong == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("nested", [False, True])
def test_a_rotation_starts_where_answers_respond_also_if_attributes_depend(nested):
    world = facts(nested)
    gradients = leads(world.section, 0)
    for gradient, (name, rows) in zip(gradients, carriers(world).items(), strict=True):
        inside = (gradient @ rows.T).square().sum() / gradient.square().sum()
        assert inside == pytest.approx(1, abs=1e-4), name
        first = orthonormal(start([gradient], len(rows), 0))[0]
        assert overlap(first, rows).overlap >= 0.99


def test_what_is_perfect_already_is_not_moved():
    world = facts(nested=False)
    first = orthonormal(start(leads(world.section, 0), 6, 0))
    das = fit_das(world.section, ranks=(6,))
    for mine, begun in zip(das.rows.values(), first, strict=True):
        assert overlap(mine, begun).overlap == pytest.approx(1, abs=1e-5)


def test_directions_that_nothing_needs_are_left_out():
    world = facts(nested=False)
    das = fit_das(world.section, ranks=(12,))
    needed = {name: len(rows) for name, rows in carriers(world).items()}
    for name, rows in das.rows.items():
        # 2, 4, 7 and 9 are tried between 0 and 12
        assert needed[name] <= len(rows) <= 9, name
        assert rows @ rows.T == pytest.approx(torch.eye(len(rows)), abs=1e-5)
    assert len(das.rows["parent"]) == needed["parent"] == 2
    assert score(world, lambda at, name, t: das.edit(name, t.acts, t.source_acts[name])) >= 0.99


def test_a_start_without_gradients_is_random_and_has_every_row():
    for rows in (0, 4):
        first = orthonormal(start([torch.zeros(rows, 6)], 3, 0))[0]
        assert torch.allclose(first @ first.T, torch.eye(3), atol=1e-5)


def test_overlap_and_angles_by_hand():
    rows = torch.eye(4)
    share, angles = overlap(rows[:2], rows[1:3])
    assert share == pytest.approx(0.5)
    assert angles.tolist() == pytest.approx([0.0, 90.0], abs=1e-3)
    assert overlap(rows[:0], rows[:2]).overlap == 0.0


def test_random_subspaces_overlap_as_far_as_chance_says():
    g = torch.Generator().manual_seed(0)
    for rank, other in ((2, 6), (6, 2)):
        draws = [
            overlap(*(orthonormal(torch.randn(1, r, 12, generator=g))[0] for r in (rank, other)))
            for _ in range(200)
        ]
        mean = sum(one.overlap for one in draws) / len(draws)
        assert mean == pytest.approx(by_chance(rank, other, 12), abs=0.03)


def test_what_a_swap_carries_and_what_it_leaks_by_hand():
    planted = {"a": torch.eye(4)[:2], "b": torch.eye(4)[2:3]}
    change = torch.ones(3, 4)
    assert swapped(change, planted["a"], planted, "a") == (1.0, {"b": 0.0})
    half = swapped(change, torch.eye(4)[1:3], planted, "a")
    assert half.carried == pytest.approx(0.5) and half.leaked["b"] == pytest.approx(1)
    assert swapped(change, torch.eye(4)[:0], planted, "a") == (0.0, {"b": 0.0})
    # the row (e2 + e3)/√2 moves both coordinates by (1 + 1)/2 = 1: reading b and writing a
    mixed = (torch.eye(4)[1:2] + torch.eye(4)[2:3]) / 2**0.5
    assert swapped(change, mixed, planted, "a").leaked["b"] == pytest.approx(1)


def test_edges_of_rank_are_no_edit_and_the_source_itself():
    g = torch.Generator().manual_seed(0)
    base, source = torch.randn(5, 8, generator=g), torch.randn(5, 8, generator=g)
    assert torch.equal(swap(base, source, base.new_zeros(0, 8)), base)
    assert torch.equal(swap(base, source, torch.eye(8)), source)
    rows = orthonormal(torch.randn(1, 3, 8, generator=g))[0]
    assert torch.allclose(rows @ rows.T, torch.eye(3), atol=1e-6)
    half = swap(base, source, rows)
    assert torch.allclose(half @ rows.T, source @ rows.T, atol=1e-5)
    rest = torch.linalg.svd(rows, full_matrices=True).Vh[3:]
    assert torch.allclose(half @ rest.T, base @ rest.T, atol=1e-5)


def test_attributes_that_are_skipped_stay_as_they_are():
    world = facts(nested=False)
    das = fit_das(world.section, skip=("child",), steps=20, ranks=(3,))
    assert len(das.rows["child"]) == 0 and len(das.rows["parent"]) > 0
    test = world.section.test
    assert torch.equal(das.edit("child", test.acts, test.source_acts["child"]), test.acts)


def test_same_seed_same_rotation():
    section = facts(nested=False).section
    first, again = (fit_das(section, seed=3, ranks=(2,), steps=20) for _ in range(2))
    assert all(torch.equal(first.rows[name], again.rows[name]) for name in first.rows)


def test_candidate_ranks():
    assert candidate_ranks(96) == (3, 6, 12, 24, 48)
    assert candidate_ranks(2) == (1,)


def test_pairs_are_half_cause_half_isolate():
    section = facts(nested=False).section
    batch = Pairs(section, section.fit, 0).draw(4000)
    assert section.fit.query is not None
    caused = section.fit.query[batch.rows] == batch.attribute
    assert float(caused.float().mean()) == pytest.approx(0.5, abs=0.03)
    for at, attribute in enumerate(section.attributes):
        mine = batch.attribute == at
        wanted = section.fit.expected[attribute.name][batch.rows[mine]]
        assert torch.equal(batch.wanted[mine], wanted)
    only = Pairs(section, section.fit, 0, isolate=False).draw(400)
    assert torch.equal(section.fit.query[only.rows], only.attribute)


def test_balance_weighs_cause_and_isolate_alike():
    right = torch.tensor([True, False, False, False, False])
    asks = torch.tensor([True, False, False, False, False])
    assert balance(right, asks) == 0.5
    assert balance(~right, asks) == 0.5


def test_das_is_an_intervention_by_rows():
    rows = {"a": torch.eye(3)[:1]}
    edited = DAS("das", rows).edit("a", torch.zeros(2, 3), torch.ones(2, 3))
    assert edited.tolist() == [[1, 0, 0]] * 2
