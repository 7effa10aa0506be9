"""Facts read off a path: its published part alone, as it was given, the last match."""

import json

import numpy as np
import pytest
import sae_files as f

from saebench.checkpoints import load
from saebench.checkpoints.origin import Origin, display_name
from saebench.errors import CheckpointError

INSIDE = "gemma-scope-2b-pt-res/layer_1/width_16k/average_l0_82"


def cached(root, repository, inside, file):
    """A file in the hub's cache: a link into `blobs`, which has no name of its own."""
    home = root / f"models--{repository.replace('/', '--')}"
    blob = home / "blobs" / f"{abs(hash((repository, inside, file.name))):x}"
    blob.parent.mkdir(parents=True, exist_ok=True)
    file.rename(blob)
    link = home / "snapshots" / "0123abcd" / inside / file.name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(blob)
    return link.parent


@pytest.mark.parametrize(
    "root",
    [
        "plain",
        "transcoder-comparison",
        "mclt",
        "embedding",
        "embeddings",
        "gemma-scope-embedding-study",
        "player_30_project",
        "layer_0",
        "gemma-scope-9b-pt-mlp/layer_3",
        "average_l0_7",
    ],
)
def test_words_and_numbers_elsewhere_in_a_path_mean_nothing(root, tmp_path):
    w = f.weights()
    loaded = load(f.gemma_scope(tmp_path / root / INSIDE, w))
    assert (loaded.hook, loaded.model_name) == ("blocks.1.hook_resid_post", "gemma-2-2b")
    assert loaded.metadata["target_l0"] == 82 and loaded.folded == () and loaded.reads is None


def test_the_hubs_cache(tmp_path):
    w = f.weights()
    made = f.gemma_scope(tmp_path / "made", w)
    folder = cached(
        tmp_path, "google/gemma-scope-2b-pt-res", "layer_1/width_16k/average_l0_82", made / "params.npz"
    )
    for path in (folder, folder / "params.npz"):
        loaded = load(path)
        assert (loaded.hook, loaded.metadata["target_l0"]) == ("blocks.1.hook_resid_post", 82)
    (tmp_path / "link").symlink_to(folder)
    assert load(tmp_path / "link").hook == "blocks.1.hook_resid_post"
    sae, made = load(folder), f.gemma_scope(tmp_path / "made", w)
    inside = "embedding/width_4k/average_l0_21"
    embedding = load(cached(tmp_path, "google/gemma-scope-2b-pt-res", inside, made / "params.npz"))
    assert embedding.folded == ("Gemma's embedding scale √d_in",) and embedding.hook == "hook_embed"
    np.testing.assert_allclose(embedding.dictionary.W_dec, sae.dictionary.W_dec * f.D_IN**0.5, rtol=1e-6)


def test_a_link_to_a_published_folder(tmp_path):
    f.gemma_scope(tmp_path / "far" / INSIDE, f.weights())
    (tmp_path / "mine").symlink_to(tmp_path / "far" / INSIDE)
    loaded = load(tmp_path / "mine")
    assert (loaded.hook, loaded.info.name) == ("blocks.1.hook_resid_post", "mine")


def test_a_transcoder_of_gemma_scope_1_in_the_cache(tmp_path):
    """Nothing but the repository's name says so."""
    made = f.gemma_scope(tmp_path / "made", f.weights())
    inside = "layer_4/width_16k/average_l0_88"
    loaded = load(cached(tmp_path, "google/gemma-scope-2b-pt-transcoders", inside, made / "params.npz"))
    assert loaded.info.architecture == "jumprelu_transcoder"
    told = load(
        tmp_path / "models--google--gemma-scope-2b-pt-transcoders" / "snapshots" / "0123abcd" / inside,
        architecture="jumprelu",
    )
    assert told.reads == loaded.reads and any("ignored" in warning for warning in told.warnings)
    assert (loaded.reads, loaded.hook) == ("blocks.4.ln2.hook_normalized", "blocks.4.hook_mlp_out")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("runs/topk/trainer_0", "topk/trainer_0"),
        ("runs/gated/trainer_0/ae.pt", "gated/trainer_0/ae.pt"),
        ("out/k8/final_153600", "k8/final_153600"),
        (INSIDE, INSIDE),
        ("a/models--o--n/snapshots/1234/layer_3", "o/n/layer_3"),
        ("my-sae", "my-sae"),
        ("run/layers.5.mlp", "my/run/layers.5.mlp"),
    ],
)
def test_names_that_every_run_has_alike_take_the_folders_above(path, name, tmp_path):
    assert display_name(tmp_path / "my" / path) == name


def test_the_last_match_counts():
    origin = Origin(None, ("a", "x-1", "layer_1", "x-2", "layer_2", "layer_3", "b"))
    found = origin.published(r"x-(\d)")
    assert found is not None and found.repository[1] == "2" and found.last(r"layer_(\d)")[1] == "3"
    assert origin.published("layer") is None


def test_a_config_wins_over_the_path(tmp_path):
    folder = f.gemma_scope_2(
        tmp_path / "gemma-scope-2-4b-it" / "mlp_out" / "layer_9_width_16k_l0_big", f.weights()
    )
    assert (load(folder).hook, load(folder).model_name) == (
        "blocks.5.hook_resid_post",
        "google/gemma-3-1b-pt",
    )
    (folder / "config.json").unlink()
    assert (load(folder).hook, load(folder).model_name) == ("blocks.9.hook_mlp_out", "google/gemma-3-4b-it")


def test_metadata_counts_without_the_version_that_wrote_it(tmp_path):
    folder = f.sae_lens(tmp_path / "sae", "standard", f.weights())
    config = json.loads((folder / "cfg.json").read_text("utf-8"))
    del config["metadata"]["sae_lens_version"]
    (folder / "cfg.json").write_text(json.dumps(config), "utf-8")
    loaded = load(folder)
    assert (loaded.hook, loaded.model_name) == ("blocks.1.hook_resid_pre", "gpt2")


def test_what_the_registry_alone_knows_is_known_of_its_repository_too(tmp_path):
    """SAELens' registry says that `gpt2-small-res-jb` was trained on centred activations; its repository does not."""
    made = f.sae_lens_4(tmp_path / "made", f.weights(), hook_name="blocks.8.hook_resid_pre")
    for file in list(made.iterdir()):
        folder = cached(tmp_path, "jbloom/GPT2-Small-SAEs-Reformatted", "blocks.8.hook_resid_pre", file)
    loaded = load(folder)
    assert any("center_writing_weights" in folded for folded in loaded.folded)
    x = f.acts() + 5
    moved = loaded.dictionary.encode(x + 3).codes
    assert (loaded.dictionary.encode(x).codes - moved).abs().max() < 1e-4


def test_an_activation_function_that_is_not_understood_is_refused(tmp_path):
    for i, config in enumerate(
        (
            {"activation_fn_str": "tanh-relu"},
            {"activation_fn_str": None, "activation_fn": "gelu"},
            {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 4, "postact_fn": "tanh"}},
            {"finetuning_scaling_factor": True},
        )
    ):
        with pytest.raises(CheckpointError, match=r"activation function|finetuning"):
            load(f.sae_lens_4(tmp_path / str(i), f.weights(), **config))


@pytest.mark.parametrize(
    "setting", [{"input_scale": 3.0}, {"rescale_latents": True}, {"center_input": True}, {"temperature": 2}]
)
def test_settings_that_may_change_the_function_are_said(setting, tmp_path):
    for write in (
        lambda p: f.sae_lens(p, "standard", f.weights(), **setting),
        lambda p: f.sae_lens_4(p, f.weights(), **setting),
        lambda p: f.sparsify(p, f.weights(), 4, **setting),
        lambda p: f.batch_topk(p, f.weights(), **setting),
        lambda p: f.llama_scope_r1(p, f.weights(), **setting),
    ):
        loaded = load(write(tmp_path))
        assert any(next(iter(setting)) in warning for warning in loaded.warnings), loaded.info.format


def test_settings_of_training_are_not(tmp_path):
    quiet = {
        "l1_coefficient": 3,
        "lr": 1e-3,
        "normalize_sae_decoder": True,
        "mse_loss_normalization": "dense_batch",
    }
    quiet |= {"scale_sparsity_penalty_by_decoder_norm": True, "n_batches_in_buffer": 3, "noise_scale": 0.0}
    assert load(f.sae_lens_4(tmp_path, f.weights(), **quiet)).warnings == ()
