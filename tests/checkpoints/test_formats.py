"""Every format loads to what its authors' formulas give, and one SAE to the same thing in all."""

import json

import pytest
import sae_files as f
import sae_formulas as formulas
import torch

from saebench.checkpoints import FORMATS, formats, load, load_object
from saebench.errors import CheckpointError


def assert_agrees(loaded, naive, w, tolerance=1e-5):
    """Codes, reconstruction, and both again after another encode came between."""
    x = f.acts()
    dictionary = loaded.dictionary
    encoding = dictionary.encode(x)
    dictionary.encode(f.acts(7, seed=9) * 50)
    codes = torch.stack([naive(row) for row in x])
    assert (codes != 0).any()
    torch.testing.assert_close(encoding.codes, codes, atol=tolerance, rtol=1e-5)
    wanted = torch.stack([formulas.decoded(row, w) for row in codes])
    torch.testing.assert_close(dictionary.decode(encoding), wanted, atol=tolerance, rtol=1e-5)


SAE_LENS = {
    "standard": ({}, lambda w: lambda x: formulas.standard(x, w)),
    "standard, b_dec not subtracted": (
        {"apply_b_dec_to_input": False},
        lambda w: lambda x: formulas.standard(x, w, subtract=False),
    ),
    "topk": ({"k": 4}, lambda w: lambda x: formulas.topk(x, w, 4)),
    "abstopk": ({"k": 4}, lambda w: lambda x: formulas.abstopk(x, w, 4)),
    "gated": ({}, lambda w: lambda x: formulas.gated(x, w)),
    "jumprelu": ({}, lambda w: lambda x: formulas.jumprelu(x, w, subtract=True)),
    "matching_pursuit": (
        {"max_iterations": 6, "residual_threshold": 0.0, "stop_on_duplicate_support": False},
        lambda w: lambda x: formulas.matching_pursuit(x, w, 6),
    ),
}


@pytest.mark.parametrize("case", SAE_LENS)
def test_sae_lens(case, tmp_path):
    config, naive = SAE_LENS[case]
    w = f.weights()
    loaded = load(f.sae_lens(tmp_path / "sae", case.split(",")[0], w, **config))
    assert loaded.info.format == "sae_lens"
    assert loaded.info.architecture == case.split(",")[0]
    assert loaded.hook == "blocks.1.hook_resid_pre"
    assert (loaded.info.d_in, loaded.info.d_sae) == (f.D_IN, f.D_SAE)
    assert_agrees(loaded, naive(w), w)


def test_abstopk_keeps_negative_codes(tmp_path):
    loaded = load(f.sae_lens(tmp_path, "abstopk", f.weights(), k=4))
    assert (loaded.dictionary.encode(f.acts()).codes < 0).any()


def test_topk_chosen_by_decoder_norm(tmp_path):
    """`rescale_acts_by_decoder_norm`: rank by code × row norm, decode with rows of norm 1."""
    w = f.weights()
    w["W_dec"] = w["W_dec"] * torch.linspace(0.5, 3, f.D_SAE)[:, None]
    config = {"k": 3, "rescale_acts_by_decoder_norm": True}
    loaded = load(f.sae_lens(tmp_path, "topk", w, **config))
    norms = w["W_dec"].norm(dim=1)
    unit = w | {"W_dec": w["W_dec"] / norms[:, None]}
    assert_agrees(loaded, lambda x: formulas.relu(formulas.largest(formulas.pre(x, w) * norms, 3)), unit)


def test_sae_lens_4(tmp_path):
    w = f.weights()
    assert_agrees(load(f.sae_lens_4(tmp_path / "a", w)), lambda x: formulas.standard(x, w), w)
    topk = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3}}
    loaded = load(f.sae_lens_4(tmp_path / "b", w, **topk))
    assert loaded.info.architecture == "topk"
    assert_agrees(loaded, lambda x: formulas.topk(x, w, 3), w)


def test_sae_lens_4_finetuning_factor_is_folded_and_said(tmp_path):
    w = f.weights() | {"scaling_factor": torch.linspace(0.5, 2, f.D_SAE)}
    loaded = load(f.sae_lens_4(tmp_path, w, finetuning_scaling_factor=True))
    scaled = w | {"W_dec": w["W_dec"] * w["scaling_factor"][:, None]}
    assert_agrees(loaded, lambda x: formulas.standard(x, w), scaled)
    assert any("finetuning" in said for said in loaded.folded)


def test_sae_lens_training_checkpoint_is_what_sae_lens_would_save(tmp_path):
    from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig

    torch.manual_seed(0)
    sae = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(d_in=f.D_IN, d_sae=f.D_SAE, k=3))
    sae.topk_threshold.fill_(0.2)
    sae.W_enc.data *= 30
    sae.W_dec.data *= torch.linspace(0.5, 2, f.D_SAE)[:, None]
    sae.save_model(tmp_path / "training")
    sae.save_inference_model(tmp_path / "inference")
    one, two = load(tmp_path / "training"), load(tmp_path / "inference")
    three = load_object(sae)
    assert one.info.sha256 == two.info.sha256 == three.info.sha256
    assert (one.info.architecture, one.info.training_architecture) == ("jumprelu", "batchtopk")
    x = f.acts()
    assert (one.dictionary.encode(x).codes != 0).any()
    torch.testing.assert_close(one.dictionary.encode(x).codes, two.dictionary.encode(x).codes)
    # codes of an example do not depend on the others in its batch
    alone = torch.cat([three.dictionary.encode(row[None]).codes for row in x])
    torch.testing.assert_close(three.dictionary.encode(x).codes, alone)


DICTIONARY_LEARNING = {
    "AutoEncoder": ("standard", lambda w: lambda x: formulas.standard(x, w)),
    "AutoEncoderNew": ("standard", lambda w: lambda x: formulas.standard(x, w, subtract=False)),
    "GatedAutoEncoder": ("gated", lambda w: lambda x: formulas.gated(x, w)),
    "AutoEncoderTopK": ("topk", lambda w: lambda x: formulas.topk(x, w, 4)),
    "BatchTopKSAE": ("jumprelu", lambda w: lambda x: formulas.jumprelu(x, w, subtract=True)),
    "MatryoshkaBatchTopKSAE": ("jumprelu", lambda w: lambda x: formulas.jumprelu(x, w, subtract=True)),
    "JumpReluAutoEncoder": ("jumprelu", lambda w: lambda x: formulas.jumprelu(x, w)),
}


@pytest.mark.parametrize("kind", DICTIONARY_LEARNING)
def test_dictionary_learning(kind, tmp_path):
    architecture, naive = DICTIONARY_LEARNING[kind]
    w = f.weights()
    if "BatchTopK" in kind:
        w["threshold"] = torch.full((f.D_SAE,), 0.3)
    loaded = load(f.dictionary_learning(tmp_path, kind, w))
    assert (loaded.info.format, loaded.info.architecture) == ("dictionary_learning", architecture)
    assert loaded.hook == "blocks.3.hook_resid_post"
    assert loaded.model_name == "EleutherAI/pythia-70m-deduped"
    assert_agrees(loaded, naive(w), w)


def test_dictionary_learning_threshold_never_set(tmp_path):
    """At −1 the library's own `relu(pre) > threshold` lets every positive code through."""
    w = f.weights()
    loaded = load(f.dictionary_learning(tmp_path, "BatchTopKSAE", w, threshold=-1.0))
    assert any("never set" in warning for warning in loaded.warnings)
    assert_agrees(loaded, lambda x: formulas.standard(x, w), w)


@pytest.mark.parametrize("kind", ["AutoEncoder", "GatedAutoEncoder", "MatryoshkaBatchTopKSAE"])
def test_dictionary_learning_file_alone(kind, tmp_path):
    """Weights that only one class has need no config; the hook point is then unknown."""
    folder = f.dictionary_learning(tmp_path, kind, f.weights())
    (folder / "config.json").unlink()
    loaded = load(folder / "ae.pt")
    assert loaded.info.format == "dictionary_learning"
    assert loaded.hook is None and any("--site" in w for w in loaded.warnings)


@pytest.mark.parametrize("write", [f.gemma_scope, f.gemma_scope_2])
def test_gemma_scope(write, tmp_path):
    w = f.weights()
    loaded = load(write(tmp_path, w))
    assert (loaded.info.format, loaded.info.architecture) == ("gemma_scope", "jumprelu")
    assert_agrees(loaded, lambda x: formulas.jumprelu(x, w), w)


def test_gemma_scope_published_path_names_the_hook(tmp_path):
    folder = tmp_path / "gemma-scope-2b-pt-res" / "layer_20" / "width_16k" / "average_l0_71"
    loaded = load(f.gemma_scope(folder, f.weights(), compressed=True))
    assert loaded.hook == "blocks.20.hook_resid_post"
    assert loaded.model_name == "gemma-2-2b" and loaded.metadata["target_l0"] == 71


def test_sparsify(tmp_path):
    w = f.weights()
    loaded = load(f.sparsify(tmp_path / "layers.5", w, k=4))
    assert (loaded.info.format, loaded.info.architecture) == ("sparsify", "topk")
    assert loaded.hook == "blocks.5.hook_resid_post"
    assert_agrees(loaded, lambda x: formulas.topk(x, w, 4), w)
    signed = load(f.sparsify(tmp_path / "signed", w, k=4, signed=True))
    assert_agrees(signed, lambda x: formulas.abstopk(x, w, 4), w)


def test_sparsify_width_from_expansion_factor(tmp_path):
    config = {"num_latents": 0, "expansion_factor": 2}
    with pytest.raises(CheckpointError, match="d_sae 24"):
        load(f.sparsify(tmp_path, f.weights(), k=4, **config))


@pytest.mark.parametrize("tied", [False, True])
def test_openai_relu(tied, tmp_path):
    w = f.weights()
    if tied:
        w["W_dec"] = w["W_enc"].T
    loaded = load(f.openai(tmp_path, w, tied=tied))
    assert (loaded.info.format, loaded.info.architecture) == ("openai", "standard")
    assert_agrees(loaded, lambda x: formulas.standard(x, w), w)


def test_openai_topk_normalises(tmp_path):
    """Gao et al.: x → (x − mean) / (std + 1e-5), and the way back with mean and std."""
    w = f.weights()
    loaded = load(f.openai(tmp_path, w, k=4))
    assert loaded.normalization == "layer_norm"
    x = f.acts()
    encoding = loaded.dictionary.encode(x)
    for i, row in enumerate(x):
        mean = row.sum() / f.D_IN
        std = (((row - mean) ** 2).sum() / (f.D_IN - 1)).sqrt()
        codes = formulas.topk((row - mean) / (std + 1e-5), w, 4)
        wanted = formulas.decoded(codes, w) * std + mean
        torch.testing.assert_close(loaded.dictionary.decode(encoding)[i], wanted, atol=1e-5, rtol=0)
        # in activation units a latent's share is its code times its row, the scale included
        torch.testing.assert_close(encoding.codes[i], codes * std, atol=1e-5, rtol=1e-5)


def test_goodfire(tmp_path):
    w = f.weights()
    loaded = load(f.goodfire(tmp_path, w))
    assert (loaded.info.format, loaded.info.architecture) == ("goodfire", "standard")
    assert_agrees(loaded, lambda x: formulas.standard(x, w, subtract=False), w)


PLAIN = {
    "standard": (("W_enc", "b_enc", "W_dec", "b_dec"), lambda w: lambda x: formulas.standard(x, w)),
    "standard,no-b-dec": (
        ("W_enc", "b_enc", "W_dec", "b_dec"),
        lambda w: lambda x: formulas.standard(x, w, subtract=False),
    ),
    "topk:4": (("W_enc", "b_enc", "W_dec", "b_dec"), lambda w: lambda x: formulas.topk(x, w, 4)),
    "jumprelu": (f.NAMES["jumprelu"], lambda w: lambda x: formulas.jumprelu(x, w)),
    "jumprelu,b-dec": (f.NAMES["jumprelu"], lambda w: lambda x: formulas.jumprelu(x, w, subtract=True)),
    "gated": (f.NAMES["gated"], lambda w: lambda x: formulas.gated(x, w)),
}


@pytest.mark.parametrize("architecture", PLAIN)
def test_plain(architecture, tmp_path):
    names, naive = PLAIN[architecture]
    w = f.weights()
    path = f.plain(tmp_path, w, *names)
    loaded = load(path, architecture=architecture)
    assert loaded.info.format == "plain"
    assert_agrees(loaded, naive(w), w)
    transposed = {k: v.T if v.ndim == 2 else v for k, v in w.items()}
    turned = f.plain(tmp_path / "transposed", transposed, *names)
    assert load(turned, architecture=architecture).info.sha256 == loaded.info.sha256


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        (None, "--architecture"),
        ("topk", "topk:32"),
        ("topk:x", "topk:32"),
        ("relu", "standard"),
        ("jumprelu", "threshold"),
        ("standard,b_dec", "b-dec"),
        ("topk:21", "1 to 20"),
    ],
)
def test_plain_needs_a_right_architecture(architecture, said, tmp_path):
    path = f.plain(tmp_path, f.weights())
    with pytest.raises(CheckpointError, match=said):
        load(path, architecture=architecture)


def every_format(tmp_path, w):
    """One ReLU SAE in every format: the k of a topk is its width, thresholds are 0, gates its bias."""
    moved = w | {"b_enc": w["b_enc"] - w["b_dec"] @ w["W_enc"]}
    zero = torch.zeros(f.D_SAE)
    gate = {"b_gate": w["b_enc"], "b_mag": w["b_enc"], "r_mag": zero}
    everything = f.D_SAE
    yield "sae_lens", load(f.sae_lens(tmp_path / "1", "standard", w))
    yield "sae_lens", load(f.sae_lens(tmp_path / "2", "topk", w, k=everything))
    yield "sae_lens", load(f.sae_lens(tmp_path / "3", "gated", w | gate))
    yield "sae_lens", load(f.sae_lens(tmp_path / "4", "jumprelu", w | {"threshold": zero}))
    yield "sae_lens", load(f.sae_lens_4(tmp_path / "5", w))
    for i, kind in enumerate(DICTIONARY_LEARNING):
        own = moved if kind in ("AutoEncoderNew", "JumpReluAutoEncoder") else w
        folder = tmp_path / f"dl{i}"
        weights = own | gate | {"threshold": zero}
        written = f.dictionary_learning(folder, kind, weights, k=everything, threshold=0.0)
        yield "dictionary_learning", load(written)
    yield "gemma_scope", load(f.gemma_scope(tmp_path / "6", moved | {"threshold": zero}))
    yield "gemma_scope", load(f.gemma_scope_2(tmp_path / "7", moved | {"threshold": zero}))
    yield "sparsify", load(f.sparsify(tmp_path / "8", w, k=everything))
    yield "openai", load(f.openai(tmp_path / "9", w))
    yield "goodfire", load(f.goodfire(tmp_path / "10", moved))
    yield "llama_scope", load(f.llama_scope_r1(tmp_path / "12", moved | {"threshold": zero}))
    yield "batch_topk", load(f.batch_topk(tmp_path / "13", w, kind="vanilla"))
    yield "e2e_sae", load(f.e2e_sae(tmp_path / "14", moved, "blocks.1.hook_resid_pre"))
    yield "qwen_scope", load(f.qwen_scope(tmp_path / "15", moved, k=everything))
    yield "plain", load(f.plain(tmp_path / "11", w), architecture="standard")


def test_one_sae_in_every_format_is_the_same(tmp_path):
    w, x = f.weights(), f.acts(200)
    seen = set()
    first = None
    for name, loaded in every_format(tmp_path, w):
        assert loaded.info.format == name
        seen.add(name)
        encoding = loaded.dictionary.encode(x)
        result = encoding.codes, loaded.dictionary.decode(encoding)
        first = first or result
        torch.testing.assert_close(result[0], first[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(result[1], first[1], atol=1e-5, rtol=0)
    assert seen == set(FORMATS) - {"temporal", "circuit_tracer"}  # refused, and transcoders only


def test_names_of_files_play_no_part(tmp_path):
    w = f.weights()
    folder = f.sae_lens(tmp_path / "a", "standard", w)
    sha = load(folder).info.sha256
    (folder / "cfg.json").rename(folder / "settings.txt")
    (folder / "sae_weights.safetensors").rename(folder / "blob")
    assert load(folder).info.sha256 == sha
    pt = f.openai(tmp_path / "b", w)
    renamed = pt.with_name("thing.npz")
    pt.rename(renamed)
    assert load(renamed).info.format == "openai"


def test_two_saes_in_one_folder_are_told_apart_by_file(tmp_path):
    f.plain(tmp_path, f.weights())
    (tmp_path / "weights.safetensors").rename(tmp_path / "a.safetensors")
    f.plain(tmp_path, f.weights(1))
    with pytest.raises(CheckpointError, match="2 files of weights"):
        load(tmp_path, architecture="standard")
    assert load(tmp_path / "a.safetensors", architecture="standard").info.d_sae == f.D_SAE


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes(dtype, tmp_path):
    w = {k: v.to(dtype) for k, v in f.weights().items()}
    loaded = load(f.sae_lens(tmp_path, "standard", w, dtype=str(dtype).removeprefix("torch.")))
    assert loaded.dictionary.W_dec.dtype == torch.float32
    exact = {k: v.float() for k, v in w.items()}
    assert_agrees(loaded, lambda x: formulas.standard(x, exact), exact)
    assert any("stored as" in warning for warning in loaded.warnings) == (dtype != torch.float64)
    assert load(tmp_path, dtype=torch.float64).dictionary.W_dec.dtype == torch.float64


def test_a_head_is_part_of_the_hook(tmp_path):
    metadata = {"hook_name": "blocks.2.attn.hook_z", "hook_head_index": 3}
    loaded = load(f.sae_lens(tmp_path, "standard", f.weights(), metadata=metadata))
    assert loaded.hook == "blocks.2.attn.hook_z[3]"


def test_demo_names(tmp_path, monkeypatch):
    import saebench.checkpoints as checkpoints

    f.sae_lens(tmp_path / "topk", "topk", f.weights(), k=4)
    monkeypatch.setattr(checkpoints, "DEMO", tmp_path)
    assert load("demo:topk").info.name == "demo:topk"
    with pytest.raises(CheckpointError, match="Did you mean 'topk'"):
        load("demo:tpk")
    with pytest.raises(CheckpointError, match="Unknown demo SAE"):
        load("demo:../topk")


def test_formats_lists_every_format():
    assert [name for name, _ in formats()] == list(FORMATS)
    assert all(description for _, description in formats())


def test_digest_changes_with_what_changes_a_code(tmp_path):
    w = f.weights()
    one = load(f.sae_lens(tmp_path / "a", "topk", w, k=4)).info.sha256
    assert load(f.sae_lens(tmp_path / "b", "topk", w, k=4)).info.sha256 == one
    assert load(f.sae_lens(tmp_path / "c", "topk", w, k=5)).info.sha256 != one
    changed = w | {"b_enc": w["b_enc"] + 1e-3}
    assert load(f.sae_lens(tmp_path / "d", "topk", changed, k=4)).info.sha256 != one
    renamed = f.sae_lens(tmp_path / "e", "topk", w, k=4, metadata={"model_name": "other"})
    assert load(renamed).info.sha256 == one


def test_config_beside_the_file_is_found(tmp_path):
    folder = f.dictionary_learning(tmp_path, "BatchTopKSAE", f.weights())
    assert load(folder / "ae.pt").info.training_architecture == "batchtopk"
    config = json.loads((folder / "config.json").read_text())
    config["trainer"]["dict_class"] = "CrossCoder"
    f.dump(folder / "config.json", config)
    with pytest.raises(CheckpointError, match="CrossCoder"):
        load(folder)
