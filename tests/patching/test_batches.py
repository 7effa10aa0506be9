"""Edits in batches: of any order and size, within a memory budget, kept for the next dictionary."""

import gc
from dataclasses import replace

import pytest
import torch
from readouts import EQUAL, MIXED, TOLERANCE, noise, outcomes, plain, positions, readout

from saebench.patching import Placement


def test_order_and_batch_size_change_nothing(model):
    tokens = MIXED * 3
    at = positions(tokens, mixed=True)
    made = readout(model, tokens, [Placement("blocks.1.hook_mlp_out", at)])
    edits, clean, whole = outcomes(made)
    shuffled = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(1))
    moved = made.run({k: e[shuffled] for k, e in edits.items()}, clean[shuffled], shuffled)
    small = readout(replace(model, memory_bytes=1), tokens, made.places)  # one row at a time
    assert small.rows_at_once == 1 < made.rows_at_once
    for key in edits:
        few = small.run({key: edits[key]}, reference=clean)[key]
        for a, b in ((moved[key], [v[shuffled] for v in whole[key]]), (few, whole[key])):
            assert torch.equal(a.top, b[1])
            assert torch.allclose(a.ld, b[0], atol=TOLERANCE)
            assert torch.allclose(a.kl, b[2], atol=TOLERANCE)
    again = made.run(edits, reference=clean)
    assert all(torch.equal(again[k].ld, whole[k].ld) for k in edits)


def test_logit_differences_alone_are_those_of_the_whole_vocabulary(model):
    """Of edits some of which are equal, in one batch and one row at a time."""
    tokens = MIXED * 2
    places = [Placement("blocks.1.hook_mlp_out", positions(tokens, mixed=True))]
    for memory in (None, 1):
        made = readout(replace(model, memory_bytes=memory), tokens, places)
        edits, clean, _ = outcomes(made)
        edits = {**edits, "again": edits[1], "clean": clean}
        whole, alone = made.run(edits), made.differences(edits)
        assert list(alone) == list(whole)
        for key, ld in alone.items():
            assert torch.allclose(ld, whole[key].ld, atol=TOLERANCE)
        assert not torch.allclose(alone[1], alone["clean"], atol=TOLERANCE)
    assert made.differences({}) == {}


def test_passes_are_merged_only_where_padding_is_cheaper(model, monkeypatch):
    """Both ways of forming batches give the logits of full passes."""
    from saebench.patching import overhead

    tokens = MIXED * 2
    places = [Placement("blocks.1.hook_resid_pre", positions(tokens, mixed=True))]
    rows = torch.arange(len(tokens))
    kinds = {(len(t), int(at)) for t, at in zip(tokens, places[0].positions, strict=True)}
    edited = noise(torch.empty(len(tokens), model.d_model))
    expected = plain(model, tokens, places, edited)
    monkeypatch.setattr(overhead, "WEIGHTS", 0)
    for starting, count in ((0, len(kinds)), (1e12, 1)):
        monkeypatch.setattr(overhead, "START", {"cpu": starting})
        made = readout(model, tokens, places)
        parts = list(made._pass.parts(rows))
        assert len(parts) == count
        assert torch.equal(torch.cat(parts).sort().values, rows)
        assert (made.logits(edited, rows) - expected).abs().max() <= TOLERANCE


def test_clean_runs_are_kept_for_the_next_dictionary(gpt2, monkeypatch):
    made = readout(gpt2, MIXED, [Placement("blocks.1.hook_mlp_out", positions(MIXED, mixed=True))])
    edits, clean, first = outcomes(made)

    def never(*_):
        raise AssertionError("the clean run was repeated")

    monkeypatch.setattr(made._pass.runs, "_make", never)
    assert torch.equal(made.run(edits, reference=clean)[1].ld, first[1].ld)


def test_readouts_of_one_model_share_its_memory(gpt2):
    """What one of them keeps, the other cannot; it is free again when the first is gone."""
    place, budget = Placement("blocks.1.hook_mlp_out", positions(EQUAL, False)), 400_000
    gpt2 = replace(gpt2, memory_bytes=budget)
    first = readout(gpt2, EQUAL, [place])
    size = first._pass.runs.nbytes
    assert size > 0 and first.budget.may_keep(size)
    others = [readout(gpt2, EQUAL, [place]) for _ in range(40)]
    assert all(other.budget is first.budget for other in others)
    kept = [other._pass.runs.nbytes for other in others]
    assert kept[0] == size and kept[-1] == 0 and sum(kept) + size <= budget // 4
    edited = noise(first.clean())
    rows = torch.arange(len(EQUAL))
    assert torch.allclose(others[-1].logits(edited, rows), first.logits(edited, rows), atol=1e-5)
    del others
    gc.collect()
    assert first.budget.may_keep(size)


def test_out_of_memory_halves_the_batch_and_keeps_the_work(gpt2):
    tokens = EQUAL * 8
    place = Placement("blocks.1.hook_mlp_out", positions(tokens, False))
    made = readout(replace(gpt2, memory_bytes=2**30), tokens, [place])
    edits, clean, whole = outcomes(made)
    sizes, logits = [], made._pass.logits

    def short_of_memory(edited, rows, scratch=None):
        sizes.append(len(edited))
        if len(edited) > 10:
            raise torch.OutOfMemoryError("out of memory")
        return logits(edited, rows, scratch)

    made._pass.logits = short_of_memory  # ty: ignore
    got = made.run(edits, reference=clean)
    assert max(sizes) > 10 and sum(size > 10 for size in sizes) < 8
    for key in edits:
        assert torch.allclose(got[key].ld, whole[key].ld, atol=TOLERANCE)
        assert torch.equal(got[key].top, whole[key].top)


def test_an_error_other_than_memory_is_not_swallowed(gpt2):
    made = readout(gpt2, EQUAL, [Placement("blocks.1.hook_mlp_out", positions(EQUAL, False))])
    with pytest.raises(RuntimeError):
        made.run({"wrong width": torch.zeros(len(EQUAL), 5)})
