"""What was computed before comes back as the same bytes; what is damaged, foreign or full is made again."""

import logging
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from interchange_worlds import Rows, facts
from tiny_models import save_tiny

from saebench.cache import cache_folder, shelf
from saebench.cache.tensors import cached, digest
from saebench.cli import main
from saebench.dictionaries.frozen import frozen
from saebench.edits import das as das_module
from saebench.edits import masks as masks_module
from saebench.edits.das import fit_das
from saebench.edits.masks import fit_masks
from saebench.errors import OptionError
from saebench.evaluation.api import make_arena
from saebench.evaluation.contestants import resolve
from saebench.evaluation.options import Options
from saebench.models.loading import load_model
from saebench.patching import PatchedReadout, Placement, capture, remembered
from saebench.site import Site


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SAEBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SAEBENCH_CACHE_SIZE", "1GB")
    monkeypatch.setattr(shelf, "_told", set())


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    acts = torch.randn(30, 8, generator=generator)
    wide = acts.bfloat16().T
    return {"acts": acts, "on": acts > 0, "top": acts.argmax(1), "half": wide, "none": acts[:0]}


def refuse(*arguments, **named):
    raise AssertionError("made again")


def counted(seed: int, calls: list[int]):
    def make():
        calls.append(seed)
        return tensors(seed)

    return make


def same(a, b) -> bool:
    return {k: digest(v) for k, v in a.items()} == {k: digest(v) for k, v in b.items()}


def only_entry() -> Path:
    (entry,) = shelf.entries()
    return entry.path


def test_of_several_that_need_the_same_at_once_one_makes_it():
    calls: list[int] = []

    def slow():
        calls.append(0)
        time.sleep(0.2)
        return tensors()

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: cached("x", ["slow"], slow), range(4)))
    assert calls == [0] and all(same(one, tensors()) for one in found)
    assert not list(cache_folder(shelf.FOLDER).rglob("*.lock"))


def test_nobody_waits_for_a_maker_that_failed_or_died():
    def fail():
        raise ValueError

    with pytest.raises(ValueError):
        cached("x", ["b"], fail)
    # killed while it makes: its lock file stays and locks nothing
    path = shelf.place("x", ["c"])
    words = "import os, sys, pathlib; from saebench.cache import shelf"
    subprocess.run(
        [
            sys.executable,
            "-c",
            f"{words}; shelf._locked(pathlib.Path(sys.argv[1])); os._exit(9)",
            path.with_suffix(".lock"),
        ]
    )
    assert path.with_suffix(".lock").exists()
    for parts in (["b"], ["c"]):
        assert same(cached("x", parts, tensors), tensors())


def test_the_same_bytes_come_back_without_being_made(monkeypatch):
    calls: list[int] = []
    for _ in range(2):
        assert same(cached("x", ["a", 1, [2, 3]], counted(0, calls)), tensors(0))
    assert calls == [0]
    # another part, another kind, other code, or nothing known of where it comes from
    cached("x", ["a", 1, [2, 4]], counted(1, calls))
    cached("y", ["a", 1, [2, 3]], counted(2, calls))
    monkeypatch.setattr("saebench.cache.tensors.code", lambda *a, **k: "other")
    cached("x", ["a", 1, [2, 3]], counted(3, calls))
    for _ in range(2):
        cached("x", None, counted(4, calls))
    assert calls == [0, 1, 2, 3, 4, 4]


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "foreign", "text"])
def test_a_damaged_or_foreign_entry_is_made_again(damage, caplog):
    calls: list[int] = []
    cached("x", ["a"], counted(0, calls))
    path = only_entry()
    data = path.read_bytes()
    cached("x", ["b"], counted(1, calls))
    other = next(e.path for e in shelf.entries() if e.path != path).read_bytes()
    spoilt = {
        "flipped": data[:-3] + bytes([data[-3] ^ 1]) + data[-2:],
        "cut": data[:-40],
        "empty": b"",
        "foreign": other,
        "text": b"not a tensor at all",
    }
    path.write_bytes(spoilt[damage])
    with caplog.at_level(logging.WARNING, "saebench"):
        assert same(cached("x", ["a"], counted(0, calls)), tensors(0)) and calls == [0, 1, 0]
    assert len(caplog.records) == 1 and "made again" in caplog.text
    assert same(cached("x", ["a"], counted(0, calls)), tensors(0)) and calls == [0, 1, 0]


def test_a_cache_that_cannot_be_written_costs_a_line_and_nothing_else(tmp_path, caplog):
    (tmp_path / "cache").write_text("a file where the folder should be")
    calls: list[int] = []
    with caplog.at_level(logging.WARNING, "saebench"):
        for _ in range(3):
            assert same(cached("x", ["a"], counted(0, calls)), tensors(0))
    assert calls == [0, 0, 0]
    assert sum("cannot be written" in record.message for record in caplog.records) == 1


def test_what_was_used_longest_ago_goes_first(monkeypatch):
    calls: list[int] = []
    for seed in range(6):
        cached("x", [seed], counted(seed, calls))
        os.utime(shelf.entries()[-1].path, (seed, seed))
    size = shelf.entries()[0].bytes
    cached("x", [0], counted(0, calls))  # used just now
    monkeypatch.setenv("SAEBENCH_CACHE_SIZE", str(6 * size))
    cached("x", [9], counted(9, calls))
    assert sum(entry.bytes for entry in shelf.entries()) <= 6 * size
    before = len(calls)
    cached("x", [0], counted(0, calls))
    cached("x", [9], counted(9, calls))
    assert len(calls) == before
    cached("x", [1], counted(1, calls))
    assert len(calls) == before + 1
    # what would throw out most of the others is not kept
    monkeypatch.setenv("SAEBENCH_CACHE_SIZE", str(2 * size))
    cached("x", [10], counted(10, calls))
    cached("x", [10], counted(10, calls))
    assert calls[-2:] == [10, 10]
    monkeypatch.setenv("SAEBENCH_CACHE_SIZE", "much")
    with pytest.raises(OptionError, match="much"):
        shelf.limit()


def test_writers_at_once_lose_nothing():
    calls: list[int] = []
    with ThreadPoolExecutor(8) as pool:
        jobs = [(seed, pool.submit(cached, "x", [seed], counted(seed, calls))) for seed in list(range(5)) * 8]
        assert all(same(job.result(), tensors(seed)) for seed, job in jobs)
    assert len(shelf.entries()) == 5 and not list(cache_folder(shelf.FOLDER).rglob("*.tmp"))
    assert all(same(cached("x", [seed], refuse), tensors(seed)) for seed in range(5))


def test_the_command_shows_it_and_empties_it(capsys):
    cached("x", ["a"], lambda: tensors(0))
    cached("y", ["a"], lambda: tensors(0))
    for words, expected in (
        (["info"], "tensors/x"),
        (["clear", "x"], "MB freed"),
        (["info"], "tensors/y"),
        (["clear"], "MB freed"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["cache", *words])
        assert not stop.value.code and expected in capsys.readouterr().out
    assert shelf.entries() == []
    with pytest.raises(SystemExit) as stop:
        main(["cache", "clear", "z"])
    assert stop.value.code == 2


def test_trained_edits_and_controls_are_read_back(monkeypatch):
    world = facts(nested=False)
    section, rows = world.section, Rows(torch.cat(list(world.subspaces.values())))
    monkeypatch.setattr(type(section.fit.readout), "made_from", ["a readout"])
    section = replace(section)

    def everything():
        das = fit_das(section, steps=20, ranks=[2])
        found, live = fit_masks(rows, section, steps=20)
        control = frozen(rows, section.fit.acts, steps=5)
        return (
            {name: digest(r) for name, r in das.rows.items()},
            {name: (mask.origin, digest(mask.latents)) for name, mask in found.items()},
            digest(live),
            [digest(t) for t in (control.W_dec, control._encoder, control._bias, control._mean)],
        )

    first = everything()
    assert {entry.path.parent.name for entry in shelf.entries()} == {"das", "masks", "controls"}
    for module in (das_module, masks_module):
        monkeypatch.setattr(module, "train", refuse)
    monkeypatch.setattr("saebench.dictionaries.frozen._trained", refuse)
    assert everything() == first
    # another seed is another training
    with pytest.raises(AssertionError, match="made again"):
        fit_das(section, seed=1, steps=20, ranks=[2])


def test_runs_of_a_model_are_read_back(tmp_path, monkeypatch):
    model = load_model(str(save_tiny(tmp_path / "model", "gpt2", n_layers=2)), device="cpu")
    tokens = [[2, 3, 4, 5], [3, 4, 5, 6], [4, 5, 6, 7]]
    place = Placement("blocks.1.hook_resid_pre", torch.tensor([2, 2, 1]))
    one, two = torch.tensor([5, 6, 7]), torch.tensor([6, 7, 8])

    def all_of_it(answer):
        acts = remembered(model, tokens, {"here": place})["here"]
        readout = PatchedReadout(model, tokens, [place], answer, two)
        runs = readout.remembered({"clean": acts, "twice": 2 * acts}, reference=acts)
        unedited = readout.unedited()
        assert torch.allclose(unedited.ld, runs["clean"].ld, atol=1e-4)
        assert torch.equal(unedited.top, runs["clean"].top)
        return [digest(acts)] + [digest(t) for run in (*runs.values(), unedited) for t in run]

    first = all_of_it(one)
    acts = capture(model, tokens, {0: place})[0]
    plain = PatchedReadout(model, tokens, [place], one, two).run({0: acts, 1: 2 * acts}, reference=acts)
    assert first[:7] == [digest(acts)] + [digest(t) for run in plain.values() for t in run]
    other = all_of_it(two)
    assert other != first
    monkeypatch.setattr(sys.modules["saebench.patching.capture"], "capture", refuse)
    monkeypatch.setattr(PatchedReadout, "run", refuse)
    assert all_of_it(one) == first and all_of_it(two) == other


def score(task: str) -> tuple[str, dict]:
    arena = make_arena(task, options=Options(budget="tiny"))
    (sae,) = resolve("demo:topk")
    site = Site.parse("blocks.1.hook_resid_pre@end" if task == "ioi" else f"{sae.hook}@entity")
    result, outcomes = arena.score(arena.realise(sae, site), site)
    numbers = result.model_dump_json(exclude={"created", "provenance"})
    return numbers, {key: column.tobytes() for key, column in outcomes.columns.items()}


@pytest.mark.slow
@pytest.mark.parametrize("task", ["ioi", "ravel"])
def test_results_are_the_same_without_with_and_from_the_cache(task, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("SAEBENCH_CACHE_SIZE", "0")
        plain = score(task)
    assert shelf.entries() == []
    first = score(task)
    kinds = {entry.path.parent.name for entry in shelf.entries()}
    assert {"activations", "runs"} <= kinds
    if task == "ravel":
        assert {"das", "masks", "asked"} <= kinds
    there = len(shelf.entries())
    monkeypatch.setattr(sys.modules["saebench.patching.capture"], "capture", refuse)
    again = score(task)
    assert plain == first == again and len(shelf.entries()) == there
