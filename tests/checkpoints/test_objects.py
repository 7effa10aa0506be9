"""Objects in memory: what works, and what is refused with which reason."""

import pytest
import sae_files as f
import torch
from torch import nn

from saebench.checkpoints import load, load_object
from saebench.dictionaries.objects import from_object
from saebench.errors import CheckpointError


class Plain:
    """No torch module: just the three names."""

    def __init__(self, w):
        self.w, self.W_dec = w, w["W_dec"]

    def encode(self, x):
        return torch.relu((x - self.w["b_dec"]) @ self.w["W_enc"] + self.w["b_enc"])

    def decode(self, codes):
        return codes @ self.W_dec + self.w["b_dec"]


class Module(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.W_enc, self.W_dec = nn.Parameter(w["W_enc"]), nn.Parameter(w["W_dec"])
        self.bias = nn.Parameter(w["b_dec"])

    def encode(self, x):
        return torch.relu((x - self.bias) @ self.W_enc)

    def decode(self, codes):
        return codes @ self.W_dec + self.bias


class Squashed(Module):
    def decode(self, codes):
        return torch.tanh(codes @ self.W_dec) + self.bias


class ReluOut(Module):
    def decode(self, codes):
        return torch.relu(codes @ self.W_dec + self.bias)


class Rescaled(Module):
    """W_dec is not what decode uses."""

    def decode(self, codes):
        return 2 * codes @ self.W_dec + self.bias


class Remembers(Module):
    """Decodes with a scale that encode left behind."""

    def encode(self, x):
        self.scale = x.norm(dim=-1, keepdim=True)
        return torch.relu(x / self.scale @ self.W_enc)

    def decode(self, codes):
        return codes @ self.W_dec * self.scale[: len(codes)]


class SumsToOne(Module):
    """Linear on the codes that encode gives, and on no others: edits would be rescaled."""

    def encode(self, x):
        codes = super().encode(x) + 1e-3
        return codes / codes.sum(-1, keepdim=True)

    def decode(self, codes):
        return codes / codes.sum(-1, keepdim=True).clamp(min=1e-6) @ self.W_dec + self.bias


class Gates(Module):
    """Linear until two latents meet."""

    def decode(self, codes):
        return codes @ self.W_dec + self.bias + (codes[:, :1] * codes[:, 1:2])


@pytest.mark.parametrize("kind", [Plain, Module])
@pytest.mark.parametrize("given", [True, False])
def test_an_object_with_the_three_names(kind, given):
    obj, x = kind(f.weights()), f.acts()
    loaded = load_object(obj, x if given else None)
    encoding = loaded.dictionary.encode(x)
    torch.testing.assert_close(loaded.dictionary.decode(encoding), obj.decode(obj.encode(x)))
    assert not encoding.codes.requires_grad and not loaded.dictionary.W_dec.requires_grad
    assert loaded.info.format == "object" and loaded.hook is None
    assert loaded.fitted(x) is loaded


@pytest.mark.parametrize("kind", [Plain, Module])
def test_digest_is_of_the_weights(kind):
    one, same = (load_object(kind(f.weights())).info.sha256 for _ in range(2))
    other = load_object(kind(f.weights(1))).info.sha256
    assert one == same != other


@pytest.mark.parametrize("kind", [Squashed, ReluOut, Rescaled, Remembers, SumsToOne, Gates])
def test_decoders_that_are_not_linear_are_refused(kind):
    with pytest.raises(CheckpointError, match="not linear in its codes"):
        from_object(kind(f.weights()), f.acts())


class SquashedFarOut(Module):
    """Linear near the origin, where the random probes lie; not on the activations it is for."""

    def decode(self, codes):
        return (codes @ self.W_dec).clamp(-100, 100) + self.bias


def test_linearity_is_tried_again_on_the_sites_own_activations():
    loaded = load_object(SquashedFarOut(f.weights()))
    assert loaded.fitted(f.acts()) is loaded
    with pytest.raises(CheckpointError, match="not linear"):
        loaded.fitted(f.acts() * 1000)


def test_a_transcoder_without_its_places_is_refused():
    from sae_lens import Transcoder, TranscoderConfig

    same = TranscoderConfig(d_in=12, d_sae=20, d_out=12, apply_b_dec_to_input=False)
    with pytest.raises(CheckpointError, match="hook_name_out"):
        load_object(Transcoder(same))
    with pytest.raises(CheckpointError, match="transcoder"):
        load_object(Module({**f.weights(), "W_dec": torch.randn(20, 8), "b_dec": torch.zeros(8)}))

    class Reads(Module):
        def encode(self, x):
            return torch.relu(x @ self.W_enc)

    wide = Reads({**f.weights(), "W_dec": torch.randn(20, 8), "b_dec": torch.zeros(8)})
    for acts in (None, f.acts()):
        with pytest.raises(CheckpointError, match="transcoder"):
            from_object(wide, acts)


@pytest.mark.parametrize(
    "name", ["transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder"]
)
def test_a_transcoder_of_sae_lens_in_memory_is_the_one_on_disk(name, tmp_path):
    from sae_lens.registry import get_sae_class

    torch.manual_seed(0)
    kind, config = get_sae_class(name)
    theirs = kind(config(d_in=f.D_IN, d_out=f.D_IN + 2, d_sae=f.D_SAE, apply_b_dec_to_input=False))
    for parameter in theirs.parameters():
        parameter.data = torch.randn_like(parameter) / 3
    meta = theirs.cfg.metadata
    meta.hook_name, meta.hook_name_out = "blocks.2.hook_mlp_in", "blocks.2.hook_mlp_out"
    theirs.save_model(tmp_path)
    stored, loaded = load(tmp_path), load_object(theirs)
    assert (loaded.reads, loaded.hook) == ("blocks.2.hook_resid_mid", "blocks.2.hook_mlp_out")
    for fact in ("sha256", "architecture", "format", "d_in", "d_sae"):
        assert getattr(loaded.info, fact) == getattr(stored.info, fact)
    x = f.acts()
    with torch.no_grad():
        written = loaded.dictionary.decode(loaded.dictionary.encode(x))
        torch.testing.assert_close(written, theirs(x), atol=1e-5, rtol=1e-5)


def test_a_sae_lens_sae_that_writes_elsewhere_is_refused():
    from sae_lens import StandardSAE, StandardSAEConfig

    sae = StandardSAE(StandardSAEConfig(d_in=12, d_sae=20))
    sae.cfg.metadata.hook_name = "blocks.0.hook_mlp_in"
    sae.cfg.metadata.hook_name_out = "blocks.0.hook_mlp_out"
    with pytest.raises(CheckpointError, match=r"reads blocks\.0\.hook_mlp_in and writes"):
        load_object(sae)


def test_what_is_missing_is_named():
    with pytest.raises(CheckpointError, match="no encode, decode, W_dec"):
        from_object(object())


class Tuple(Module):
    def encode(self, x):
        return super().encode(x), None


class Pooled(Module):
    def encode(self, x):
        return super().encode(x).mean(0)


@pytest.mark.parametrize(("kind", "said"), [(Tuple, "tuple"), (Pooled, "one column")])
def test_codes_of_another_form(kind, said):
    with pytest.raises(CheckpointError, match=said):
        from_object(kind(f.weights()), f.acts())


def test_sparse_codes_become_dense():
    class Sparse(Module):
        def encode(self, x):
            return super().encode(x).to_sparse()

        def decode(self, codes):
            return super().decode(codes.to_dense() if codes.is_sparse else codes)

    codes = from_object(Sparse(f.weights())).encode(f.acts()).codes
    assert not codes.is_sparse


def test_gradients_flow_when_asked_for():
    x = f.acts().requires_grad_()
    encoding = from_object(Module(f.weights()), f.acts()).encode(x)
    encoding.codes.sum().backward()
    assert x.grad is not None and (x.grad != 0).any()


def test_hook_and_model_of_a_sae_lens_object():
    from sae_lens import StandardSAE, StandardSAEConfig

    sae = StandardSAE(StandardSAEConfig(d_in=12, d_sae=20))
    sae.cfg.metadata.hook_name, sae.cfg.metadata.model_name = "blocks.1.hook_resid_pre", "gpt2"
    loaded = load_object(sae, name="mine")
    assert (loaded.hook, loaded.model_name, loaded.info.name) == ("blocks.1.hook_resid_pre", "gpt2", "mine")
