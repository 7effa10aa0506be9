"""Learned masks: what is trained, what is scored, and when they give way."""

from dataclasses import replace

import pytest
import torch
from interchange_worlds import Rows, facts

from saebench.cross_section import CrossSection
from saebench.dictionaries.codes import difference, encode_split
from saebench.dictionaries.controls import Identity, Mean
from saebench.dictionary import Known
from saebench.edits import masks
from saebench.edits.masks import Mask, fit_masks, hard, random_masks, swap_masked, temperature
from saebench.edits.pairs import balances
from saebench.scoring.settings import MASKS


def true_rows(world) -> Rows:
    """Latents that lie in one attribute's subspace each: the first six the child's, then three."""
    return Rows(torch.cat(list(world.subspaces.values())))


def test_mask_over_the_true_latents_disentangles():
    world = facts(nested=False)
    found, live = fit_masks(true_rows(world), world.section)
    assert live.tolist() == list(range(9))
    # the direction that all values share never changes, so up to one latent may be missing
    assert found["child"].latents[:6].sum() >= 5 and not found["child"].latents[6:].any()
    assert found["parent"].latents[6:].sum() >= 2 and not found["parent"].latents[:6].any()
    assert all(mask.origin == "trained" for mask in found.values())
    section, test = world.section, world.section.test
    alpha = encode_split(true_rows(world), test.acts, test.known).codes
    edits = {}
    for at, (name, mask) in enumerate(found.items()):
        beta = encode_split(true_rows(world), test.source_acts[name], test.known).codes
        change = difference(alpha, beta)
        edits[at] = {"": swap_masked(test.acts, change, true_rows(world).W_dec, mask.latents)}
    assert all(one[""] >= 0.99 for one in balances(section, test, edits).values())


def test_hard_masks_are_scored_and_not_soft_ones():
    """With s = 0.9 and 0.1 the soft swap leaves a tenth of the old value; the hard one does not."""
    g = torch.Generator().manual_seed(0)
    base, source = torch.randn(4, 3, generator=g), torch.randn(4, 3, generator=g)
    identity = Identity(torch.zeros(3))
    known = Known(torch.zeros(4, 1, dtype=torch.long))
    change = difference(
        encode_split(identity, base, known).codes, encode_split(identity, source, known).codes
    )
    share = torch.tensor([0.9, 0.1, 0.5])
    logits = share.logit()
    edited = swap_masked(base, change, identity.W_dec, hard(logits))
    wanted = base.clone()
    wanted[:, 0] = source[:, 0]
    assert torch.allclose(edited, wanted, atol=1e-6)
    soft = base + share * (source - base)
    assert not torch.allclose(edited, soft, atol=0.05)


def test_what_is_chosen_was_scored_hard(monkeypatch):
    """A mask whose soft swap answers rightly and whose hard one does not must not be kept.

    Trained for a single step at the hot end, every logit is near 0 and every share near ½: the soft
    swap moves half of every latent, the hard one all of some. What `select` sees is the hard one.
    """
    world = facts(nested=False)
    seen = []
    original = masks.balances

    def spy(section, split, edits):
        seen.append(edits)
        return original(section, split, edits)

    monkeypatch.setattr(masks, "balances", spy)
    dictionary = true_rows(world)
    fit_masks(dictionary, world.section, steps=1)
    select = world.section.select
    # after the empty mask and all latents: what the first run learned
    moved = (seen[2][0][""] - select.acts) @ dictionary.W_dec.T
    whole = (select.source_acts["child"] - select.acts) @ dictionary.W_dec.T
    share = (moved * whole).sum(0) / whole.square().sum(0)
    assert torch.allclose(moved, share.round() * whole, atol=1e-4)
    assert share.round().unique().tolist() == [0.0, 1.0]


def where_no_edit_is_right(section: CrossSection) -> CrossSection:
    """The same prompts, but on `select` the clean answer is the wanted one for every edit."""
    select = section.select
    clean = {name: select.readout.answer for name in select.expected}
    return replace(section, select=replace(select, expected=clean))


def test_a_mask_worse_than_no_edit_falls_back_to_the_empty_one():
    world = facts(nested=False)
    found, _ = fit_masks(true_rows(world), where_no_edit_is_right(world.section), steps=40)
    assert all(mask.origin == "none" and mask.size == 0 for mask in found.values())
    kept, _ = fit_masks(true_rows(world), world.section, steps=40)
    assert all(mask.origin == "trained" and mask.size > 0 for mask in kept.values())


def where_the_whole_source_is_right(section: CrossSection) -> CrossSection:
    """The same prompts, but on `select` what the whole source makes the model answer is wanted."""
    select = section.select
    patched = {name: run.top for name, run in select.readout.run(select.source_acts).items()}
    return replace(section, select=replace(select, expected=patched))


def test_a_mask_worse_than_swapping_everything_gives_way_to_all_latents(monkeypatch):
    world = facts(nested=False)
    monkeypatch.setattr(masks, "MASKS", replace(MASKS, starts=MASKS.starts[:1]))
    found, live = fit_masks(true_rows(world), where_the_whole_source_is_right(world.section), steps=1)
    assert all(mask.origin == "all" and mask.size == len(live) for mask in found.values())


def test_masks_are_trained_from_two_starts(monkeypatch):
    """From the second alone every latent begins as swapped; looked at, they are candidates like any other."""
    world = facts(nested=False)
    monkeypatch.setattr(masks, "MASKS", replace(MASKS, starts=MASKS.starts[1:]))
    found, _ = fit_masks(true_rows(world), world.section, steps=60)
    assert found["child"].latents[:6].sum() >= 5 and found["parent"].latents[6:].sum() >= 2


def test_a_dictionary_without_latents_has_the_empty_mask():
    world = facts(nested=False)
    found, live = fit_masks(Mean(world.section.mean), world.section)
    assert len(live) == 0 and all(mask.size == 0 for mask in found.values())


def test_with_and_without_the_error_term():
    world = facts(nested=False)
    dictionary = Rows(world.subspaces["child"])
    test = world.section.test
    base = encode_split(dictionary, test.acts, test.known)
    beta = encode_split(dictionary, test.source_acts["child"], test.known).codes
    change, all_of_them = difference(base.codes, beta), torch.ones(6, dtype=torch.bool)
    kept = swap_masked(test.acts, change, dictionary.W_dec, all_of_them)
    lost = swap_masked(base.reconstruction, change, dictionary.W_dec, all_of_them)
    error = test.acts - base.reconstruction
    assert torch.allclose(kept - lost, error, atol=1e-5) and error.norm() > 1


def test_temperature_runs_from_hot_to_cold():
    assert temperature(0, 200) == MASKS.temperature[0]
    assert temperature(199, 200) == pytest.approx(MASKS.temperature[1])
    ratios = [temperature(i + 1, 9) / temperature(i, 9) for i in range(8)]
    assert ratios == pytest.approx([ratios[0]] * 8)
    assert temperature(0, 1) == MASKS.temperature[0]


def test_random_masks_draw_live_latents_of_equal_number():
    live = torch.tensor([1, 3, 4, 7])
    drawn = random_masks(50, 2, live, 9, 0)
    assert (drawn.sum(1) == 2).all()
    assert drawn.any(0).nonzero()[:, 0].tolist() == live.tolist()
    assert not torch.equal(drawn[0], drawn[1]) or not torch.equal(drawn[1], drawn[2])
    assert not random_masks(5, 0, live, 9, 0).any()


def test_same_seed_same_mask():
    world = facts(nested=False)
    first, again = (fit_masks(true_rows(world), world.section, 1, steps=20)[0] for _ in range(2))
    assert all(torch.equal(first[n].latents, again[n].latents) for n in first)


def test_size_counts_latents():
    assert Mask(torch.tensor([True, False, True])).size == 2
