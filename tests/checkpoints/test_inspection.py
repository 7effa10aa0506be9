"""`inspect`: figures against naive computations, warnings where they belong and only there."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import sae_files as f
import sae_formulas as formulas
import torch
from paths import BUNDLED
from safetensors.torch import load_file, save_file

from saebench.axes import MEASURES
from saebench.checkpoints import DEMO, demo_names, load, load_object
from saebench.checkpoints.diagnostics import activity, nearest_neighbours, predictable
from saebench.checkpoints.inspection import activations, inspect
from saebench.errors import CheckpointError
from saebench.evaluation.api import make_arena
from saebench.evaluation.contestants import SAE
from saebench.models.loading import load_model
from saebench.records.outcomes import Outcomes
from saebench.records.result import AxisScore
from saebench.scoring import Context, approximation, write_headline


def said(inspection, start):
    return [w for w in inspection.warnings if w.startswith(start)]


class TestFigures:
    def test_l0_dead_and_fvu(self, tmp_path):
        loaded = load(f.sae_lens(tmp_path, "topk", f.weights(), k=3))
        x = f.acts(300)
        seen = activity(loaded.dictionary, x, block=7)
        codes = torch.stack([formulas.topk(row, f.weights(), 3) for row in x])
        decoded = torch.stack([formulas.decoded(c, f.weights()) for c in codes])
        l0 = sum(int((row != 0).sum()) for row in codes) / len(x)
        dead = sum(bool((codes[:, j] == 0).all()) for j in range(f.D_SAE)) / f.D_SAE
        fvu = float(((x - decoded) ** 2).sum() / ((x - x.mean(0)) ** 2).sum())
        assert seen.l0 == pytest.approx(l0) and seen.dead == pytest.approx(dead)
        assert seen.fvu.value == pytest.approx(fvu, rel=1e-4)

    def test_norm_ratio(self, tmp_path):
        loaded = load(f.sae_lens(tmp_path, "standard", f.weights()))
        x = f.acts(51)
        codes = [formulas.standard(row, f.weights()) for row in x]
        ratios = sorted(
            float(c.norm() / (row - f.weights()["b_dec"]).norm()) for c, row in zip(codes, x, strict=True)
        )
        measured = activity(loaded.dictionary, x).norm_ratio.value
        assert measured == pytest.approx(ratios[25], rel=1e-5)

    def test_norm_ratio_is_1_for_orthogonal_rows_that_reconstruct(self):
        """Its twin: rows that repeat each other are over-activated."""

        class Both:
            def __init__(self, rows, share):
                self.W_dec, self.share = rows, share

            def encode(self, x):
                return self.share * x @ self.W_dec.T

            def decode(self, codes):
                return codes @ self.W_dec

        rows = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)))[0]
        x = torch.randn(40, 8)
        one = load_object(Both(rows, 1.0)).dictionary
        assert activity(one, x).norm_ratio.value == pytest.approx(1, rel=1e-5)
        twice = load_object(Both(torch.cat([rows, rows]), 0.5)).dictionary
        assert activity(twice, x).norm_ratio.value == pytest.approx(0.5**0.5, rel=1e-5)

    def test_norm_ratio_does_not_depend_on_the_length_of_rows(self, tmp_path):
        w = f.weights()
        long = w | {"W_dec": w["W_dec"] * 4, "W_enc": w["W_enc"] / 4, "b_enc": w["b_enc"] / 4}
        one, same = (
            activity(load(f.sae_lens(tmp_path / n, "standard", v)).dictionary, f.acts())
            for n, v in (("a", w), ("b", long))
        )
        assert one.norm_ratio.value == pytest.approx(same.norm_ratio.value, rel=1e-5)

    def test_near_duplicates(self):
        g = torch.Generator().manual_seed(0)
        rows = torch.randn(30, 10, generator=g)
        rows = torch.cat([rows, -2 * rows[:3], torch.zeros(2, 10)])
        wanted = []
        for i in range(33):
            cosines = [
                abs(float(rows[i] @ rows[j] / rows[i].norm() / rows[j].norm())) for j in range(33) if j != i
            ]
            wanted.append(max(cosines))
        found = nearest_neighbours(rows, block=4)
        torch.testing.assert_close(found, torch.tensor(wanted), atol=1e-6, rtol=0)
        assert int((found > 0.999).sum()) == 6

    def test_near_duplicates_of_a_wide_dictionary_are_sampled(self, monkeypatch):
        import saebench.checkpoints.diagnostics as diagnostics

        monkeypatch.setattr(diagnostics, "MAX_ROWS", 10)
        rows = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
        assert len(nearest_neighbours(rows)) == 10
        assert torch.equal(nearest_neighbours(rows), nearest_neighbours(rows))
        assert len(nearest_neighbours(rows[:1])) == 0

    def test_linear_share(self):
        """A linear error is predicted, noise is not, and a mixture by the share planted."""
        g = torch.Generator().manual_seed(0)
        x = torch.randn(20_000, 5, generator=g).double()
        linear = x @ torch.randn(5, 5, generator=g).double() + 3
        noise = torch.randn(20_000, 5, generator=g).double()
        assert predictable(x, linear).value == pytest.approx(1)
        assert abs(predictable(x, noise).value) < 0.01
        noise = noise * (linear.var(0).sum() / noise.var(0).sum()).sqrt()
        assert predictable(x, linear + noise).value == pytest.approx(0.5, abs=0.02)

    def test_linear_share_is_measured_on_other_activations(self):
        """With few activations noise would be fitted; on the other half it is not predicted."""
        g = torch.Generator().manual_seed(0)
        shares = []
        for _ in range(40):
            x, y = (torch.randn(60, 5, generator=g).double() for _ in range(2))
            shares.append(predictable(x, y).value)
        assert sum(shares) / len(shares) < 0

    def test_linear_share_is_undefined_with_a_reason(self):
        x = torch.randn(60, 5).double()
        assert predictable(x[:59], x[:59]).reason.startswith("59 activations")
        assert predictable(x, x * 0).reason == "there is no error to predict"
        # a coordinate that never varies is no obstacle
        x[:, 0] = 1
        assert predictable(x, x).value == pytest.approx(1)


class TestWarnings:
    def test_a_sound_sae_has_none(self, tmp_path):
        loaded = f.sae_lens(tmp_path, "topk", f.weights(), k=4)
        assert inspect(loaded, acts=f.acts(300)).warnings == ()

    def test_threshold_zero(self, tmp_path):
        w = f.weights()
        w["threshold"][:7] = 0
        inspection = inspect(f.sae_lens(tmp_path, "jumprelu", w))
        assert "7 of 20" in said(inspection, "JumpReLU threshold zero")[0]

    def test_decoder_not_unit_norm(self, tmp_path):
        w = f.weights()
        w["W_dec"][2] *= 3
        inspection = inspect(f.sae_lens(tmp_path, "standard", w))
        assert "1 of 20" in said(inspection, "decoder not unit norm")[0]
        assert inspection.decoder_norms.greatest == pytest.approx(3, rel=1e-5)

    def test_l0_far_from_training(self, tmp_path):
        details = {"training_architecture_details": {"k": 1}}
        far = inspect(f.sae_lens(tmp_path / "a", "standard", f.weights(), metadata=details), acts=f.acts(100))
        assert far.trained_l0 == 1 and said(far, "L0 far from training")
        near = {"training_architecture_details": {"k": far.activity.l0}}
        folder = f.sae_lens(tmp_path / "b", "standard", f.weights(), metadata=near)
        assert not said(inspect(folder, acts=f.acts(100)), "L0 far")

    def test_hook_name_missing(self, tmp_path):
        assert said(inspect(f.goodfire(tmp_path, f.weights())), "hook_name missing")

    def test_dtype(self, tmp_path):
        w = {k: v.half() for k, v in f.weights().items()}
        inspection = inspect(f.sae_lens(tmp_path, "standard", w))
        assert said(inspection, "stored as float16") and inspection.dtypes == ("float16",)

    def test_not_finite_is_refused_with_a_count(self, tmp_path):
        w = f.weights()
        w["W_enc"][0, :3] = float("nan")
        with pytest.raises(CheckpointError, match=r"W_enc \(3 NaN"):
            inspect(f.sae_lens(tmp_path, "standard", w))

    def test_activations_of_another_width(self, tmp_path):
        with pytest.raises(CheckpointError, match="width 12"):
            inspect(f.sae_lens(tmp_path, "standard", f.weights()), acts=torch.zeros(4, 5))


class TestUnfolded:
    """A checkpoint whose input scale was never folded: said, with what it costs."""

    @pytest.fixture
    def world(self):
        """Activations a fiftieth of what the SAE was trained on, and its unfolded weights."""
        g = torch.Generator().manual_seed(3)
        rows = torch.linalg.qr(torch.randn(f.D_IN, f.D_IN, generator=g))[0]
        rows = torch.cat([rows, -rows])[: f.D_SAE]
        on = torch.rand(4000, f.D_SAE, generator=g) < 0.15
        acts = on * (1 + torch.rand(4000, f.D_SAE, generator=g)) @ rows
        acts = acts * f.D_IN**0.5 / acts.norm(dim=1).mean() / 50
        bias = torch.full((f.D_SAE,), -0.3)
        return acts, {"W_enc": rows.T, "W_dec": rows, "b_enc": bias, "b_dec": torch.zeros(f.D_IN)}

    def test_declared(self, world, tmp_path):
        acts, w = world
        config = {"normalize_activations": "expected_average_only_in"}
        folder = f.sae_lens(tmp_path, "standard", w, **config)
        inspection = inspect(folder, acts=acts)
        before = activity(load(folder).scaled(1.0).dictionary, acts).fvu.value
        after = activity(load(folder).fitted(acts).dictionary, acts).fvu.value
        assert after < 0.1 < 0.9 < before
        (warning,) = said(inspection, "scale not folded")
        assert f"{before:.4g}" in warning and f"{after:.4g}" in warning
        assert inspection.fvu_unfolded.value == pytest.approx(before)
        assert inspection.activity.fvu.value == pytest.approx(after)
        assert any("measured" in folded for folded in inspection.folded)
        assert "FVU without the scale" in inspection.text()

    def test_not_declared(self, world, tmp_path):
        """The config says nothing, but the SAE only makes sense on scaled activations."""
        acts, w = world
        inspection = inspect(f.sae_lens(tmp_path, "standard", w), acts=acts)
        after = activity(load(tmp_path).dictionary, acts * 50).fvu.value
        (warning,) = said(inspection, "scale not folded")
        assert f"{inspection.activity.fvu.value:.4g} to {after:.4g}" in warning

    def test_the_folded_twin_is_silent(self, world, tmp_path):
        acts, w = world
        folded = w | {"W_enc": w["W_enc"] * 50, "W_dec": w["W_dec"] / 50}
        inspection = inspect(f.sae_lens(tmp_path, "standard", folded), acts=acts)
        assert inspection.activity.fvu.value < 0.1
        assert not said(inspection, "scale not folded")


def test_text(tmp_path):
    folder = f.sae_lens(tmp_path, "topk", f.weights(), k=4)
    inspection = inspect(folder, acts=f.acts(300))
    text = inspection.text()
    for part in ("sae_lens", "topk", "12 × 20", "blocks.1.hook_resid_pre", "gpt2", "L0", "FVU"):
        assert part in text
    without = inspect(folder)
    assert "none given" in without.text() and without.activity is None


@pytest.fixture(scope="module")
def demo_model():
    return load_model("demo", device="cpu")


@pytest.fixture(scope="module")
def demo_acts(demo_model):
    """What all bundled SAEs are inspected on: they read the same place."""
    return activations(demo_model, load(f"demo:{demo_names()[0]}"))[0]


def test_the_activations_are_taken_from_the_model(demo_model, demo_acts):
    inspection, again = inspect("demo:topk", model=demo_model), inspect("demo:topk", acts=demo_acts)
    assert inspection.activity == again.activity and inspection.text() == again.text()


@pytest.mark.parametrize("name", demo_names())
def test_every_demo_sae(name, demo_acts):
    inspection = inspect(f"demo:{name}", acts=demo_acts)
    assert inspection.hook is not None and inspection.activity is not None
    assert inspection.info.l0 == inspection.activity.l0 > 0
    assert inspection.activity.fvu.value < (1.0 if "undertrained" in name else 0.5)
    assert inspection.activity.linear_error.value is not None
    assert not said(inspection, "scale not folded")


QUIET = 0.4
"""Activations of the demo model are larger than SAELens scales them to; made smaller by this, they are too small."""


@pytest.fixture(scope="module")
def quiet_model(tmp_path_factory):
    """The demo model with its whole residual stream times `QUIET`: the same answers."""
    folder = tmp_path_factory.mktemp("quiet") / "model"
    shutil.copytree(BUNDLED, folder)
    state = load_file(folder / "model.safetensors")
    for name, tensor in state.items():
        if "wte" in name or "wpe" in name or "c_proj" in name:
            state[name] = tensor * QUIET
        elif "ln_f" in name:  # what it feeds is the embedding again
            state[name] = tensor / QUIET
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    return load_model(str(folder), device="cpu")


def quiet_sae(name: str) -> tuple[dict, dict]:
    """Weights and config of a demo SAE, folded to the quiet model's activations."""
    state = load_file(DEMO / name / "sae_weights.safetensors")
    # relu((q a − q b) W + q c) = q relu((a − b) W + c), and the decoder's rows stay unit
    state |= {"b_enc": state["b_enc"] * QUIET, "b_dec": state["b_dec"] * QUIET}
    return state, json.loads((DEMO / name / "cfg.json").read_text())


def written(folder: Path, state: dict, config: dict) -> Path:
    save_file(state, folder / "sae_weights.safetensors")
    f.dump(folder / "cfg.json", config)
    return folder


def test_the_quiet_model_gives_the_same_answers(demo_model, quiet_model):
    tokens = demo_model.tokens("When Mary and John went to the park, Mary gave a book to")
    logits = [m.bridge(torch.tensor([tokens]))[0, -1] for m in (demo_model, quiet_model)]
    torch.testing.assert_close(logits[0], logits[1], atol=1e-2, rtol=1e-3)


def test_a_demo_sae_unfolded_on_purpose(quiet_model, tmp_path_factory):
    state, config = quiet_sae("topk")
    sound = written(tmp_path_factory.mktemp("sound"), state, config)
    acts, *_ = activations(quiet_model, load(sound))
    s = f_factor(acts)
    # undo the folding: what training on scaled activations would have saved
    state |= {"W_enc": state["W_enc"] / s, "W_dec": state["W_dec"] * s, "b_dec": state["b_dec"] * s}
    config["normalize_activations"] = "expected_average_only_in"
    inspection = inspect(written(tmp_path_factory.mktemp("own"), state, config), acts=acts)
    assert said(inspection, "scale not folded")
    whole = inspect(sound, acts=acts)
    assert inspection.activity.fvu.value == pytest.approx(whole.activity.fvu.value, rel=1e-4)
    assert inspection.fvu_unfolded.value > 1.2 * whole.activity.fvu.value


class Approximation(NamedTuple):
    """One axis of a dictionary: the others take most of the time."""

    axis: AxisScore
    fvu: float
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, outcomes: Outcomes, warnings: tuple[str, ...]) -> "Approximation":
        headline, entries = approximation.score(Context.of(outcomes))
        fvu = next(float(entry.value) for entry in entries if entry.name == "fvu")
        return cls(write_headline(headline), fvu, warnings)


@pytest.fixture(scope="module")
def unfolded(quiet_model, tmp_path_factory) -> tuple[dict, dict, float]:
    """Results and inspections of a demo SAE: folded, its scale declared, its scale lost; and the scale."""
    state, config = quiet_sae("standard")
    paths = {"folded": written(tmp_path_factory.mktemp("folded"), state, config)}
    acts, *_ = activations(quiet_model, load(paths["folded"]))
    s = f_factor(acts)
    state |= {"b_enc": state["b_enc"] * s, "b_dec": state["b_dec"] * s}
    for name, scale in (("declared", "expected_average_only_in"), ("lost", "none")):
        own = config | {"normalize_activations": scale}
        paths[name] = written(tmp_path_factory.mktemp(name), state, own)
    arena, contestants = make_arena("ioi", quiet_model), {k: SAE.named(str(p)) for k, p in paths.items()}
    (site,) = arena.sites([config["metadata"]["hook_name"]], None)
    realised = {k: arena.realise(sae, site) for k, sae in contestants.items()}
    bench = replace(arena.bench(site)[1], measures={"approximation": MEASURES["approximation"]})
    results = {k: Approximation.of(bench.measure(one.scorable), one.warnings) for k, one in realised.items()}
    return results, {k: inspect(p, acts=acts) for k, p in paths.items()}, s


class TestWhatTheWarningSaysIsSoInTheScores:
    """A demo SAE as training on scaled activations would have saved it, scored on IOI."""

    def test_inspect_names_it(self, unfolded):
        _, inspections, _ = unfolded
        assert not said(inspections["folded"], "scale not folded")
        assert said(inspections["declared"], "scale not folded")
        wrong = inspections["declared"].fvu_unfolded.value
        assert wrong > 1.5 * inspections["folded"].activity.fvu.value
        assert inspections["lost"].activity.fvu.value == pytest.approx(wrong, rel=1e-4)

    def test_without_the_scale_scores_fall_as_fvu_says(self, unfolded):
        results, _, _ = unfolded
        whole, lost = (results[k].axis for k in ("folded", "lost"))
        assert lost.ci[1] < whole.ci[0]
        assert results["lost"].fvu > 1.2 * results["folded"].fvu

    def test_with_the_scale_measured_they_are_back(self, unfolded):
        """The factor of training and that of the task's prompts are near, not equal, and it is said."""
        results, _, s = unfolded
        (warning,) = [w for w in results["declared"].warnings if "input scale" in w]
        measured = float(warning.split()[2].rstrip(","))
        assert measured == pytest.approx(s, rel=0.15)
        whole, back, lost = (results[k].axis.value for k in results)
        # measured at the edited position alone the scale is about half, and this the worst of the three
        assert lost < back < whole + 0.01
        assert results["declared"].fvu < results["lost"].fvu


def f_factor(acts):
    return acts.shape[1] ** 0.5 / float(acts.norm(dim=1).mean())


def test_a_transcoder_is_inspected_where_it_reads_and_writes(demo_model):
    found = inspect("demo:mlp-transcoder", model=demo_model)
    assert (found.hook, found.reads) == ("blocks.0.hook_mlp_out", "blocks.0.mlp.hook_in")
    assert found.activity is not None and 6 < found.activity.l0 < 10
    assert found.activity.fvu.value is not None and found.activity.fvu.value < 0.08
    assert "reads" in found.text()
    with pytest.raises(CheckpointError, match="one place"):
        inspect("demo:mlp-transcoder", acts=torch.zeros(4, 96))
