"""Layouts of 2025 and 2026: the same codes as the authors' formulas give, with hook point, model and k found;
and with the deciding fact missing a refusal that names it."""

import json
import shutil

import pytest
import sae_files as f
import sae_formulas as formulas
import torch
from loading import agrees, refused
from safetensors.torch import save_file

from saebench.checkpoints import load


def test_llama_scope(tmp_path):
    """`pre = s x W + b` exceeds `s θ`; codes and bias come back in units of activation."""
    w = f.weights()
    loaded = load(f.llama_scope(tmp_path / "Llama3_1-8B-Base-L7R-8x", w, scale=2.0, theta=0.3))
    assert (loaded.info.format, loaded.info.architecture) == ("llama_scope", "jumprelu")
    assert (loaded.hook, loaded.model_name) == ("blocks.7.hook_resid_post", "meta-llama/Llama-3.1-8B")
    assert any("one level down" in warning for warning in loaded.warnings)
    thresholds = w | {"threshold": torch.full((f.D_SAE,), 0.6)}
    agrees(loaded, lambda x: formulas.jumprelu(x, thresholds), w, scale=2.0)


def test_llama_scope_thresholds_by_decoder_norm(tmp_path):
    w = f.weights()
    w["W_dec"] = w["W_dec"] * torch.linspace(0.5, 2, f.D_SAE)[:, None]
    loaded = load(f.llama_scope_r1(tmp_path, w))
    assert loaded.hook == "blocks.7.hook_resid_post"
    each = w | {"threshold": w["threshold"] / w["W_dec"].norm(dim=1)}
    agrees(loaded, lambda x: formulas.jumprelu(x, each), w)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"dataset_average_activation_norm": None}, "threshold"),
        ({"jump_relu_threshold": None}, "jump_relu_threshold is None"),
        ({"use_glu_encoder": True}, "use_glu_encoder"),
        ({"sae_type": "crosscoder"}, "crosscoder"),
        ({"act_fn": "batchtopk"}, "batchtopk"),
        ({"norm_activation": "batch-wise"}, "batch"),
    ],
)
def test_llama_scope_without_the_deciding_fact(config, said, tmp_path):
    refused(f.llama_scope(tmp_path, f.weights(), **config), said)


def test_llama_scope_transcoder(tmp_path):
    """Two places, two scales."""
    w = f.weights()
    norms = {"in": f.D_IN**0.5 / 2.0, "out": f.D_IN**0.5 / 4.0}
    places = {"hook_point_in": "blocks.7.ln2.hook_normalized", "hook_point_out": "blocks.7.hook_mlp_out"}
    loaded = load(f.llama_scope(tmp_path, w, dataset_average_activation_norm=norms, **places))
    assert (loaded.reads, loaded.hook) == ("blocks.7.ln2.hook_normalized", "blocks.7.hook_mlp_out")
    x, thresholds = f.acts(), w | {"threshold": torch.full((f.D_SAE,), 0.6)}
    codes = torch.stack([formulas.jumprelu(row * 2.0, thresholds) for row in x])
    wanted = torch.stack([formulas.decoded(row, w) for row in codes]) / 4.0
    torch.testing.assert_close(
        loaded.dictionary.decode(loaded.dictionary.encode(x)), wanted, atol=1e-5, rtol=1e-5
    )


def test_qwen_scope(tmp_path):
    """Model and k stand in the repository's name; b_dec is not subtracted."""
    w = f.weights()
    loaded = load(f.qwen_scope(tmp_path, w, k=4))
    assert (loaded.info.format, loaded.info.architecture) == ("qwen_scope", "topk")
    assert (loaded.hook, loaded.model_name) == ("blocks.5.hook_resid_post", "Qwen/Qwen3-1.7B-Base")
    agrees(loaded, lambda x: formulas.topk(x, w, 4, subtract=False), w)
    # what was published under its name is not read as the user tells
    assert load(f.qwen_scope(tmp_path, w, k=4), architecture="topk:4").info.sha256 == loaded.info.sha256
    # in a folder of another name nothing says what it is
    shutil.move(f.qwen_scope(tmp_path, w, k=4), tmp_path / "layer5.sae.pt")
    refused(tmp_path / "layer5.sae.pt", "--architecture")


def test_the_batch_topk_repository(tmp_path):
    w = f.weights()
    loaded = load(f.batch_topk(tmp_path, w | {"b_enc": torch.zeros(f.D_SAE)}))
    assert (loaded.info.format, loaded.info.architecture) == ("batch_topk", "topk")
    assert (loaded.hook, loaded.model_name) == ("blocks.4.hook_resid_pre", "gpt2-small")
    agrees(loaded, lambda x: formulas.topk(x, w | {"b_enc": torch.zeros(f.D_SAE)}, 4), w)


def test_the_batch_topk_repository_normalises_its_input(tmp_path):
    """Its own lines: mean and deviation of every example out, and back in after decoding."""
    w = f.weights() | {"b_enc": torch.zeros(f.D_SAE)}
    loaded = load(f.batch_topk(tmp_path, w, kind="batchtopk", input_unit_norm=True))
    assert any("without a threshold" in warning for warning in loaded.warnings)
    x = f.acts()
    mean, std = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
    codes = torch.stack([formulas.topk(row, w, 4) for row in (x - mean) / (std + 1e-5)])
    wanted = torch.stack([formulas.decoded(row, w) for row in codes]) * std + mean
    torch.testing.assert_close(
        loaded.dictionary.decode(loaded.dictionary.encode(x)), wanted, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("config", "said"), [({"kind": "gated"}, "sae_type"), ({"kind": "topk", "k": None}, "k is None")]
)
def test_the_batch_topk_repository_without_the_deciding_fact(config, said, tmp_path):
    refused(f.batch_topk(tmp_path, f.weights(), **config), said)


def test_e2e_sae(tmp_path):
    """Decoder rows are normalised whenever they are used; the hook point is the tensors' prefix."""
    w = f.weights()
    wide = w | {"W_dec": w["W_dec"] * torch.linspace(0.5, 2, f.D_SAE)[:, None]}
    loaded = load(f.e2e_sae(tmp_path, wide, "blocks.6.hook_resid_pre"))
    assert (loaded.info.format, loaded.info.architecture) == ("e2e_sae", "standard")
    assert loaded.hook == "blocks.6.hook_resid_pre"
    agrees(loaded, lambda x: formulas.standard(x, w, subtract=False), w)
    refused(
        f.e2e_sae(tmp_path, w, "blocks.2.hook_resid_pre", "blocks.6.hook_resid_pre"), "2 SAEs side by side"
    )


@pytest.mark.parametrize("how", ["conf.yaml", "weights"])
def test_temporal_saes_are_refused_with_the_reason(how, tmp_path):
    state = {"D": torch.zeros(8, 4), "E": torch.zeros(4, 8), "b": torch.zeros(4)}
    if how == "weights":
        state["attn_layers.0.k_ctx.weight"] = torch.zeros(4, 4)
    else:
        (tmp_path / how).write_text("llm:\n  dimin: 4\nsae:\n  exp_factor: 2\n  n_attn_layers: 1\n")
    save_file(state, tmp_path / "latest_ckpt.safetensors")
    refused(tmp_path, "depend on the activations of the tokens before")


# --- the deciding fact missing ----------------------------------------------------------------


def without(folder, file, *keys):
    """A folder whose config lacks some settings, or settings of its `trainer`."""
    path = folder / file
    config = json.loads(path.read_text())
    for part in (config, config.get("trainer", {})):
        for key in keys:
            part.pop(key, None)
    f.dump(path, config)
    return folder


def no_k(folder):
    """dictionary_learning keeps k in both its files."""
    state = torch.load(folder / "ae.pt", weights_only=True)
    torch.save({name: value for name, value in state.items() if name != "k"}, folder / "ae.pt")
    return without(folder, "config.json", "k")


def unactivated(path, *names):
    """OpenAI's file without what it says of its activation."""
    state = torch.load(path, weights_only=False)
    torch.save({name: value for name, value in state.items() if name not in names}, path)
    return path


MISSING = {
    "sae_lens, architecture": (
        lambda p, w: without(f.sae_lens(p, "topk", w, k=4), "cfg.json", "architecture"),
        "architecture",
    ),
    "sae_lens, k": (lambda p, w: without(f.sae_lens(p, "topk", w, k=4), "cfg.json", "k"), "k is None"),
    "sparsify, k": (
        lambda p, w: without(f.sparsify(p, w, k=4), "cfg.json", "k"),
        "cfg.json (keys activation, d_in",
    ),
    "dictionary_learning, class": (
        lambda p, w: without(f.dictionary_learning(p, "AutoEncoderTopK", w), "config.json", "dict_class"),
        "config.json (keys buffer, trainer)",
    ),
    "dictionary_learning, k": (
        lambda p, w: no_k(f.dictionary_learning(p, "AutoEncoderTopK", w)),
        "k is None",
    ),
    "openai, activation": (lambda p, w: unactivated(f.openai(p, w, k=4), "activation"), "which of the two"),
    "openai, k": (lambda p, w: unactivated(f.openai(p, w, k=4), "activation_state_dict"), "k is None"),
    "circuit-tracer, layer": (
        lambda p, w: f.circuit_tracer(p, w).rename(p / "transcoder.safetensors"),
        "no layer's number",
    ),
    "weights alone": (lambda p, w: f.plain(p, w), "without a config"),
}
"""Beside those of Llama Scope, Qwen Scope, the BatchTopK repository, e2e_sae and Gemma Scope above."""


@pytest.mark.parametrize("case", MISSING)
def test_the_same_file_with_the_deciding_fact_missing(case, tmp_path):
    write, said = MISSING[case]
    refused(write(tmp_path, f.weights()), said)


def test_openai_without_any_word_of_its_activation_is_read_as_the_tool_does(tmp_path):
    loaded = load(unactivated(f.openai(tmp_path, f.weights()), "activation", "activation_state_dict"))
    assert loaded.info.architecture == "standard" and any("names no activation" in w for w in loaded.warnings)
