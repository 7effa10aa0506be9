"""Prefixes that several texts share: found exactly, run once, and the same activations as without."""

import random
import sys
from collections.abc import Sequence

import pytest
import torch
from tiny_models import ARCHITECTURES, save_tiny

from saebench.models.language_model import LanguageModel
from saebench.models.loading import load_model
from saebench.patching import PatchedReadout, Placement, capture, overhead, sharing
from saebench.patching.prefixes import Text, shared_prefixes

PROMPTS = [
    [0, 5, 9, 11, 30, 7, 8, 21],
    [0, 5, 9, 11, 30, 2],
    [0, 5, 9, 11, 30, 7, 8, 21],
    [0, 5, 9, 3, 17],
    [0, 6, 3, 2],
    [0, 5, 9, 11, 31, 7, 8],
    [4, 5],
]
AT = torch.tensor([5, 5, 5, 3, 2, 5, 1])


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_model(str(save_tiny(tmp_path_factory.mktemp(request.param), request.param)))


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes of their own cost nothing, so that even a tiny model's prompts are cut."""
    monkeypatch.setattr(overhead, "WEIGHTS", 0)
    monkeypatch.setattr(overhead, "START", {"cpu": 0})


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """But for rounding of float32, relative to the largest value."""
    return bool((a - b).abs().max() <= 1e-5 * b.abs().max())


def most_saved(texts: Sequence[Text], rows: list[int], depth: int) -> int:
    """By trying every node of the tree: its own cut, or what is best below."""
    below: dict[int, list[int]] = {}
    for i in rows:
        if depth < len(texts[i]):
            below.setdefault(texts[i][depth], []).append(i)
    deeper = sum(most_saved(texts, some, depth + 1) for some in below.values())
    return max((len(rows) - 1) * depth, deeper)


def test_the_cuts_save_as_many_tokens_as_any_can():
    rng = random.Random(0)
    for _ in range(300):
        texts = sorted(
            {tuple(rng.choices((0, 0, 1), k=rng.randint(1, 7))) for _ in range(rng.randint(1, 12))}
        )
        limits = [rng.randint(0, len(text)) for text in texts]
        starts = shared_prefixes(texts, limits)
        ends = [min(limit, len(text) - 1) for limit, text in zip(limits, texts, strict=True)]
        assert all(start <= end for start, end in zip(starts, ends, strict=True))
        once = {text[:start] for text, start in zip(texts, starts, strict=True)}
        may = [text[:end] for text, end in zip(texts, ends, strict=True)]
        assert sum(starts) - sum(map(len, once)) == most_saved(may, list(range(len(may))), 0)


def test_cuts_that_do_not_pay_for_their_passes_are_not_made():
    texts = [(1, 2, 3, 4, i) for i in range(5)]
    assert shared_prefixes(texts, [5] * 5, spare=7.9) == [4] * 5
    assert shared_prefixes(texts, [5] * 5, spare=8.1) == [0] * 5


def test_shared_prefixes_change_no_activation(model: LanguageModel, free: None):
    places = {
        name: Placement(f"blocks.{layer}.{name}", AT)
        for layer, name in ((2, "hook_resid_pre"), (1, "attn.hook_v"), (3, "hook_mlp_out"))
    }
    starts = sharing.cuts(model, [tuple(p) for p in PROMPTS], AT.tolist(), 4)
    assert sharing.shares(model, tuple(PROMPTS[0])) and max(starts) == 3
    for few in (places, {"hook_resid_pre": places["hook_resid_pre"]}):
        found = capture(model, PROMPTS, few)
        for i, prompt in enumerate(PROMPTS):
            _, cached = model.bridge.run_with_cache(torch.tensor([prompt]))
            for key, place in few.items():
                assert same(found[key][i], cached[place.hook][0, AT[i]].flatten()), key


def test_shared_prefixes_run_once_and_nothing_runs_that_cannot_be_seen(
    model: LanguageModel, free: None, monkeypatch: pytest.MonkeyPatch
):
    sharing.shares(model, tuple(PROMPTS[0]))  # tried once a model
    ran, forward = [], sharing.forward

    def counted(model, tokens, start, before, blocks, *rest, **options):
        ran.append((tokens.numel(), blocks))
        return forward(model, tokens, start, before, blocks, *rest, **options)

    for module in ("sharing", "capture"):
        monkeypatch.setattr(sys.modules[f"saebench.patching.{module}"], "forward", counted)
    capture(model, PROMPTS, {"": Placement("blocks.2.hook_resid_pre", AT)})
    assert {blocks for _, blocks in ran} == {2}
    # (0, 5, 9) once, then what follows in four different texts, and two texts that share nothing
    assert sum(count for count, _ in ran) == 3 + (3 + 3 + 1 + 3) + (3 + 2)


def test_a_model_that_cannot_go_on_from_a_prefix_runs_whole_prompts(
    model: LanguageModel, free: None, monkeypatch: pytest.MonkeyPatch
):
    place = {"": Placement("blocks.2.hook_resid_pre", AT)}
    expected = capture(model, PROMPTS, place)[""]
    right = sharing.forward

    def planted(model, tokens, start, *rest, **options):
        out, cache = right(model, tokens, start, *rest, **options)
        return (out + 1e-2 if start else out), cache

    monkeypatch.setattr(sharing, "forward", planted)
    monkeypatch.setitem(model.memo, "shares", None)
    assert not sharing.shares(model, tuple(PROMPTS[0]))
    assert sharing.cuts(model, [tuple(p) for p in PROMPTS], AT.tolist(), 2) == [0] * len(PROMPTS)
    assert same(capture(model, PROMPTS, place)[""], expected)


@pytest.mark.parametrize("hook", ["hook_resid_pre", "attn.hook_z", "hook_resid_post"])
def test_clean_activations_come_from_the_clean_run(model: LanguageModel, hook: str):
    place = Placement(f"blocks.2.{hook}", AT)
    readout = PatchedReadout(model, PROMPTS, [place], torch.arange(7), torch.arange(7) + 1)
    assert readout.way == "suffix"
    assert same(readout.clean(), capture(model, PROMPTS, {0: place})[0])
