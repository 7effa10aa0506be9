"""The writers' edit and its partners."""

import torch
from sparse import sparse

from saebench.dictionaries.writers import Writers
from saebench.edits.writers import partners, strength, writers_edit


def test_partners_carry_the_value_and_differ_in_everything_else():
    g = torch.Generator().manual_seed(0)
    labels = torch.stack([torch.arange(120) % 6, torch.arange(120) // 6 % 5, torch.arange(120) % 2], 1)
    labels = labels[torch.randperm(120, generator=g)]
    wanted = (labels[:, 0] + 1) % 6
    found = partners(labels, wanted, 0, torch.arange(120), seed=0)
    assert torch.equal(labels[found, 0], wanted)
    assert (labels[found, 1] != labels[:, 1]).all()
    # the third attribute follows from the first here: it differs wherever the wanted value lets it
    assert torch.equal(labels[found, 2], wanted % 2)
    assert len(found.unique()) > 40


def test_without_another_prompt_of_the_value_a_prompt_is_its_own_partner():
    labels = torch.tensor([[0, 0], [0, 1], [1, 1]])
    assert partners(labels, torch.tensor([2, 1, 0]), 0, torch.arange(3), seed=0)[0] == 0


def test_partners_follow_from_what_prompts_are_and_not_from_where_they_stand():
    g = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 4, (200, 3), generator=g)
    text, wanted = torch.randint(0, 2**32, (200,), generator=g), (labels[:, 0] + 1) % 4
    template = torch.randint(0, 5, (200,), generator=g)
    found = text[partners(labels, wanted, 0, text, 7, template)]
    order = torch.randperm(200, generator=g)
    again = partners(labels[order], wanted[order], 0, text[order], 7, template[order])
    assert torch.equal(text[order][again], found[order])
    # of prompts that differ in as many attributes, one in another phrasing
    assert (template[partners(labels, wanted, 0, text, 7, template)] != template).all()
    other = partners(labels, wanted, 0, text, 8, template)
    assert (text[other] != found).float().mean() > 0.5
    assert other.bincount(minlength=200).max() < 15


def test_the_strongest_writers_change_places_and_the_rest_stays():
    rows = torch.eye(4)
    alpha, beta = sparse(torch.tensor([[1.0, 2.0, 3.0, 0.0]])), sparse(torch.tensor([[0.0, 0.0, 5.0, 7.0]]))
    # latent 1 writes the old value most, then latent 0; latent 3 writes the new one; latent 2 neither
    base = torch.tensor([[1.0, 2.0, 3.0, 0.0]])
    found = writers_edit(
        base, alpha, beta, rows, torch.tensor([0.5, 0.9, 0.0]), torch.tensor([0.0, 0.8]), (1, 2, 4)
    )
    assert found[1].tolist() == [[1.0, 0.0, 3.0, 7.0]]
    assert found[2].tolist() == [[0.0, 0.0, 3.0, 7.0]]
    assert torch.equal(found[4], found[2])


def test_a_latent_writes_a_value_by_being_on_only_if_it_rises_with_it():
    codes = sparse(torch.tensor([[2.0, 2.0, -2.0, 2.0]]))
    writers = Writers(
        torch.tensor([0, 1, 2]),
        rise=torch.tensor([[1.0], [-1.0], [-1.0]]).double(),
        written=torch.tensor([[3.0], [4.0], [5.0]]).double(),
        gain=torch.zeros(3, 1),
        stands_for=torch.ones(3, 1),
        only_for=torch.tensor([[0.5], [1.0], [1.0]]),
        share=torch.ones(3, 1),
        effective=torch.ones(1),
    )
    # latent 1 is on though it falls with the value; latent 3 was never on on `select`
    assert strength(writers, codes, torch.tensor([0])).tolist() == [3.0, 0.0, 5.0, 0.0]
    assert strength(writers, codes, torch.tensor([0]), specific=True).tolist() == [1.5, 0.0, 5.0, 0.0]
