"""Folders, names and wrappers that writers put around an SAE."""

import json
import shutil
from pathlib import Path

import pytest
import sae_files as f
import sae_formulas as formulas
import torch
from loading import agrees, refused
from safetensors.torch import load_file, save_file

from saebench.checkpoints import load


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
    assert str(tmp_path / "empty" / "deep" / "a") in refused(tmp_path, "SAEs further down")


@pytest.mark.parametrize("shape", [(), (1,), (1, f.D_SAE), (f.D_SAE, 1)])
def test_thresholds_of_any_shape(shape, tmp_path):
    w = f.weights() | {"threshold": torch.full((f.D_SAE,), 0.3)}
    folder = f.dictionary_learning(tmp_path, "BatchTopKSAE", w)
    state = torch.load(folder / "ae.pt", weights_only=True)
    torch.save(state | {"threshold": torch.full(shape, 0.3)}, folder / "ae.pt")
    agrees(load(folder), lambda x: formulas.jumprelu(x, w, subtract=True), w)


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
