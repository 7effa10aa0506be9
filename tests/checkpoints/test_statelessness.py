"""encode(A), encode(B), decode(A) is right for every architecture and input scale."""

import warnings

import pytest
import sae_files as f
import sae_formulas as formulas
import torch

from saebench.checkpoints import load, load_object
from saebench.dictionaries.normalization import average_factor, normalize
from saebench.errors import CheckpointError

CONFIGS = {
    "standard": {},
    "topk": {"k": 4},
    "abstopk": {"k": 4},
    "jumprelu": {},
    "gated": {},
    "matching_pursuit": {"max_iterations": 6},
}
SCALES = ["none", "layer_norm", "constant_norm_rescale"]


def sae_lens_object(folder):
    from sae_lens import SAE

    return SAE.load_from_disk(folder)


@pytest.mark.parametrize("hook_z", [False, True])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("architecture", CONFIGS)
def test_agrees_with_sae_lens_and_keeps_no_state(architecture, scale, hook_z, tmp_path):
    config = {"normalize_activations": scale, **CONFIGS[architecture]}
    if hook_z:
        config["reshape_activations"] = "hook_z"
        config["metadata"] = {"hook_name": "blocks.1.attn.hook_z"}
    folder = f.sae_lens(tmp_path, architecture, f.weights(), **config)
    a, b = f.acts(), f.acts(9, seed=7) * 20
    sae = sae_lens_object(folder)
    shaped = a.view(len(a), 3, 4) if hook_z else a
    wanted = sae.decode(sae.encode(shaped)).flatten(1)
    for loaded in (load(folder), load_object(sae)):
        first = loaded.dictionary.encode(a)
        loaded.dictionary.encode(b)
        torch.testing.assert_close(loaded.dictionary.decode(first), wanted, atol=1e-5, rtol=1e-5)
        heads = loaded.dictionary.encode(shaped)
        torch.testing.assert_close(heads.codes, first.codes)
        # a latent's share is its code times its row, whatever the scale
        j = int(first.codes.abs().sum(0).argmax())
        without = first._replace(codes=first.codes * (torch.arange(f.D_SAE) != j))
        share = loaded.dictionary.decode(first) - loaded.dictionary.decode(without)
        expected = first.codes[:, j, None] * loaded.dictionary.W_dec[j]
        torch.testing.assert_close(share, expected, atol=1e-5, rtol=1e-4)


def test_the_users_object_is_left_alone(tmp_path):
    """SAELens keeps scales and shapes on the module between encode and decode; ours must not mix in."""
    folder = f.sae_lens(
        tmp_path,
        "standard",
        f.weights(),
        normalize_activations="layer_norm",
        reshape_activations="hook_z",
        metadata={"hook_name": "blocks.1.attn.hook_z"},
    )
    sae = sae_lens_object(folder)
    heads = f.acts().view(-1, 3, 4)
    codes = sae.encode(heads)
    loaded = load_object(sae)
    loaded.dictionary.encode(f.acts(5, seed=3))
    assert sae.decode(codes).shape == heads.shape
    assert sae.cfg.normalize_activations == "layer_norm" and sae.hook_z_reshaping_mode
    assert all(p.requires_grad for p in sae.parameters())


def test_a_temporal_sae_in_memory_is_refused():
    """Encoded one activation at a time it would be another dictionary."""
    from sae_lens import TemporalSAE, TemporalSAEConfig

    sae = TemporalSAE(TemporalSAEConfig(d_in=12, d_sae=32, n_heads=2, bottleneck_factor=4, kval_topk=5))
    with pytest.raises(CheckpointError, match="tokens before"):
        load_object(sae)


def test_zero_activation_stays_zero_under_a_constant_norm(tmp_path):
    config = {"normalize_activations": "constant_norm_rescale"}
    dictionary = load(f.sae_lens(tmp_path, "standard", f.weights(), **config)).dictionary
    decoded = dictionary.decode(dictionary.encode(torch.zeros(2, f.D_IN)))
    assert torch.equal(decoded, torch.zeros(2, f.D_IN))


class TestAverageScale:
    def folded(self, w, s):
        """SAELens' `fold_activation_norm_scaling_factor`, written out."""
        return w | {"W_enc": w["W_enc"] * s, "W_dec": w["W_dec"] / s, "b_dec": w["b_dec"] / s}

    @pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu", "gated"])
    def test_measured_factor_equals_folding(self, architecture, tmp_path):
        x = f.acts(500) * 7
        s = f.D_IN**0.5 / float(x.norm(dim=1).mean())
        w, config = f.weights(), CONFIGS[architecture]
        unfolded = {"normalize_activations": "expected_average_only_in"}
        loaded = load(f.sae_lens(tmp_path / "a", architecture, w, **config, **unfolded))
        assert loaded.needs_factor
        assert any(warning.startswith("scale not folded") for warning in loaded.warnings)
        fitted = loaded.fitted(x)
        assert not fitted.needs_factor and fitted.fitted(x * 2) is fitted
        assert any("measured on 500" in said for said in fitted.folded)
        assert not any(w.startswith("scale not folded") for w in fitted.warnings)
        other = load(f.sae_lens(tmp_path / "b", architecture, self.folded(w, s), **config))
        a, b = (d.dictionary.encode(x) for d in (fitted, other))
        ours, theirs = fitted.dictionary.decode(a), other.dictionary.decode(b)
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)
        assert torch.equal(a.codes != 0, b.codes != 0)
        assert fitted.info.sha256 != loaded.info.sha256
        torch.testing.assert_close(fitted.dictionary.factor, s, rtol=1e-5, atol=0)

    def test_encoding_without_the_factor_is_an_error(self, tmp_path):
        unfolded = {"normalize_activations": "expected_average_only_in"}
        loaded = load(f.sae_lens(tmp_path, "standard", f.weights(), **unfolded))
        with pytest.raises(CheckpointError, match="fitted"):
            loaded.dictionary.encode(f.acts())
        with pytest.raises(CheckpointError, match="mean norm"):
            loaded.fitted(torch.zeros(3, f.D_IN))

    def test_factor_beside_a_training_checkpoint_is_used(self, tmp_path):
        unfolded = {"normalize_activations": "expected_average_only_in"}
        folder = f.sae_lens(tmp_path, "standard", f.weights(), **unfolded)
        f.dump(folder / "activation_scaler.json", {"scaling_factor": 0.25, "has_whitening": False})
        loaded = load(folder)
        assert not loaded.needs_factor and loaded.dictionary.factor == 0.25
        assert load(folder).scaled(1.0).dictionary.factor == 1.0

    def test_factor_of_given_activations(self):
        x = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
        assert average_factor(x) == pytest.approx(2**0.5 / 3)

    def test_unknown_scale(self):
        with pytest.raises(CheckpointError, match="layer_norm"):
            normalize(f.acts(), "layernorm")


def test_a_sae_saved_from_memory_is_the_same_from_disk(tmp_path):
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=f.D_IN, d_sae=f.D_SAE, k=3))
        sae.save_inference_model(tmp_path)
    memory, disk = load_object(sae), load(tmp_path)
    assert memory.info.sha256 == disk.info.sha256
    x = f.acts()
    assert torch.equal(memory.dictionary.encode(x).codes, disk.dictionary.encode(x).codes)


CENTRED = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}


class TestCentred:
    """SAEs of models with centred weights (`gpt2-small-res-jb`): the mean belongs to no latent."""

    def test_the_mean_is_taken_out_and_put_back(self, tmp_path):
        w, x = f.weights(), f.acts()
        plain = load(f.sae_lens(tmp_path / "a", "topk", w, k=4))
        centred = load(f.sae_lens(tmp_path / "b", "topk", w, k=4, metadata=CENTRED))
        assert any("centred" in said for said in centred.folded)
        assert centred.info.sha256 != plain.info.sha256
        mean = torch.stack([row.sum() / f.D_IN for row in x])[:, None]
        wanted = plain.dictionary.encode(x - mean)
        encoding = centred.dictionary.encode(x)
        torch.testing.assert_close(encoding.codes, wanted.codes)
        decoded = plain.dictionary.decode(wanted) + mean
        torch.testing.assert_close(centred.dictionary.decode(encoding), decoded)
        # and in memory, as from disk
        memory = load_object(sae_lens_object(tmp_path / "b"))
        assert memory.folded == centred.folded
        assert memory.info.sha256 == centred.info.sha256
        assert torch.equal(memory.dictionary.encode(x).codes, encoding.codes)

    def test_inside_a_head_nothing_is_centred(self, tmp_path):
        inside = {"hook_name": "blocks.1.attn.hook_z", **CENTRED}
        loaded = load(f.sae_lens(tmp_path, "topk", f.weights(), k=4, metadata=inside))
        assert loaded.folded == ()

    def test_centred_weights_do_just_that(self):
        """TransformerLens' own processing against the claim that is built on."""
        from transformer_lens import HookedTransformer, HookedTransformerConfig

        torch.manual_seed(0)
        config = HookedTransformerConfig(
            n_layers=2,
            d_model=12,
            n_ctx=8,
            d_head=6,
            d_vocab=11,
            act_fn="gelu",
            normalization_type="LN",
            seed=0,
        )
        model = HookedTransformer(config)
        for parameter in model.parameters():
            parameter.data.normal_(std=0.5)
        tokens = torch.randint(0, 11, (3, 6))
        _, raw = model.run_with_cache(tokens)
        model.load_and_process_state_dict(
            model.state_dict(),
            fold_ln=False,
            center_writing_weights=True,
            center_unembed=False,
            fold_value_biases=False,
        )
        _, processed = model.run_with_cache(tokens)
        for hook in ("blocks.1.hook_resid_pre", "blocks.0.hook_attn_out", "blocks.1.hook_mlp_out"):
            mean = raw[hook].mean(-1, keepdim=True)
            torch.testing.assert_close(processed[hook], raw[hook] - mean, atol=1e-4, rtol=1e-4)
        for hook in ("blocks.1.attn.hook_z", "blocks.1.mlp.hook_post"):
            torch.testing.assert_close(processed[hook], raw[hook], atol=1e-4, rtol=1e-4)


class TestWhitening:
    """`covariance_whitening`: z = (x − mean) M, x̂ = ẑ M⁻¹ + mean, folded into the weights."""

    config = "covariance_whitening"

    def write(self, folder, with_matrices=True, width=f.D_IN, **config):
        from safetensors.torch import save_file

        path = f.sae_lens(folder, "standard", f.weights(), normalize_activations=self.config, **config)
        g = torch.Generator().manual_seed(4)
        matrix = torch.randn(width, width, generator=g).double() + 3 * torch.eye(width)
        mean = torch.randn(width, generator=g).double()
        tensors = {"mean": mean, "matrix": matrix, "inverse_matrix": matrix.inverse().contiguous()}
        if with_matrices:
            save_file(tensors, folder / "activation_whitening.safetensors")
        return path, tensors

    @pytest.mark.parametrize("subtract", [True, False])
    def test_folded(self, subtract, tmp_path):
        path, t = self.write(tmp_path, apply_b_dec_to_input=subtract)
        loaded = load(path)
        assert any("whitening" in said for said in loaded.folded)
        w, x = f.weights(), f.acts()
        z = ((x.double() - t["mean"]) @ t["matrix"]).float()
        codes = torch.stack([formulas.standard(row, w, subtract) for row in z])
        inner = torch.stack([formulas.decoded(row, w) for row in codes])
        wanted = (inner.double() @ t["inverse_matrix"] + t["mean"]).float()
        encoding = loaded.dictionary.encode(x)
        torch.testing.assert_close(encoding.codes, codes, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(loaded.dictionary.decode(encoding), wanted, atol=1e-4, rtol=1e-4)

    @pytest.mark.parametrize("broken", [{"with_matrices": False}, {"width": 5}])
    def test_missing_or_misfitting_matrices(self, broken, tmp_path):
        path, _ = self.write(tmp_path, **broken)
        with pytest.raises(CheckpointError, match="whitening matrices of width 12"):
            load(path)


@pytest.mark.parametrize("architecture", ["matching_pursuit", "standard"])
def test_b_dec_is_added_as_sae_lens_adds_it(architecture, tmp_path):
    """Tied SAEs that do not subtract b_dec do not add it either; the others always add it."""
    config = {"apply_b_dec_to_input": False, **CONFIGS[architecture]}
    folder = f.sae_lens(tmp_path, architecture, f.weights(), **config)
    sae, x = sae_lens_object(folder), f.acts()
    dictionary = load(folder).dictionary
    wanted = sae.decode(sae.encode(x))
    torch.testing.assert_close(dictionary.decode(dictionary.encode(x)), wanted)
