"""Loading models: what they are, and one clear paragraph for everything that is wrong with them."""

import json
import shutil

import pytest
import torch
from tiny_models import ARCHITECTURES, save_tiny, word_tokenizer

from saebench.errors import ModelError, OptionError, SiteError
from saebench.models.loading import load_model


@pytest.fixture(scope="module")
def gpt2_directory(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny"), "gpt2")


@pytest.fixture
def broken(gpt2_directory, tmp_path):
    """A copy to damage."""
    return shutil.copytree(gpt2_directory, tmp_path / "copy")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_and_residuals_are_hugging_faces_own(architecture, tmp_path):
    from transformers import AutoModelForCausalLM

    model = load_model(str(save_tiny(tmp_path, architecture)))
    tokens = torch.tensor([model.tokens("w1 w2 w7 w3")])
    raw = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    with torch.no_grad():
        expected = raw(tokens, output_hidden_states=True)
        logits, cached = model.bridge.run_with_cache(tokens)
    assert torch.allclose(logits, expected.logits, atol=1e-5)
    for layer in range(model.n_layers):
        residual = cached[f"blocks.{layer}.hook_resid_pre"]
        assert torch.allclose(residual, expected.hidden_states[layer], atol=1e-5)


def test_shapes_and_hook_points(tmp_path):
    model = load_model(str(save_tiny(tmp_path, "llama")))
    assert (model.n_layers, model.d_model, model.d_vocab) == (4, 32, 42)
    assert model.dtype == torch.float32 and model.device == torch.device("cpu")
    assert len(model.hook_points()) == 4 * 9
    assert model.d_in("blocks.1.hook_mlp_out") == 32
    assert model.d_in("blocks.1.attn.hook_z") == 32 and model.d_in("blocks.1.attn.hook_z", 3) == 8
    assert model.heads("blocks.1.attn.hook_k") == 2  # grouped queries
    assert model.d_in("blocks.1.attn.hook_k") == 16
    for hook, head in [("blocks.4.hook_mlp_out", None), ("blocks.1.attn.hook_v", 2), ("embed", 0)]:
        with pytest.raises(SiteError):
            model.d_in(hook, head)


def test_a_parallel_block_has_no_middle(tmp_path):
    model = load_model(str(save_tiny(tmp_path, "neox")))
    assert len(model.hook_points()) == 4 * 8
    with pytest.raises(SiteError, match="resid_pre"):
        model.d_in("blocks.1.hook_resid_mid")


def test_tokens_start_with_bos_where_the_model_uses_one(gpt2_directory, tmp_path):
    tiny = load_model(str(gpt2_directory))
    words = [tiny.tokenizer.convert_tokens_to_ids(word) for word in ("w3", "w1")]
    assert tiny.tokens("w3 w1") == [tiny.tokenizer.bos_token_id, *words]
    assert load_model(str(save_tiny(tmp_path, "neox"))).tokens("w3 w1") == words


def test_single_tokens(gpt2_directory):
    tiny = load_model(str(gpt2_directory))
    assert tiny.single_token(" w3") == tiny.tokenizer.convert_tokens_to_ids("w3")
    assert tiny.single_token(" w3 w4") is None
    assert tiny.single_token(" unheard") is None


def test_the_digest_names_the_weights_and_nothing_else(gpt2_directory, broken, tmp_path):
    first, copy = load_model(str(gpt2_directory)).sha256, load_model(str(broken)).sha256
    assert first == copy and len(first) == 64
    assert first != load_model(str(save_tiny(tmp_path / "other", "gpt2", seed=1))).sha256


def test_nothing_is_printed(gpt2_directory, capfd):
    load_model(str(gpt2_directory))
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda d: (d / "config.json").unlink(), "no config.json"),
        (lambda d: (d / "model.safetensors").unlink(), "cannot be loaded"),
        (lambda d: _truncate(d / "model.safetensors"), "damaged or incomplete"),
        (lambda d: (d / "config.json").write_text("{"), "cannot be loaded"),
        (lambda d: _edit(d, model_type="unheard"), "cannot be loaded"),
        (lambda d: _edit(d, n_layer=6), "lack .* tensors"),
        (lambda d: [f.unlink() for f in d.glob("tokenizer*")], "no tokenizer"),
    ],
)
def test_a_damaged_directory_is_explained(broken, damage, words):
    damage(broken)
    with pytest.raises(ModelError, match=words) as caught:
        load_model(str(broken))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def _edit(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_an_encoder_is_refused(tmp_path):
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=42, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertModel(config).save_pretrained(tmp_path)
    word_tokenizer([f"w{i}" for i in range(40)]).save_pretrained(tmp_path)
    with pytest.raises(ModelError):
        load_model(str(tmp_path))


def test_an_absent_directory_and_an_unreachable_hub(monkeypatch):
    with pytest.raises(ModelError, match="not a directory"):
        load_model("./absent")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"the hub did not deliver it.*local directory"):
        load_model("some-lab/no-such-model")


def test_unknown_dtypes_and_devices(gpt2_directory):
    with pytest.raises(OptionError, match="float32"):
        load_model(str(gpt2_directory), dtype="float31")
    with pytest.raises(OptionError, match=r"abacus.* cannot be used"):
        load_model(str(gpt2_directory), device="abacus")
    if not torch.cuda.is_available():
        with pytest.raises(OptionError, match="--device cpu"):
            load_model(str(gpt2_directory), device="cuda")


def test_bfloat16(gpt2_directory):
    model = load_model(str(gpt2_directory), dtype="bfloat16")
    assert model.bridge(torch.tensor([model.tokens("w1 w2")])).dtype == torch.bfloat16


def test_a_trained_llama(shared_models):
    model = load_model(str(shared_models / "stories260k"))
    assert model.prepends_bos and model.tokens("Lily")[0] == model.tokenizer.bos_token_id
    assert model.single_token(" Lily") is not None and model.single_token(" Mary") is None
