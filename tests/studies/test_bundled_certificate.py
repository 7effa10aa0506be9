"""The bundled model is what its spec says, and its certificate what its weights measure; others measure otherwise."""

from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
import torch
from paths import BUNDLED, DEMO
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from saebench.planting import certificate
from saebench.planting.making import Opened, open_planted, weights_sha256
from saebench.planting.reading import read_spec, read_whole
from saebench.planting.world import make_world
from saebench.studies.demo.build import SPEC

OPENED = open_planted(BUNDLED)
STATED = OPENED.certificate


def certify(opened: Opened, folder: Path = BUNDLED) -> certificate.Certificate:
    return certificate.certify(opened.halves, opened.world, opened.geometry, weights_sha256(folder))


def test_the_certificate_is_that_of_the_weights_and_subspaces_shipped():
    stated, measured = STATED.model_dump(), certify(OPENED).model_dump()
    for part in ("variables", "answers"):
        of_stated, of_measured = stated.pop(part), measured.pop(part)
        assert of_stated.keys() == of_measured.keys()
        for name, figures in of_stated.items():
            assert of_measured[name] == pytest.approx(figures, abs=2e-3), name
    numbers = ("superposition", "coherence", "dependence")
    for name in numbers:
        assert measured.pop(name) == pytest.approx(stated.pop(name), abs=1e-5), name
    assert measured == stated


def test_it_is_certified_for_the_spec_that_make_demo_plants():
    assert STATED.certified and not STATED.failures
    assert {name: figures.rank for name, figures in STATED.variables.items()} == {
        "continent": 5,
        "country": 24,
        "language": 22,
    }
    spec = read_spec(SPEC)
    assert STATED.spec_sha256 == spec.sha256 == read_whole(BUNDLED / "spec.json").sha256
    assert (BUNDLED / "spec.toml").read_text("utf-8") == (DEMO / "spec.toml").read_text("utf-8")
    saved = AutoTokenizer.from_pretrained(BUNDLED)
    assert make_world(spec).tokenizer.get_vocab() == saved.get_vocab()


def test_the_truth_shipped_is_the_spec_s_geometry():
    shipped = load_file(BUNDLED / "task" / "planted.safetensors")
    geometry = OPENED.geometry
    made = {f"subspace.{name}": rows for name, rows in geometry.rows.items()}
    made |= {f"atoms.{name}": atoms for name, atoms in geometry.atoms.items()}
    assert shipped.keys() == made.keys()
    for name, tensor in made.items():
        assert torch.allclose(shipped[name], tensor, atol=1e-4), name


def test_other_weights_are_other_figures(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(certificate, "DRAWS", 100)  # few are enough to see that
    copy = Path(copytree(BUNDLED, tmp_path / "bundled"))
    weights = load_file(copy / "model.safetensors")
    before_the_site = next(name for name in weights if name.endswith("h.0.mlp.c_proj.weight"))
    weights[before_the_site].zero_()
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    measured = certify(open_planted(copy), copy)
    assert measured.model_sha256 != STATED.model_sha256
    assert any("interchange" in failure for failure in measured.failures)


def test_other_subspaces_are_refused(monkeypatch):
    monkeypatch.setattr(certificate, "DRAWS", 100)
    geometry = OPENED.geometry
    square = torch.linalg.qr(torch.randn(96, 96, generator=torch.Generator().manual_seed(4))).Q
    turned = replace(
        geometry,
        rows={name: rows @ square for name, rows in geometry.rows.items()},
        atoms={name: atoms @ square for name, atoms in geometry.atoms.items()},
        span=geometry.span @ square,
    )
    measured = certify(OPENED._replace(geometry=turned))
    assert measured.model_sha256 == STATED.model_sha256
    failures = " ".join(measured.failures)
    for name in geometry.rows:
        assert f"{name}: interchange" in failures and f"{name}: purity" in failures
