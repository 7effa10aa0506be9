"""The bundled model's certificate is what its weights and subspaces measure, and other ones measure otherwise."""

from pathlib import Path
from shutil import copytree

import pytest
import torch
from paths import DEMO
from safetensors.torch import load_file, save_file

from saebench.planting import certificate
from saebench.planting.certificate import Certificate
from saebench.planting.reading import read_spec
from saebench.planting.world import make_world
from saebench.studies.demo.models import SPEC, certify, open_bundled

STATED = Certificate.model_validate_json((DEMO / "model" / "certificate.json").read_text("utf-8"))


@pytest.fixture
def copy(tmp_path: Path, monkeypatch) -> Path:
    """The bundled model, to be damaged; few draws are enough to see that."""
    monkeypatch.setattr(certificate, "DRAWS", 100)
    return Path(copytree(DEMO / "model", tmp_path / "model"))


def test_the_certificate_is_that_of_the_weights_and_subspaces_shipped():
    stated, measured = STATED.model_dump(), certify(open_bundled()).model_dump()
    for part in ("variables", "answers"):
        of_stated, of_measured = stated.pop(part), measured.pop(part)
        assert of_stated.keys() == of_measured.keys()
        for name, figures in of_stated.items():
            assert of_measured[name] == pytest.approx(figures, abs=2e-3), name
    numbers = ("superposition", "coherence", "dependence")
    for name in numbers:
        assert measured.pop(name) == pytest.approx(stated.pop(name), abs=1e-5), name
    assert measured == stated


def test_what_the_bundled_model_is_not_certified_for_is_purity_alone():
    """It was trained without the term that keeps the facts out of all other directions."""
    assert not STATED.certified
    assert [failure.split()[1] for failure in STATED.failures] == ["purity"] * 3
    for figures in STATED.model_dump()["variables"].values():
        assert min(figures[name] for name in ("behaviour", "interchange", "kept", "complement")) >= 0.99
    assert STATED.superposition == pytest.approx(72 / 96)


def test_other_weights_are_other_figures(copy: Path):
    weights = load_file(copy / "model.safetensors")
    before_the_site = next(name for name in weights if name.endswith("h.0.mlp.c_proj.weight"))
    weights[before_the_site].zero_()
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    measured = certify(open_bundled(copy), copy)
    assert measured.model_sha256 != STATED.model_sha256
    assert any("interchange" in failure for failure in measured.failures)


def test_other_subspaces_are_refused(copy: Path):
    rows = load_file(copy / "planted.safetensors")
    square = torch.linalg.qr(torch.randn(96, 96, generator=torch.Generator().manual_seed(4))).Q
    save_file(dict(zip(rows, square.contiguous().split(24), strict=False)), copy / "planted.safetensors")
    measured = certify(open_bundled(copy), copy)
    assert measured.model_sha256 == STATED.model_sha256
    failures = " ".join(measured.failures)
    for name in rows:
        assert f"{name}: interchange" in failures and f"{name}: purity" in failures


def test_the_spec_speaks_in_the_bundled_model_s_words():
    from transformers import AutoTokenizer

    spec = read_spec(SPEC)
    saved = AutoTokenizer.from_pretrained(DEMO / "model")
    assert make_world(spec).tokenizer.get_vocab() == saved.get_vocab()
    assert STATED.spec_sha256 == spec.sha256
