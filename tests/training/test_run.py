"""SAEs trained on a language model: the stream is what the model computes, the checkpoint says what it is."""

import hashlib
import subprocess
import sys
from itertools import islice

import pytest
import torch
from command import run as run_command
from sae_lens import SAE
from tiny_models import WORDS, save_tiny

from saebench.errors import SiteError
from saebench.models.loading import load_model
from saebench.patching import capture_all
from saebench.patching.pairs import Passage
from saebench.site import Site
from saebench.training import run
from saebench.training.run import EVERY, Recipe, open_stream
from saebench.training.sources import Source, mixed, open_source

HOOK = "blocks.2.hook_resid_pre"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny"), "llama")


@pytest.fixture(scope="module")
def model(directory):
    return load_model(str(directory))


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Six thousand random words."""
    path = tmp_path_factory.mktemp("texts") / "words.txt"
    at = torch.randint(len(WORDS), (6000,), generator=torch.Generator().manual_seed(0))
    path.write_text(" ".join(WORDS[i] for i in at.tolist()))
    return path


def stream_of(model, texts, recipe, position=EVERY):
    source = open_source([str(texts)], model, 16, recipe.tokens)
    return open_stream(model, source, Site(HOOK, position), recipe)


def test_all_tokens_are_captured_as_the_model_computes_them(model):
    prompts = [model.tokens("w1 w2 w3"), model.tokens("w4 w5 w6 w7 w8"), model.tokens("w9 w10 w11")]
    found = capture_all(model, prompts, HOOK, skip=1)
    expected = []
    for prompt in prompts:
        _, cached = model.bridge.run_with_cache(torch.tensor([prompt]))
        expected.append(cached[HOOK][0, 1:])
    torch.testing.assert_close(found, torch.cat(expected))
    heads = capture_all(model, prompts, "blocks.1.attn.hook_z", 2)
    assert heads.shape == (sum(map(len, prompts)), model.d_in("blocks.1.attn.hook_z", 2))


def test_batches_are_the_same_from_any_number_on(model, texts):
    stream = stream_of(model, texts, Recipe("topk", 64, 4, tokens=2048, batch=128))
    whole = list(islice(stream.batches(), 40))
    for start in (1, 7, 21):
        later = list(islice(stream.batches(start), 3))
        for one, other in zip(whole[start:], later, strict=False):
            assert torch.equal(one, other)
    first, second = torch.cat(whole[:16]), torch.cat(whole[16:32])
    assert not torch.equal(first.sort(0).values, second.sort(0).values), "a part is followed by another"


def test_distinct_activations_come_round_again_in_another_order(model, texts):
    recipe = Recipe("topk", 64, 4, tokens=4096, distinct=1024, batch=128)
    stream = stream_of(model, texts, recipe)
    batches = list(islice(stream.batches(), 16))
    first, second = torch.cat(batches[:8]), torch.cat(batches[8:])
    assert not torch.equal(first, second)
    assert torch.equal(first.sort(0).values, second.sort(0).values)


def test_held_out_windows_are_never_trained_on(model, texts):
    source = open_source([str(texts)], model, 16, 100_000)
    held_out = {tuple(p.tokens) for p in source.held_out(100)}
    trained = {tuple(p.tokens) for part in range(9) for p in source.draw(part, 50)}
    assert held_out and trained and not held_out & trained


def test_sources_are_mixed_evenly():
    def one(name):
        return Source(name, lambda part, n: [Passage([part], {name: 0})] * n, lambda n: [])

    both = mixed([one("a"), one("b")])
    assert both.name == "a+b"
    drawn = both.draw(3, 10)
    assert len(drawn) == 10 and [p.tokens for p in drawn] == [[3]] * 10
    assert sum("a" in p.positions for p in drawn) == 5


def test_a_position_is_one_activation_a_passage_and_texts_have_none(model, texts):
    passages = [Passage(model.tokens("w1 w2 w3 w4"), {"end": 4}), Passage(model.tokens("w5 w6"), {"end": 2})]
    source = Source("mine", lambda part, n: (passages * n)[:n], lambda n: passages[:n])
    stream = open_stream(model, source, Site(HOOK, "end"), Recipe("topk", 64, 4, tokens=64, batch=8))
    _, cached = model.bridge.run_with_cache(torch.tensor([passages[1].tokens]))
    torch.testing.assert_close(stream.read(passages)[1], cached[HOOK][0, 2])
    with pytest.raises(SiteError, match="no position 'end'"):
        stream_of(model, texts, Recipe("topk", 64, 4, tokens=512, batch=128), "end")


def test_training_lowers_the_held_out_error_and_the_card_says_all(model, texts, tmp_path):
    fits = []
    for tokens in (256, 60_000):
        recipe = Recipe("topk", 64, 6, tokens=tokens, batch=128, lr=3e-3)
        path, fit = run.train(stream_of(model, texts, recipe), recipe, tmp_path / str(tokens))
        fits.append(fit)
    assert fits[1].fvu < 0.7 * fits[0].fvu and fits[1].l0 == pytest.approx(6, abs=0.5)
    metadata = SAE.load_from_disk(str(path)).cfg.metadata
    assert metadata.hook_name == HOOK and metadata.model_sha256 == model.sha256
    assert metadata.training_tokens == 60_000 // 128 * 128 and metadata.dataset_path == "words"
    assert metadata.held_out_fvu == pytest.approx(fits[1].fvu, abs=1e-6)
    assert [p.name for p in path.parent.iterdir()] == [path.name], "no checkpoint is left"


def test_on_the_command_line_it_is_repeatable_and_goes_on_after_a_kill(
    directory, texts, tmp_path, capsys, monkeypatch
):
    words = ["train", "--model", str(directory), "--site", HOOK, "--data", str(texts), "--context", "16"]
    words += ["--k", "4", "--tokens", "4096", "--batch", "128", "--width", "48", "--device", "cpu"]
    digests = []
    for turn, killed in enumerate((None, 20)):
        out = tmp_path / str(turn)
        if killed:
            batches = run.Stream.batches

            def short(self, start=0, batches=batches):
                for number, batch in enumerate(batches(self, start), start):
                    if number == 20:
                        raise KeyboardInterrupt
                    yield batch

            with monkeypatch.context() as patched:
                patched.setattr(run.Stream, "batches", short)
                code, *_ = run_command(capsys, *words, "--out", str(out))
                assert code == 130
        code, printed, err = run_command(capsys, *words, "--out", str(out))
        assert code == 0, err
        assert "FVU" in printed and "L0 4.0" in printed and "saebench evaluate" in printed
        (weights,) = out.rglob("sae_weights.safetensors")
        digests.append(weights.read_bytes())
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--task synthetic"),
        (["--model", "demo"], "--site HOOK"),
        (["--model", "demo", "--site", HOOK, "--data", "absent.txt"], "does not exist"),
        (["--model", "demo", "--site", "blocks.9.hook_resid_pre", "--data", "ioi"], "Unknown hook point"),
        (["--model", "demo", "--site", HOOK, "--data", "synthetic/occlusion"], "is no text"),
        (["--model", "demo", "--site", f"{HOOK}@nowhere", "--data", "ioi"], "has no position 'nowhere'"),
        (["--model", "demo", "--site", HOOK, "--data", "ioi", "--tokens", "5"], "at least one step"),
    ],
)
def test_what_cannot_be_trained_is_one_paragraph(words, said, capsys, tmp_path):
    code, _, err = run_command(capsys, "train", *words, "--out", str(tmp_path))
    assert code == 2 and said in err and err.count("\n") <= 2


def test_two_processes_end_with_the_same_weights_and_bfloat16_is_on_the_card(directory, texts, tmp_path):
    """What `results/smollm2-135m` says of SAEs made on a CPU: the command again, and the same digest."""
    words = ["train", "--model", str(directory), "--site", HOOK, "--data", str(texts), "--context", "16"]
    words += ["--k", "4", "--tokens", "4096", "--batch", "128", "--width", "48", "--device", "cpu"]
    words += ["--dtype", "bfloat16"]
    digests = []
    for turn in ("first", "again"):
        out = tmp_path / turn
        command = [sys.executable, "-m", "saebench", *words, "--out", str(out)]
        subprocess.run(command, check=True, capture_output=True)
        (weights,) = out.rglob("sae_weights.safetensors")
        digests.append(hashlib.sha256(weights.read_bytes()).hexdigest())
    assert digests[0] == digests[1]
    sae = SAE.load_from_disk(str(weights.parent))
    assert sae.W_dec.dtype == torch.float32 and sae.cfg.metadata.recipe["dtype"] == "bfloat16"
