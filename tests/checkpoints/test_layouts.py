"""Layouts of 2025 and 2026: the same codes as the authors' formulas give, with hook point, model and k found;
and with the deciding fact missing a refusal that names it."""

import json
import shutil
from pathlib import Path

import pytest
import sae_files as f
import torch
from safetensors.torch import load_file, save_file

from saebench.checkpoints import load
from saebench.errors import CheckpointError


def agrees(loaded, naive, w, skip=None, scale=1.0):
    """Codes and what is written, example by example."""
    x = f.acts()
    encoding = loaded.dictionary.encode(x)
    codes = torch.stack([naive(row * scale) for row in x]) / scale
    assert 0 < (codes != 0).float().mean() < 1
    torch.testing.assert_close(encoding.codes, codes, atol=1e-5, rtol=1e-5)
    bias = w["b_dec"] / scale
    wanted = codes @ w["W_dec"] + bias + (x @ skip.T if skip is not None else 0)
    torch.testing.assert_close(loaded.dictionary.decode(encoding), wanted, atol=1e-5, rtol=1e-5)


def refused(path, said):
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert said in str(caught.value) and "\n" not in str(caught.value), str(caught.value)


def test_llama_scope(tmp_path):
    """`pre = s x W + b` exceeds `s θ`; codes and bias come back in units of activation."""
    w = f.weights()
    loaded = load(f.llama_scope(tmp_path / "Llama3_1-8B-Base-L7R-8x", w, scale=2.0, theta=0.3))
    assert (loaded.info.format, loaded.info.architecture) == ("llama_scope", "jumprelu")
    assert (loaded.hook, loaded.model_name) == ("blocks.7.hook_resid_post", "meta-llama/Llama-3.1-8B")
    assert any("one level down" in warning for warning in loaded.warnings)
    thresholds = w | {"threshold": torch.full((f.D_SAE,), 0.6)}
    agrees(loaded, lambda x: f.jumprelu(x, thresholds), w, scale=2.0)


def test_llama_scope_thresholds_by_decoder_norm(tmp_path):
    w = f.weights()
    w["W_dec"] = w["W_dec"] * torch.linspace(0.5, 2, f.D_SAE)[:, None]
    loaded = load(f.llama_scope_r1(tmp_path, w))
    assert loaded.hook == "blocks.7.hook_resid_post"
    each = w | {"threshold": w["threshold"] / w["W_dec"].norm(dim=1)}
    agrees(loaded, lambda x: f.jumprelu(x, each), w)


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
    codes = torch.stack([f.jumprelu(row * 2.0, thresholds) for row in x])
    wanted = torch.stack([f.decoded(row, w) for row in codes]) / 4.0
    torch.testing.assert_close(
        loaded.dictionary.decode(loaded.dictionary.encode(x)), wanted, atol=1e-5, rtol=1e-5
    )


def test_qwen_scope(tmp_path):
    """Model and k stand in the repository's name; b_dec is not subtracted."""
    w = f.weights()
    loaded = load(f.qwen_scope(tmp_path, w, k=4))
    assert (loaded.info.format, loaded.info.architecture) == ("qwen_scope", "topk")
    assert (loaded.hook, loaded.model_name) == ("blocks.5.hook_resid_post", "Qwen/Qwen3-1.7B-Base")
    agrees(loaded, lambda x: f.topk(x, w, 4, subtract=False), w)
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
    agrees(loaded, lambda x: f.topk(x, w | {"b_enc": torch.zeros(f.D_SAE)}, 4), w)


def test_the_batch_topk_repository_normalises_its_input(tmp_path):
    """Its own lines: mean and deviation of every example out, and back in after decoding."""
    w = f.weights() | {"b_enc": torch.zeros(f.D_SAE)}
    loaded = load(f.batch_topk(tmp_path, w, kind="batchtopk", input_unit_norm=True))
    assert any("without a threshold" in warning for warning in loaded.warnings)
    x = f.acts()
    mean, std = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
    codes = torch.stack([f.topk(row, w, 4) for row in (x - mean) / (std + 1e-5)])
    wanted = torch.stack([f.decoded(row, w) for row in codes]) * std + mean
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
    agrees(loaded, lambda x: f.standard(x, w, subtract=False), w)
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


# --- transcoders ------------------------------------------------------------------------------


@pytest.mark.parametrize("affine", [False, True])
def test_gemma_scope_2_transcoder(affine, tmp_path):
    """The same weights are an SAE or a transcoder; the config alone says which."""
    w = f.weights()
    loaded = load(f.gemma_scope_2_transcoder(tmp_path, w, affine))
    assert loaded.info.architecture == ("jumprelu_skip_transcoder" if affine else "jumprelu_transcoder")
    assert (loaded.reads, loaded.hook) == ("blocks.5.ln2.hook_out", "blocks.5.hook_mlp_out")
    assert loaded.model_name == "google/gemma-3-1b-pt"
    agrees(loaded, lambda x: f.jumprelu(x, w), w, w["W_skip"] if affine else None)


def test_gemma_scope_2_sae_has_place_model_and_l0(tmp_path):
    loaded = load(f.gemma_scope_2(tmp_path, f.weights()))
    assert (loaded.hook, loaded.model_name) == ("blocks.5.hook_resid_post", "google/gemma-3-1b-pt")
    assert loaded.metadata["target_l0"] == 20 and loaded.reads is None


def test_gemma_scope_2_where_config_and_weights_contradict_each_other(tmp_path):
    folder = f.gemma_scope_2_transcoder(tmp_path, f.weights(), affine=True)
    state = load_file(folder / "params.safetensors")
    del state["affine_skip_connection"]
    save_file(state, folder / "params.safetensors")
    refused(folder, "affine_connection true")


def test_gemma_scope_2_without_its_config(tmp_path):
    """The published folders say it; elsewhere it is read as an SAE of no known place, and that is said."""
    folder = tmp_path / "gemma-scope-2-1b-pt" / "transcoder_all" / "layer_5_width_16k_l0_small_affine"
    f.gemma_scope_2_transcoder(folder, f.weights(), affine=True)
    (folder / "config.json").unlink()
    loaded = load(folder)
    assert (loaded.reads, loaded.hook) == ("blocks.5.ln2.hook_out", "blocks.5.hook_mlp_out")
    assert loaded.model_name == "google/gemma-3-1b-pt"
    shutil.move(folder, tmp_path / "mine")
    refused(tmp_path / "mine", "which hook point it reads")
    plain = f.gemma_scope_2(tmp_path / "plain", f.weights())
    (plain / "config.json").unlink()
    assert any("not a transcoder" in warning for warning in load(plain).warnings)


@pytest.mark.parametrize("more", [(), ("threshold",), ("W_skip",)])
def test_circuit_tracer(more, tmp_path):
    w = f.weights()
    loaded = load(f.circuit_tracer(tmp_path, w, *more))
    assert loaded.info.format == "circuit_tracer" and loaded.info.architecture.endswith("transcoder")
    assert (loaded.reads, loaded.hook) == ("blocks.3.mlp.hook_in", "blocks.3.hook_mlp_out")
    assert loaded.model_name == "Qwen/Qwen3-0.6B"
    naive = (
        (lambda x: f.jumprelu(x, w)) if "threshold" in more else (lambda x: f.standard(x, w, subtract=False))
    )
    agrees(loaded, naive, w, w["W_skip"] if "W_skip" in more else None)


def test_circuit_tracer_folders_and_cross_layer_transcoders(tmp_path):
    w = f.weights()
    for layer in (3, 4):
        f.circuit_tracer(tmp_path, w, layer=layer)
    refused(tmp_path, "2 files of weights")
    text = (tmp_path / "config.yaml").read_text().replace("transcoder_set", "cross_layer_transcoder")
    (tmp_path / "config.yaml").write_text(text)
    refused(tmp_path / "layer_3.safetensors", "cross-layer")


@pytest.mark.parametrize(
    "name", ["transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder"]
)
def test_sae_lens_transcoders_written_by_sae_lens(name, tmp_path):
    from sae_lens.registry import get_sae_class

    torch.manual_seed(0)
    kind, config = get_sae_class(name)
    theirs = kind(config(d_in=f.D_IN, d_out=f.D_IN + 2, d_sae=f.D_SAE, apply_b_dec_to_input=False))
    for parameter in theirs.parameters():
        parameter.data = torch.randn_like(parameter) / 3
    theirs.cfg.metadata.hook_name = "blocks.2.ln2.hook_normalized"
    theirs.cfg.metadata.hook_name_out = "blocks.2.hook_mlp_out"
    theirs.save_model(tmp_path)
    loaded = load(tmp_path)
    assert (loaded.reads, loaded.hook) == ("blocks.2.ln2.hook_normalized", "blocks.2.hook_mlp_out")
    assert (loaded.info.d_in, loaded.dictionary.d_read) == (f.D_IN + 2, f.D_IN)
    x = f.acts()
    with torch.no_grad():
        torch.testing.assert_close(loaded.dictionary.encode(x).codes, theirs.encode(x), atol=1e-5, rtol=1e-5)
        written = loaded.dictionary.decode(loaded.dictionary.encode(x))
        torch.testing.assert_close(written, theirs(x), atol=1e-5, rtol=1e-5)


def test_a_sae_lens_sae_that_writes_elsewhere_subtracts_what_it_says(tmp_path):
    """Of one width it may take b_dec from what it reads, as SAELens does; of two widths nothing can."""
    w = f.weights()
    places = {"hook_name": "blocks.2.ln2.hook_normalized", "hook_name_out": "blocks.2.hook_mlp_out"}
    for subtract in (True, False):
        folder = f.sae_lens(tmp_path / str(subtract), "standard", w, apply_b_dec_to_input=subtract)
        config = json.loads((folder / "cfg.json").read_text())
        f.dump(folder / "cfg.json", config | {"metadata": config["metadata"] | places})
        loaded = load(folder)
        assert (loaded.reads, loaded.hook) == (places["hook_name"], places["hook_name_out"])
        agrees(loaded, lambda x, s=subtract: f.standard(x, w, subtract=s), w)
    state = load_file(tmp_path / "True" / "sae_weights.safetensors")
    wide = {"W_dec": torch.randn(f.D_SAE, f.D_IN + 2), "b_dec": torch.zeros(f.D_IN + 2)}
    save_file(state | wide, tmp_path / "True" / "sae_weights.safetensors")
    refused(tmp_path / "True", "apply_b_dec_to_input is true")


def test_sparsify_transcoder_and_skip_connection(tmp_path):
    """A transcoder does not subtract b_dec, which lives where it writes."""
    w = f.weights()
    folder = f.sparsify(tmp_path / "layers.0.mlp", w, k=4, transcode=True, skip_connection=True)
    state = load_file(folder / "sae.safetensors")
    save_file(state | {"W_skip": w["W_skip"]}, folder / "sae.safetensors")
    loaded = load(folder)
    assert (loaded.reads, loaded.hook) == ("blocks.0.mlp.hook_in", "blocks.0.hook_mlp_out")
    agrees(loaded, lambda x: f.topk(x, w, 4, subtract=False), w, w["W_skip"])


def test_a_decoder_with_an_axis_of_layers_is_refused(tmp_path):
    w = f.weights()
    folder = f.gemma_scope_2(tmp_path / "clt", w)
    state = load_file(folder / "params.safetensors")
    save_file(state | {"w_dec": torch.zeros(f.D_SAE, 3, f.D_IN)}, folder / "params.safetensors")
    refused(folder, "cross-layer transcoder or crosscoder")
    crossed = f.sae_lens(tmp_path / "crosscoder", "standard", w)
    state = load_file(crossed / "sae_weights.safetensors")
    save_file(state | {"W_dec": torch.zeros(f.D_SAE, 2, f.D_IN)}, crossed / "sae_weights.safetensors")
    refused(crossed, "crosscoder")


# --- folders, names and wrappers --------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "ae.", "_orig_mod.module.", "model.sae."])
def test_a_prefix_that_all_names_share_is_taken_off_and_said(prefix, tmp_path):
    folder = f.dictionary_learning(tmp_path / "dl", "AutoEncoderTopK", f.weights())
    plain = load(folder)
    state = torch.load(folder / "ae.pt", weights_only=True)
    torch.save({prefix + k: v for k, v in state.items()}, folder / "ae.pt")
    loaded = load(folder)
    assert loaded.info.sha256 == plain.info.sha256
    assert any(repr(prefix) in warning for warning in loaded.warnings)
    lens = f.sae_lens(tmp_path / "sl", "standard", f.weights())
    sha, file = load(lens).info.sha256, lens / "sae_weights.safetensors"
    save_file({prefix + k: v for k, v in load_file(file).items()}, file)
    assert load(lens).info.sha256 == sha


def test_snapshots_of_a_dictionary_learning_run(tmp_path):
    """`checkpoints/ae_300.pt`, with the config one folder up."""
    folder = f.dictionary_learning(tmp_path / "trainer_0", "AutoEncoderTopK", f.weights())
    (folder / "checkpoints").mkdir()
    shutil.move(folder / "ae.pt", folder / "checkpoints" / "ae_300.pt")
    for path in (folder / "checkpoints" / "ae_300.pt", folder / "checkpoints", folder):
        loaded = load(path)
        assert (loaded.info.architecture, loaded.hook) == ("topk", "blocks.3.hook_resid_post")
    (folder / "config.json").unlink()
    refused(folder / "checkpoints" / "ae_300.pt", "--architecture")


def test_a_config_one_folder_up_that_is_another_tools_is_left_alone(tmp_path):
    folder = f.sae_lens(tmp_path / "sae", "standard", f.weights())
    f.dump(tmp_path / "config.json", {"trainer": {"dict_class": "AutoEncoderTopK", "k": 2}})
    assert load(folder).info.format == "sae_lens"
    path = f.plain(tmp_path / "plain", f.weights())
    f.dump(tmp_path / "config.json", {"model_type": "gpt2", "d_in": 12})
    assert load(path, architecture="standard").info.format == "plain"


def test_sharded_safetensors(tmp_path):
    folder = f.sae_lens(tmp_path, "standard", f.weights())
    sha = load(folder).info.sha256
    state = load_file(folder / "sae_weights.safetensors")
    (folder / "sae_weights.safetensors").unlink()
    names = list(state)
    for i, part in enumerate((names[:2], names[2:]), 1):
        save_file({n: state[n] for n in part}, folder / f"model-0000{i}-of-00002.safetensors")
    f.dump(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": {}})
    assert load(folder).info.sha256 == sha
    (folder / "model-00002-of-00002.safetensors").unlink()
    refused(folder, "number 2 is not")


def test_a_folder_of_saes_names_them(tmp_path):
    for name in ("a", "b"):
        f.sae_lens(tmp_path / name, "standard", f.weights())
    refused(tmp_path, "a folder of 2 SAEs (a, b)")
    (tmp_path / "deep").mkdir()
    for name in ("a", "b"):
        shutil.move(tmp_path / name, tmp_path / "deep" / name)
    f.sae_lens(tmp_path / "deep" / "er" / "c", "standard", f.weights())
    (tmp_path / "empty").mkdir()
    shutil.move(tmp_path / "deep", tmp_path / "empty" / "deep")
    refused(tmp_path, "SAEs further down")
    refused(tmp_path, f"{tmp_path / 'empty' / 'deep' / 'a'}")


@pytest.mark.parametrize("shape", [(), (1,), (1, f.D_SAE), (f.D_SAE, 1)])
def test_thresholds_of_any_shape(shape, tmp_path):
    w = f.weights() | {"threshold": torch.full((f.D_SAE,), 0.3)}
    folder = f.dictionary_learning(tmp_path, "BatchTopKSAE", w)
    state = torch.load(folder / "ae.pt", weights_only=True)
    torch.save(state | {"threshold": torch.full(shape, 0.3)}, folder / "ae.pt")
    agrees(load(folder), lambda x: f.jumprelu(x, w, subtract=True), w)


def test_small_things_that_writers_do(tmp_path):
    """A byte order mark, whole numbers as 4.0, a bias with an axis of length 1, JumpReLU by its other name."""
    w = f.weights()
    folder = f.sae_lens(tmp_path / "a", "topk", w, k=4)
    sha, config = load(folder).info.sha256, json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(config | {"k": 4.0}).encode())
    state = load_file(folder / "sae_weights.safetensors")
    save_file(state | {"b_dec": state["b_dec"][None].clone()}, folder / "sae_weights.safetensors")
    assert load(folder).info.sha256 == sha
    jump = f.sae_lens(tmp_path / "b", "jumprelu", w)
    config = json.loads((jump / "cfg.json").read_text())
    f.dump(jump / "cfg.json", config | {"architecture": "jump_relu"})
    assert load(jump).info.architecture == "jumprelu"


def test_paths_with_a_tilde(tmp_path, monkeypatch):
    f.sae_lens(tmp_path / "mine", "standard", f.weights())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load("~/mine").info.name == "mine"


def test_sparsify_folders_of_seeds_and_from_inside(tmp_path, monkeypatch):
    folder = f.sparsify(tmp_path / "layers.5" / "seed1", f.weights(), k=4)
    assert load(folder).hook == "blocks.5.hook_resid_post"
    monkeypatch.chdir(f.sparsify(tmp_path / "layers.6", f.weights(), k=4))
    loaded = load(Path("."))
    assert loaded.hook == "blocks.6.hook_resid_post" and loaded.info.name.endswith("/layers.6")


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
