"""Configs of wrong types, sizes and combinations: refused in one paragraph that names the file."""

import json

import pytest
import sae_files as f
import torch
from loading import refused

from saebench.checkpoints import load
from saebench.errors import CheckpointError

ARCHITECTURE = "standard"


def test_empty_and_missing(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        load(tmp_path / "nothing")
    folder = f.sae_lens(tmp_path / "sae", "standard", f.weights())
    weights, config = folder / "sae_weights.safetensors", folder / "cfg.json"
    kept = weights.read_bytes()
    weights.write_bytes(b"")
    refused(weights, "empty")
    refused(folder, "empty")
    weights.unlink()
    refused(folder, "no weights")
    weights.write_bytes(kept)
    config.unlink()
    refused(folder, "--architecture")
    (tmp_path / "bare").mkdir()
    refused(tmp_path / "bare", "no config and no weights")


def test_config_and_weights_that_do_not_belong_together(tmp_path):
    folder = f.sae_lens(tmp_path / "a", "standard", f.weights(), d_sae=21)
    refused(folder, "W_dec has shape [20, 12], but d_in 12 and d_sae 21")
    refused(f.sae_lens(tmp_path / "b", "topk", f.weights()), "k is")
    jump = f.sae_lens(tmp_path / "c", "standard", f.weights())
    config = json.loads((jump / "cfg.json").read_text())
    f.dump(jump / "cfg.json", config | {"architecture": "jumprelu"})
    refused(jump, "threshold is not there")
    gemma = f.gemma_scope(tmp_path / "d", f.weights() | {"W_dec": torch.zeros(20, 11)})
    refused(gemma, "W_dec has shape [20, 11]")


BAD = {
    "d_in": [0, -1, 1.5, "12", None, True, 10**30, [12]],
    "d_sae": [0, "20", 10**400],
    "architecture": [None, 3, "relu", "topK", ["standard"], {}, "transcoder", "skip_transcoder"],
    "apply_b_dec_to_input": [1, "yes", None],
    "normalize_activations": ["ln", 5, ["none"], {}, None, True],
    "metadata": [
        None,
        5,
        "x",
        [],
        {"hook_name": 5},
        {"sae_lens_version": "no version"},
        {"__class__": 1, "to_dict": 2},
        {"hook_name": "a", "hook_name_out": "b"},
    ],
    "reshape_activations": ["hook_z", 7],
    "dtype": ["float128", 5],
    "device": ["cuda:99", 7],
}


@pytest.mark.parametrize("key", BAD)
def test_settings_of_wrong_types_and_sizes(key, tmp_path):
    folder = f.sae_lens(tmp_path, "standard", f.weights())
    config = json.loads((folder / "cfg.json").read_text())
    for value in BAD[key]:
        (folder / "cfg.json").write_text(json.dumps(config | {key: value}))
        try:
            loaded = load(folder)
        except CheckpointError as error:
            assert folder.name in str(error) and "\n" not in str(error)
        else:
            # what has a default or plays no part may pass, but must then encode
            assert key in ("metadata", "reshape_activations", "dtype", "device") or value is None
            loaded.dictionary.encode(f.acts())
    if key in ("d_in", "d_sae", "architecture"):
        del config[key]
        (folder / "cfg.json").write_text(json.dumps(config))
        refused(folder)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", '{"d_in": NaN}', "[" * 100_000, '{"a":' * 100_000, "\xff\xfe"]
)
def test_configs_that_are_no_objects(text, tmp_path):
    folder = f.sae_lens(tmp_path, "standard", f.weights())
    (folder / "cfg.json").write_text(text, encoding="latin-1")
    refused(folder)


def test_matching_pursuit_that_would_not_end(tmp_path):
    config = {"max_iterations": 10**9, "stop_on_duplicate_support": False, "residual_threshold": 0.0}
    refused(f.sae_lens(tmp_path, "matching_pursuit", f.weights(), **config), "max_iterations")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"transcode": True}, "transcoder"),
        ({"skip_connection": True}, "no W_skip"),
        ({"activation": "groupmax"}, "groupmax"),
        ({"k": 21}, "1 to 20"),
        ({"num_latents": 0, "expansion_factor": None}, "expansion_factor"),
    ],
)
def test_sparsify_that_cannot_be_scored(config, said, tmp_path):
    refused(f.sparsify(tmp_path, f.weights(), **{"k": 4, **config}), said)


def test_dictionary_learning_transcoder_of_no_mlp(tmp_path):
    """It says that it reads a module's input; of the residual stream nobody knows which."""
    folder = f.dictionary_learning(tmp_path, "AutoEncoder", f.weights())
    config = json.loads((folder / "config.json").read_text())
    config["buffer"]["io"] = "in_and_out"
    f.dump(folder / "config.json", config)
    refused(folder, "which hook point it reads")


def test_openai_with_another_activation(tmp_path):
    path = f.openai(tmp_path, f.weights(), k=4)
    state = torch.load(path, weights_only=True)
    state["activation_state_dict"]["postact_fn"] = "Identity"
    torch.save(state, path)
    refused(path, "Identity")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "sae_weights.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n",
            "git lfs pull",
        ),
        ("ae.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n", "git lfs pull"),
        ("sae_weights.safetensors.incomplete", b"\x10\x00", "did not finish"),
    ],
)
def test_what_a_download_leaves_behind_is_named(name, content, said, tmp_path):
    folder = f.sae_lens(tmp_path, "standard", f.weights())
    (folder / "sae_weights.safetensors").unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=said) as caught:
        load(folder)
    assert "There are no weights" not in str(caught.value)
