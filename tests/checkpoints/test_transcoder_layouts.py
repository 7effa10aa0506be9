"""Layouts of transcoders: the same codes as the authors' formulas give, and what they read and write is found."""

import json
import shutil
from functools import partial

import pytest
import sae_files as f
import sae_formulas as formulas
import torch
from loading import agrees, refused
from safetensors.torch import load_file, save_file

from saebench.checkpoints import load


@pytest.mark.parametrize("affine", [False, True])
def test_gemma_scope_2_transcoder(affine, tmp_path):
    """The same weights are an SAE or a transcoder; the config alone says which."""
    w = f.weights()
    loaded = load(f.gemma_scope_2_transcoder(tmp_path, w, affine))
    assert loaded.info.architecture == ("jumprelu_skip_transcoder" if affine else "jumprelu_transcoder")
    assert (loaded.reads, loaded.hook) == ("blocks.5.ln2.hook_out", "blocks.5.hook_mlp_out")
    assert loaded.model_name == "google/gemma-3-1b-pt"
    agrees(loaded, lambda x: formulas.jumprelu(x, w), w, w["W_skip"] if affine else None)


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
    naive = formulas.jumprelu if "threshold" in more else partial(formulas.standard, subtract=False)
    agrees(loaded, lambda x: naive(x, w), w, w["W_skip"] if "W_skip" in more else None)


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
        agrees(loaded, lambda x, s=subtract: formulas.standard(x, w, subtract=s), w)
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
    agrees(loaded, lambda x: formulas.topk(x, w, 4, subtract=False), w, w["W_skip"])


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
