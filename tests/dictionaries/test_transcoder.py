"""Transcoders: codes come from what is read, everything else lives where it is written."""

from dataclasses import replace

import pytest
import torch
from command import run
from worlds import bench_of, entry, scores, two_groups

from saebench.checkpoints import load
from saebench.cross_section import CrossSection, Read
from saebench.dictionaries.codes import encode_split
from saebench.dictionaries.transcoder import Transcoder
from saebench.errors import SiteError
from saebench.evaluation import makers
from saebench.scoring.estimates import Estimate, Undefined
from saebench.scoring.occlusion import TAUS

D = 40


@pytest.fixture(scope="module")
def linear():
    """A world whose activations are written by a linear MLP: `a = r M + b`, r being what is read."""
    section, _, bias = two_groups()
    torch.manual_seed(0)
    matrix = torch.linalg.qr(torch.randn(D, D)).Q * 2

    def reading(split):
        def reader(hook):
            assert hook == "blocks.0.mlp.hook_in"
            sources = {name: (acts - bias) @ matrix.inverse() for name, acts in split.source_acts.items()}
            return Read((split.acts - bias) @ matrix.inverse(), sources)

        return replace(split, reader=reader)

    splits = {name: reading(getattr(section, name)) for name in ("fit", "select", "test")}
    return replace(section, **splits), matrix, bias


def identity_transcoder(matrix, bias, **more) -> Transcoder:
    """Both signs of every coordinate that is read, each written through its row of the MLP."""
    eye = torch.eye(D)
    state = {
        "W_enc": torch.cat([eye, -eye], 1),
        "b_enc": torch.zeros(2 * D),
        "W_dec": torch.cat([matrix, -matrix]),
        "b_dec": bias,
    }
    return Transcoder(state | more, "identity", "standard", "blocks.0.mlp.hook_in")


def test_the_identity_transcoder_of_a_linear_mlp_is_sufficient(linear):
    section, matrix, bias = linear
    found = scores(identity_transcoder(matrix, bias), bench_of(section), ("approximation",))
    assert entry(found, "sufficiency").value.value == pytest.approx(1, abs=1e-4)
    assert entry(found, "necessity").value.value == pytest.approx(1, abs=1e-4)
    assert entry(found, "fvu").value.value == pytest.approx(0, abs=1e-6)


def test_a_transcoder_of_another_mlp_is_not(linear):
    section, matrix, bias = linear
    wrong = identity_transcoder(matrix.flip(0), bias)
    assert entry(scores(wrong, bench_of(section), ("approximation",)), "sufficiency").value.value < 0.5


def test_edits_swap_what_it_writes(linear):
    """Swapping every latent of a perfect transcoder is patching the source."""
    section, matrix, bias = linear
    read = section.read_at("blocks.0.mlp.hook_in")
    base = encode_split(identity_transcoder(matrix, bias), read.test.acts, read.test.known)
    source = encode_split(
        identity_transcoder(matrix, bias), read.test.source_acts["one"], read.test.source_known("one")
    )
    torch.testing.assert_close(base.reconstruction, section.test.acts, atol=1e-4, rtol=0)
    torch.testing.assert_close(source.reconstruction, section.test.source_acts["one"], atol=1e-4, rtol=0)


def test_the_formula_written_out():
    """Example by example and latent by latent, with a threshold, a skip connection and topk."""
    torch.manual_seed(1)
    d_read, d_sae, d_in, x = 5, 9, 7, torch.randn(6, 5)
    state = {
        "W_enc": torch.randn(d_read, d_sae),
        "b_enc": torch.randn(d_sae),
        "W_dec": torch.randn(d_sae, d_in),
        "b_dec": torch.randn(d_in),
        "threshold": torch.rand(d_sae),
        "W_skip": torch.randn(d_in, d_read),
    }
    transcoder = Transcoder(state, "t", "jumprelu_skip", "somewhere", k=2)
    written = transcoder.decode(transcoder.encode(x))
    for row, got in zip(x, written, strict=True):
        pre = [float(row @ state["W_enc"][:, j] + state["b_enc"][j]) for j in range(d_sae)]
        codes = [max(0.0, p) if p > float(state["threshold"][j]) else 0.0 for j, p in enumerate(pre)]
        kept = sorted(range(d_sae), key=lambda j: -codes[j])[:2]
        wanted = state["b_dec"] + state["W_skip"] @ row
        for j in kept:
            wanted = wanted + codes[j] * state["W_dec"][j]
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
    assert (transcoder.d_read, transcoder.d_in, transcoder.d_sae) == (d_read, d_in, d_sae)


def test_where_nothing_is_read_it_says_so(linear):
    section, matrix, bias = linear
    transcoder = identity_transcoder(matrix, bias)
    with pytest.raises(SiteError, match=r"blocks\.0\.mlp\.hook_in"):
        encode_split(transcoder, section.test.acts, section.test.known)
    plain, _, _ = two_groups()
    assert isinstance(plain, CrossSection)
    with pytest.raises(SiteError, match="no language model"):
        plain.read_at("blocks.0.mlp.hook_in")


def test_every_axis_runs_and_what_has_no_meaning_says_so(linear):
    """Adding to what is written, or taking from it, never reaches what is encoded."""
    section, matrix, bias = linear
    found = scores(identity_transcoder(matrix, bias), bench_of(section))
    moved = [e for e in found.entries if e.name in ("weak_written", "weak_coverage", "detection_limit")]
    undefined = [e for e in moved if isinstance(e.value, Undefined)]
    assert len(moved) == 2 * len(TAUS) + 1 and {e.k for e in moved if e not in undefined} == {0}
    assert all("encodes another hook point" in e.value.reason for e in undefined)
    assert isinstance(found.axes["occlusion"].value, Estimate)


def test_controls_that_are_made_from_a_transcoder(linear):
    """They take its codes where it reads: as many latents on as it has, not as it would have where it writes."""
    section, matrix, bias = linear
    read = section.read_at("blocks.0.mlp.hook_in")
    transcoder = identity_transcoder(matrix, bias, b_enc=torch.full((2 * D,), -0.02))
    bench = bench_of(section)
    there = encode_split(transcoder, read.fit.acts, read.fit.known).codes
    value = (transcoder, None)
    l0 = float(there.per_row.float().mean())
    like = encode_split(makers.random_like(bench, value, 0), section.fit.acts, section.fit.known).codes
    assert torch.equal(like.latent.bincount().sort().values, there.latent.bincount().sort().values)
    assert abs(makers.frozen_decoder(bench, value, 0).k - l0) <= 0.5
    elsewhere = float((transcoder.encode(section.fit.acts).codes != 0).float().sum(1).mean())
    assert abs(elsewhere - l0) > 1
    shuffled = makers.permuted(bench, value, 0)
    assert shuffled.reads == transcoder.reads
    codes = encode_split(shuffled, read.fit.acts, read.fit.known).codes
    assert torch.equal(codes.value, there.value)


@pytest.mark.slow
def test_a_table_with_every_control_of_a_transcoder(tmp_path, capsys):
    code, out, err = run(
        capsys, "evaluate", "demo:mlp-transcoder", "control:all", "--budget", "tiny", "--out", str(tmp_path)
    )
    assert code == 0, err
    for name in ("random-like", "frozen-decoder", "soft-frozen", "frozen-encoder"):
        assert f"control:{name}:demo" in out.replace("\n", "")


@pytest.mark.parametrize("name", ["topk", "transcoder"])
def test_the_bundled_ones_explain_the_mlp_they_stand_for(name):
    """On the model itself: what it reads goes through the MLP, and comes out as it writes."""
    from saebench.models.loading import load_model
    from saebench.patching import Placement, capture

    loaded, model = load(f"demo:mlp-{name}"), load_model("demo")
    tokens = [
        model.tokens(f"When Mary and John went to the {place},") for place in ("shop", "park", "school")
    ]
    places = {
        hook: Placement(hook, torch.tensor([6, 7, 8]))
        for hook in ("blocks.0.mlp.hook_in", "blocks.0.hook_mlp_out")
    }
    acts = capture(model, tokens, places)
    read, write = acts["blocks.0.mlp.hook_in"], acts["blocks.0.hook_mlp_out"]
    torch.testing.assert_close(
        model.bridge.blocks[0].mlp.original_component(read), write, atol=1e-4, rtol=1e-4
    )
    assert loaded.hook == "blocks.0.hook_mlp_out"
    assert loaded.reads == (None if name == "topk" else "blocks.0.mlp.hook_in")
    hat = loaded.dictionary.decode(loaded.dictionary.encode(write if name == "topk" else read))
    assert (hat - write).square().sum() < 0.15 * write.square().sum()
