"""SAEs trained on a synthetic task: scored where they belong, refused elsewhere."""

import json

import pytest
import torch

from saebench.dictionaries.sparsity import sparsity_of
from saebench.dictionaries.training import ARCHITECTURES
from saebench.errors import OptionError, TaskError, TrainingDataError
from saebench.evaluation.api import evaluate, make_arena
from saebench.evaluation.batch import run
from saebench.evaluation.contestants import from_object
from saebench.evaluation.options import Options, Request
from saebench.spec import load_task
from saebench.synthetic.registry import make_generator
from saebench.synthetic.training import Recipe, fit, start, train, train_from_options

TASK = "synthetic/splitting"
QUICK = {"samples": 2048, "batch": 256, "device": "cpu"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    out = tmp_path_factory.mktemp("saes")
    return train_from_options(TASK, "topk", 12, {"--k": 2}, out=out, **QUICK)


def request(out, saes, **options):
    own = {name: options.pop(name) for name in ("tasks", "site") if name in options}
    return Request(saes=tuple(saes), out=out, options=Options(device="cpu", **options), **own)


def test_evaluate_picks_the_task_up_from_the_checkpoint(saved, tmp_path):
    complaints = []
    found = list(run(request(tmp_path, [str(saved), "control:oracle"]), complaints.append))
    assert complaints == [] and [r.task.name for r in found if r] == [TASK, TASK]
    assert found[0] and found[0].dictionary.architecture == "topk"
    config = json.loads((saved / "cfg.json").read_text())["metadata"]
    assert config["saebench_task_sha256"] == load_task(TASK).sha256
    assert config["hook_name"] == "synthetic" and config["seed"] == 0


def test_another_task_is_refused_unless_forced(saved, tmp_path):
    other = ("synthetic/composed",)
    complaints = []
    assert list(run(request(tmp_path, [str(saved)], tasks=other), complaints.append)) == [None]
    (error,) = complaints
    assert isinstance(error, TrainingDataError) and "--force-mismatch" in str(error)
    assert TASK in str(error) and "synthetic/composed" in str(error)
    with pytest.raises(TrainingDataError):
        evaluate(str(saved), "synthetic/composed")


def test_forcing_marks_the_result():
    task = load_task(TASK)
    sae = fit(make_generator(task), Recipe("topk", 8, 2, samples=512, batch=256))
    arena = make_arena(task, options=Options(force_mismatch=True))
    site = arena.sites([], None)[0]
    realised = arena.realise(from_object(sae), site)
    assert any("--force-mismatch" in w and "does not say" in w for w in realised.warnings)
    strict = make_arena(task, arena.model)
    assert strict.refuses(from_object(sae))
    sae.cfg.metadata["saebench_task"] = TASK
    sae.cfg.metadata["saebench_task_sha256"] = task.sha256
    assert not strict.refuses(from_object(sae))


def test_same_recipe_same_bytes(tmp_path):
    task = load_task(TASK)
    folders = []
    for name in ("a", "b"):
        torch.manual_seed(len(folders))
        recipe = Recipe("batchtopk", 8, 2, seed=3, samples=1024, batch=256)
        folders.append(train(task, make_generator(task), recipe, tmp_path / name))
    for file in ("cfg.json", "sae_weights.safetensors"):
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()


def test_training_learns_and_starts_from_the_truth():
    made = make_generator(load_task("synthetic/correlated"), {"rho": [0.0]})
    sample = made.sample(500, 9)
    x = made.acts(sample)
    errors = []
    for samples, from_truth in ((512, False), (50_000, False), (512, True)):
        recipe = Recipe("topk", 20, 4, samples=samples, batch=256, from_truth=from_truth)
        sae = fit(made, recipe)
        with torch.no_grad():
            errors.append((sae(x) - x).square().sum().item())
    assert errors[1] < 0.7 * errors[0] and errors[2] < 0.7 * errors[0]
    assert (sae.W_dec @ made.D.T).diagonal().mean() > 0.9
    filled = start(made.D, 25, 0)
    assert torch.equal(filled[:20], made.D) and filled.shape == (25, 20)
    assert torch.equal(start(made.D, 5, 0), made.D[:5])


def test_sparsity_belongs_to_the_architecture():
    assert sparsity_of("topk", {"--k": 3.0, "--l1": None}, 5.0) == 3
    assert sparsity_of("batchtopk", {}, 4.6) == 5
    assert sparsity_of("standard", {"--l1": 0.2}, 5.0) == 0.2
    with pytest.raises(OptionError, match=r"--k was given.*--l1"):
        sparsity_of("gated", {"--k": 3.0}, 5.0)
    with pytest.raises(OptionError, match="Did you mean 'topk'"):
        sparsity_of("topkk", {}, 5.0)
    with pytest.raises(OptionError, match="above 0"):
        sparsity_of("jumprelu", {"--l0": -1.0}, 5.0)
    assert {"standard", "gated", "matryoshka", "matching_pursuit"} <= set(ARCHITECTURES)


def test_wrong_requests_are_one_paragraph(tmp_path):
    with pytest.raises(TaskError, match="no data to train on"):
        train_from_options("ioi", "topk", 8, {}, out=tmp_path, **QUICK)
    with pytest.raises(OptionError, match="more than the width"):
        train_from_options(TASK, "topk", 4, {"--k": 9}, out=tmp_path, **QUICK)
    with pytest.raises(OptionError, match="at least 1"):
        train_from_options(TASK, "topk", 0, {"--k": 1}, out=tmp_path, **QUICK)
