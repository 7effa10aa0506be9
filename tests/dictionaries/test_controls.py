"""Controls do what their names say."""

import pytest
import sae_files
import torch
from sae_files import goodfire, weights
from worlds import Planted, bench_of, two_groups

from saebench.dictionaries.controls import PCA, Identity, Mean, Permuted, Random
from saebench.errors import ControlError
from saebench.evaluation.api import make_arena
from saebench.evaluation.arena import Arena
from saebench.evaluation.contestants import control, every_control
from saebench.evaluation.controls import CONTROLS, FromSAE, Sized, find_control
from saebench.evaluation.options import Options


@pytest.fixture(scope="module")
def section():
    return two_groups(noise=0.5)[0]


def test_identity_and_mean(section):
    acts = section.test.acts
    identity, mean = Identity(section.mean), Mean(section.mean)
    assert torch.equal(identity.decode(identity.encode(acts)), acts)
    assert torch.allclose(mean.decode(mean.encode(acts)), section.fit.acts.mean(0).expand_as(acts))
    assert int(mean.encode(acts).codes.count_nonzero()) == 0


def test_pca_is_the_best_linear_reconstruction_of_its_rank(section):
    acts = section.fit.acts
    pca = PCA(acts, 3)
    error = float((acts - pca.decode(pca.encode(acts))).square().sum())
    covariance = torch.linalg.eigvalsh(((acts - acts.mean(0)).T @ (acts - acts.mean(0))).double())
    assert error == pytest.approx(float(covariance[:-3].sum()), rel=1e-4)
    assert torch.allclose(pca.W_dec @ pca.W_dec.T, torch.eye(3), atol=1e-5)


@pytest.mark.parametrize("l0", [1, 8, 30])
def test_random_dictionaries_have_the_l0_they_are_asked_for(section, l0):
    random = Random(section.fit.acts, 200, l0, seed=1)
    codes = random.encode(section.fit.acts).codes
    assert float((codes != 0).sum(1).float().mean()) == pytest.approx(l0, rel=0.02)
    assert torch.allclose(random.W_dec.norm(dim=1), torch.ones(200), atol=1e-5)


def test_random_scale_is_the_best_of_all_scales(section):
    random = Random(section.fit.acts, 200, 8)
    centred = section.fit.acts - section.mean
    hat = random.encode(section.fit.acts).codes @ random.W_dec
    errors = [float((centred - s * hat).square().sum()) for s in (0.8, 1.0, 1.2)]
    assert errors[1] < min(errors[0], errors[2])


def test_permuting_keeps_codes_and_moves_directions():
    _, rows, bias = two_groups()
    plain = Planted(rows, bias)
    shuffled = Permuted(plain, seed=0)
    acts = rows[:5] + rows[12:17] + bias
    assert torch.equal(plain.encode(acts).codes, shuffled.encode(acts).codes)
    assert not torch.allclose(plain.W_dec, shuffled.W_dec)
    assert torch.equal(plain.W_dec.sort(0).values, shuffled.W_dec.sort(0).values)


@pytest.fixture(scope="module")
def bench(section):
    return bench_of(section)


@pytest.mark.parametrize(
    "spec",
    [
        "identity",
        "mean",
        "pca:2",
        "random:4",
        "random:4:64",
        "supervised",
        "supervised:mse",
        "no-edit",
        "source-patch",
    ],
)
def test_every_control_is_found_by_name(bench, spec):
    realised = control(spec).at(bench)
    assert realised.info.name == f"control:{spec}"
    assert realised.info.kind in ("control", "labelled", "intervention")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("idnetity", "identity"),
        ("pca:x", "whole number"),
        ("pca:0", "at least 1"),
        ("random:", "whole number"),
        ("permuted", "needs an SAE"),
        ("supervised:median", "mse"),
        ("oracle", "where the truth is known"),
    ],
)
def test_wrong_controls_say_what_is_expected(bench, spec, said):
    with pytest.raises(ControlError, match=said):
        control(spec).at(bench)


def test_the_controls_of_a_table_follow_from_its_saes():
    table = [Sized("demo:topk", 7.6, 768), Sized("demo:gated", 8.2, 768), Sized("demo:topk-k32", 31.0, 768)]
    names = [c.name for c in every_control(table)]
    assert "control:pca:8" in names
    nulls = [
        "control:random:8:768",
        *(f"control:random-like:demo:{n}" for n in ("topk", "gated", "topk-k32")),
    ]
    assert [n for n in names if "random" in n] == nulls
    # what is trained stands there once, made from the SAE of median L0
    frozen = ("frozen-decoder", "soft-frozen", "frozen-encoder")
    assert [n for n in names if "frozen" in n] == [f"control:{kind}:demo:gated" for kind in frozen]
    # without an SAE there is nothing to be like
    assert not [c.name for c in every_control([]) if "frozen" in c.name or "like" in c.name]
    assert {n.split(":")[1] for n in names} <= set(CONTROLS)


def test_a_soft_frozen_control_says_how_soft():
    assert find_control("soft-frozen:demo:topk:.9")[1] == FromSAE("demo:topk", 0.9)
    assert find_control("soft-frozen:demo:topk")[1] == FromSAE("demo:topk")
    with pytest.raises(ControlError, match="between 0 and 1"):
        find_control("soft-frozen:demo:topk:1.0")


def test_the_supervised_control_is_the_very_ceiling(bench):
    assert control("supervised").at(bench).scorable is bench.ceiling
    assert control("supervised:mse").at(bench).scorable is not bench.ceiling


@pytest.mark.parametrize("spec", ["identity:banana", "mean:7", "no-edit:x", "source-patch:", "oracle:abc"])
def test_an_argument_that_a_control_does_not_take_is_refused(spec):
    with pytest.raises(ControlError, match="takes no argument"):
        control(spec)


@pytest.mark.parametrize("name", ["permuted", "frozen-decoder", "soft-frozen", "frozen-encoder"])
def test_a_control_made_from_an_sae_is_another_when_the_weights_change(tmp_path, name):
    """The same path and other weights: a result of the old ones must not be shown."""
    path = goodfire(tmp_path, weights())
    before = control(f"{name}:{path}").sha256
    moved = weights()
    moved["b_enc"] = moved["b_enc"] + 0.5
    goodfire(tmp_path, moved)
    assert control(f"{name}:{path}").sha256 != before
    # and the same weights elsewhere are the same control
    assert control(f"{name}:{goodfire(tmp_path / 'copy', weights())}").sha256 == before


@pytest.mark.parametrize("spec", ["random:4:64", "permuted:{}", "frozen-decoder:{}"])
def test_the_seed_reaches_controls_that_draw(bench, spec, tmp_path, monkeypatch):
    monkeypatch.setattr(sae_files, "D_IN", bench.section.d_in)
    drawn = control(spec.format(goodfire(tmp_path, weights())))
    rows = [drawn.at(bench, seed).scorable.W_dec for seed in (0, 0, 1)]
    assert torch.equal(rows[0], rows[1]) and not torch.equal(rows[0], rows[2])


def test_an_evaluation_passes_its_seed_on(bench, monkeypatch):
    arena = make_arena("synthetic/independent", options=Options(seed=3))
    monkeypatch.setattr(Arena, "bench", lambda self, site: (None, bench))
    made, (site,) = control("random:4:64"), arena.sites([], None)
    assert torch.equal(arena.realise(made, site).scorable.W_dec, made.at(bench, 3).scorable.W_dec)
