"""The suffix against the plain way, at every kind of site on three architectures."""

from functools import cache

import pytest
import torch
from paths import ROOT
from readouts import EQUAL, MIXED, TOLERANCE, noise, outcomes, plain, positions, readout
from tiny_models import save_tiny
from torch.utils._python_dispatch import TorchDispatchMode

from saebench.errors import SiteError
from saebench.models.language_model import SITE_HOOKS, LanguageModel
from saebench.models.loading import load_model
from saebench.patching import PatchedReadout, Placement, capture
from saebench.patching.distinct import Distinct

# (hook, head, layer): whole hook points at an early, a middle and the last layer, and single heads
KINDS = [(hook, None, layer) for hook in SITE_HOOKS for layer in (0, 2, 3)] + [
    (f"attn.hook_{name}", 1, 1) for name in "qkvz"
]


@pytest.mark.parametrize("tokens", [EQUAL, MIXED], ids=["equal", "mixed"])
@pytest.mark.parametrize("hook, head, layer", KINDS)
def test_one_site_equals_the_full_pass(model, hook, head, layer, tokens):
    hook = f"blocks.{layer}.{hook}"
    if hook not in model.bridge.hook_dict:
        assert hook.endswith("resid_mid")  # a parallel block has none
        return
    for at in (positions(tokens, mixed=False), positions(tokens, mixed=True)):
        places = [Placement(hook, at, head)]
        fast = readout(model, tokens, places)
        edited = fast.clean() + noise(fast.clean())
        expected = plain(model, tokens, places, edited)
        got = fast.logits(edited, torch.arange(len(tokens)))
        assert (got - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize("tokens", [EQUAL, MIXED], ids=["equal", "mixed"])
@pytest.mark.parametrize("first", range(len(SITE_HOOKS)))
def test_several_sites_equal_the_full_pass(model, first, tokens):
    hooks = [SITE_HOOKS[first], SITE_HOOKS[first - 3], SITE_HOOKS[first - 5]]
    names = [f"blocks.{layer}.{hook}" for layer, hook in zip((3, 1, 2), hooks, strict=True)]
    places = [
        Placement(name, positions(tokens, mixed=i != 1))
        for i, name in enumerate(names)
        if name in model.bridge.hook_dict
    ]
    places.append(Placement("blocks.1.attn.hook_z", positions(tokens, mixed=True), 2))
    fast = readout(model, tokens, places)
    edited = fast.clean() + noise(fast.clean())
    got = fast.logits(edited, torch.arange(len(tokens)))
    assert (got - plain(model, tokens, places, edited)).abs().max() <= TOLERANCE


def test_clean_activations_change_nothing_and_others_do(model):
    end = torch.tensor([len(prompt) - 1 for prompt in MIXED])
    fast = readout(model, MIXED, [Placement("blocks.1.hook_resid_pre", end)])
    rows = torch.arange(len(MIXED))
    untouched = torch.stack([model.bridge(torch.tensor([p]))[0, -1] for p in MIXED])
    clean = fast.clean()
    assert (fast.logits(clean, rows) - untouched).abs().max() <= TOLERANCE
    assert (fast.logits(clean + noise(clean), rows) - untouched).abs().max() > 0.1


def test_a_patch_at_another_position_gives_other_logits(gpt2):
    rows = torch.arange(len(EQUAL))
    right = [Placement("blocks.1.hook_resid_pre", positions(EQUAL, mixed=False))]
    wrong = [right[0]._replace(positions=right[0].positions + 1)]
    edited = noise(torch.empty(len(EQUAL), gpt2.d_model))
    got = readout(gpt2, EQUAL, right).logits(edited, rows)
    assert (got - plain(gpt2, EQUAL, wrong, edited)).abs().max() > 0.1


def test_patching_the_middle_of_a_block_moves_the_residual_stream(model):
    """resid_mid = resid_pre + attn_out, so replacing either sum or summand is the same."""
    if "blocks.1.hook_resid_mid" not in model.bridge.hook_dict:
        return
    at, rows = positions(MIXED, mixed=True), torch.arange(len(MIXED))
    before = capture(model, MIXED, {"pre": Placement("blocks.1.hook_resid_pre", at)})["pre"]
    new = noise(before)
    middle = readout(model, MIXED, [Placement("blocks.1.hook_resid_mid", at)])
    output = readout(model, MIXED, [Placement("blocks.1.hook_attn_out", at)])
    assert (middle.logits(before + new, rows) - output.logits(new, rows)).abs().max() <= TOLERANCE


def test_capture_equals_the_cache_of_a_full_pass(model):
    at = positions(MIXED, mixed=True)
    places = {
        hook: Placement(f"blocks.2.{hook}", at)
        for hook in SITE_HOOKS
        if f"blocks.2.{hook}" in model.bridge.hook_dict
    }
    places["head"] = Placement("blocks.1.attn.hook_k", at, 1)
    found = capture(model, MIXED, places)
    for i, prompt in enumerate(MIXED):
        _, cached = model.bridge.run_with_cache(torch.tensor([prompt]))
        for key, place in places.items():
            value = cached[place.hook][0, at[i]]
            value = value.flatten() if place.head is None else value[place.head]
            assert torch.allclose(found[key][i], value, atol=1e-5), key


def test_run_reduces_the_logits_of_full_passes(model):
    places = [Placement("blocks.1.hook_resid_post", positions(MIXED, mixed=True))]
    made = readout(model, MIXED, places)
    edits, clean, got = outcomes(made)
    reference = plain(model, MIXED, places, clean).log_softmax(-1)
    rows = torch.arange(len(MIXED))
    for key, edited in edits.items():
        logits = plain(model, MIXED, places, edited)
        difference = logits[rows, made.answer] - logits[rows, made.distractor]
        divergence = (reference.exp() * (reference - logits.log_softmax(-1))).sum(-1)
        assert torch.allclose(got[key].ld, difference, atol=TOLERANCE)
        assert torch.equal(got[key].top, logits.argmax(-1))
        assert torch.allclose(got[key].kl, divergence, atol=TOLERANCE)
        assert torch.allclose(made.difference(edited, rows), difference, atol=TOLERANCE)
    assert got[0].kl.max() < 1e-5 < got[1].kl.min()
    assert made.run(edits)[0].kl is None


def test_edits_that_repeat_run_once(gpt2):
    tokens = EQUAL * 4
    made = readout(gpt2, tokens, [Placement("blocks.1.hook_mlp_out", positions(tokens, False))])
    clean = made.clean()
    a, b = clean + noise(clean, 1), clean + noise(clean, 2)
    even = (torch.arange(len(tokens)) % 2 == 0)[:, None]
    # two distinct edits of the even prompts, three of the odd ones, and the reference
    edits = {"a": a, "b": b, "again": a, "either": torch.where(even, a, clean), "other": b}
    ran, logits = [], made._pass.logits
    made._pass.logits = lambda edited, *rest: ran.append(len(edited)) or logits(edited, *rest)  # ty: ignore
    got = made.run(edits, reference=clean)
    assert sum(ran) <= 4 * len(tokens) < 6 * len(tokens)
    for key, edited in edits.items():
        alone = made.run({key: edited}, reference=clean)[key]
        assert torch.allclose(got[key].ld, alone.ld, atol=TOLERANCE)
        assert torch.equal(got[key].top, alone.top)
        assert torch.allclose(got[key].kl, alone.kl, atol=TOLERANCE)
    assert torch.equal(got["a"].ld, got["again"].ld)
    assert made.run({}, reference=clean) == {}


def test_distinct_edits_of_every_prompt():
    a, b = noise(torch.empty(2, 3, 5))
    found = Distinct.of([a, a, b, torch.stack([a[0], b[1], 2 * a[2]])], a.device)
    # the first edit, from which divergence is measured, is never merged with another
    assert found.slot[0].tolist() == [0, 0, 0]
    assert found.count.tolist() == [3, 3, 4]
    for prompt, same in enumerate(([1, 3], [2, 3], [3])):
        assert len({int(found.slot[i, prompt]) for i in same}) == 1
        assert len({int(found.slot[i, prompt]) for i in range(4)}) == found.count[prompt]
    # a broken edit is neither the reference nor another broken one
    broken = a.clone()
    broken[:, 0] = torch.inf
    assert Distinct.of([a, broken, broken, -broken], a.device).count.tolist() == [4, 4, 4]


@pytest.mark.parametrize("hook", SITE_HOOKS)
def test_gradients_equal_those_of_the_full_pass(model, hook):
    hook = f"blocks.1.{hook}"
    if hook not in model.bridge.hook_dict:
        return
    places = [Placement(hook, positions(MIXED, mixed=True))]
    made = readout(model, MIXED, places)
    rows = torch.arange(len(MIXED))
    start = made.clean() + 0.1 * noise(made.clean())
    found = []
    for of in (
        lambda x: made.difference(x, rows),
        lambda x: _difference(made, made.logits(x, rows)),
        lambda x: _difference(made, plain(model, MIXED, places, x)),
    ):
        edited = start.clone().requires_grad_()
        of(edited).sum().backward()
        found.append(edited.grad)
    assert found[2].abs().max() > 1e-3
    assert torch.allclose(found[0], found[2], atol=TOLERANCE)
    assert torch.allclose(found[1], found[2], atol=TOLERANCE)


def test_in_bfloat16_no_product_takes_a_copy_of_the_weights_for_every_prompt(tmp_path):
    """Rows of one length: the last token of each is a strided view, of which torch made a product a row."""
    model = load_model(str(save_tiny(tmp_path, "llama")), dtype="bfloat16")
    places = [Placement("blocks.1.hook_resid_pre", torch.tensor([1] * len(EQUAL)))]
    made = readout(model, EQUAL, places)
    start, shapes = made.clean(), []

    class Products(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten.bmm.default:
                shapes.extend(tuple(value.shape[1:]) for value in args)
            return func(*args, **kwargs or {})

    widths = {weight.shape for weight in model.bridge.blocks[-1].parameters() if weight.ndim == 2}
    with Products():
        edited = start.clone().requires_grad_()
        made.logits(edited, torch.arange(len(EQUAL))).sum().backward()
    assert shapes, "attention's own products are seen"
    assert not [shape for shape in shapes if shape in widths or shape[::-1] in widths]


def _difference(made: PatchedReadout, logits: torch.Tensor) -> torch.Tensor:
    rows = torch.arange(len(logits))
    return logits[rows, made.answer] - logits[rows, made.distractor]


@pytest.mark.parametrize("fault", ["wrong", "raises"])
def test_a_model_that_the_suffix_does_not_fit_takes_the_plain_way(gpt2, monkeypatch, fault):
    from saebench.patching.suffix import SuffixPass

    right = SuffixPass.logits

    def planted(self, edited, rows, scratch=None):
        if fault == "raises":
            raise ValueError("unknown kind of block")
        return right(self, edited, rows, scratch) + 1e-2

    monkeypatch.setattr(SuffixPass, "logits", planted)
    places = [Placement("blocks.1.hook_mlp_out", positions(MIXED, mixed=True))]
    told = []
    answer = torch.arange(len(MIXED))
    made = PatchedReadout(gpt2, MIXED, places, answer, answer + 1, warn=told.append)
    assert made.way == "plain" and len(told) == 1 and "blocks.1.hook_mlp_out" in told[0]
    edited = noise(made.clean())
    expected = plain(gpt2, MIXED, places, edited)
    assert torch.allclose(made.logits(edited, answer), expected, atol=TOLERANCE)
    with pytest.warns(UserWarning, match="full forward pass"):
        assert PatchedReadout(gpt2, MIXED, places, answer, answer + 1).way == "plain"


def test_nothing_else_registers_hooks():
    for path in (ROOT / "saebench").rglob("*.py"):
        if not {"patching", "studies"} & set(path.parts):
            text = path.read_text("utf-8")
            assert "run_with_hooks" not in text and "register_forward" not in text, path


def test_the_model_is_left_as_it_was(gpt2):
    tokens = torch.tensor([EQUAL[0]])
    before = gpt2.bridge(tokens)
    made = readout(gpt2, EQUAL, [Placement("blocks.2.hook_resid_pre", positions(EQUAL, False))])
    made.run({"zero": torch.zeros(len(EQUAL), gpt2.d_model)})
    with pytest.raises(RuntimeError):
        made.logits(torch.zeros(3, 5), torch.arange(3))
    assert torch.equal(gpt2.bridge(tokens), before)
    assert not any(point.fwd_hooks for point in gpt2.bridge.hook_dict.values())


def test_sites_that_do_not_fit_are_refused(gpt2):
    at = positions(EQUAL, mixed=False)
    for place, words in [
        (Placement("blocks.9.hook_resid_pre", at), "Unknown hook point"),
        (Placement("blocks.1.attn.hook_z", at, 7), "heads 0 to 3"),
        (Placement("blocks.1.hook_mlp_out", at, 0), "has no heads"),
        (Placement("blocks.1.hook_mlp_out", at + 20), "outside prompt 0"),
        (Placement("blocks.1.hook_mlp_out", at[:2]), "2 positions for 3 prompts"),
    ]:
        with pytest.raises(SiteError, match=words):
            PatchedReadout(gpt2, EQUAL, [place], at, at)


@cache
def _stories(path: str) -> LanguageModel:
    return load_model(path)


@pytest.mark.parametrize("hook", SITE_HOOKS)
def test_a_trained_llama(shared_models, hook):
    model = _stories(str(shared_models / "stories260k"))
    prompts = ["Lily and Tim went to the park", "Once upon a time there was a", "Tim said to Lily"]
    tokens = [model.tokens(prompt) for prompt in prompts]
    places = [Placement(f"blocks.2.{hook}", positions(tokens, mixed=True))]
    made = readout(model, tokens, places)
    edited = made.clean() + noise(made.clean())
    got = made.logits(edited, torch.arange(len(tokens)))
    assert (got - plain(model, tokens, places, edited)).abs().max() <= TOLERANCE
