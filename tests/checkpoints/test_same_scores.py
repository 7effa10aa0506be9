"""One SAE in every format gets the same scores on all five axes."""

import math

import pytest
import sae_files as f
import torch
from safetensors.torch import load_file
from test_formats import every_format
from worlds import bench_of, scores, two_groups

from saebench.checkpoints import DEMO, FORMATS, load
from saebench.cli import main
from saebench.records.result import Result
from saebench.scoring import write_entry

NO_SAES = {"circuit_tracer", "temporal"}
"""Transcoders are compared with their own formula elsewhere, and temporal SAEs are refused."""


def planted(rows, bias):
    """An SAE that finds most of the world's features, and ten latents that mean nothing."""
    g = torch.Generator().manual_seed(5)
    norms = rows.norm(dim=1, keepdim=True)
    extra = torch.randn(f.D_SAE - len(rows), f.D_IN, generator=g)
    unit = torch.cat([rows / norms, extra / extra.norm(dim=1, keepdim=True)])
    w = f.weights()
    return w | {"W_enc": unit.T, "W_dec": unit, "b_dec": bias, "b_enc": torch.full((f.D_SAE,), -0.9)}


def test_one_sae_in_every_format_gets_the_same_scores(tmp_path):
    section, rows, bias = two_groups((5, 5), d_in=f.D_IN, n=300, noise=0.1, jitter=0.2)
    bench = bench_of(section)
    first = None
    checked = 0
    # one of each format: that all variants have the same codes is shown beside the formats
    loadeds = dict(every_format(tmp_path, planted(rows, bias)))
    assert set(FORMATS) - set(loadeds) == NO_SAES
    for name, loaded in loadeds.items():
        seen = [write_entry(e) for e in scores(loaded.dictionary, bench).entries]
        first = first or seen
        assert len(seen) == len(first) > 50
        for one, other in zip(first, seen, strict=True):
            assert (one.axis, one.name, one.attribute) == (other.axis, other.name, other.attribute)
            assert one.reason == other.reason
            if one.value is not None:
                checked += 1
                assert math.isclose(one.value, other.value, rel_tol=1e-4, abs_tol=1e-5), (name, one)
    assert checked > 400


def test_another_sae_gets_other_scores(tmp_path):
    """The twin: the comparison can say no."""
    section, rows, bias = two_groups((5, 5), d_in=f.D_IN, n=400, noise=0.1, jitter=0.2)
    bench = bench_of(section)
    w = planted(rows, bias)
    moved = w | {"b_enc": w["b_enc"] + 0.3}
    one, other = (
        {e.identity: e for e in scores(load(path).dictionary, bench, ("approximation",)).entries}
        for path in (f.goodfire(tmp_path / "a", w), f.goodfire(tmp_path / "b", moved))
    )
    values = [(write_entry(one[k]).value, write_entry(other[k]).value) for k in one]
    assert any(a is not None and b is not None and abs(a - b) > 1e-3 for a, b in values)


@pytest.mark.slow
def test_every_format_of_a_demo_sae_is_evaluated_to_the_same_scores(tmp_path, monkeypatch, capsys):
    """The whole road a user takes: a path for every format, the demo model, all five axes."""
    folder = DEMO / "standard"
    w = load_file(folder / "sae_weights.safetensors")
    monkeypatch.setattr(f, "D_IN", w["W_dec"].shape[1])
    monkeypatch.setattr(f, "D_SAE", w["W_dec"].shape[0])
    one_each = {name: loaded.info for name, loaded in every_format(tmp_path / "saes", w)}
    assert set(FORMATS) - set(one_each) == NO_SAES
    out = tmp_path / "out"
    paths = [str(folder), *(str(info.source) for info in one_each.values())]
    with pytest.raises(SystemExit, match="0"):
        main(
            [
                "evaluate",
                *paths,
                "--architecture",
                "standard",
                "--out",
                str(out),
                "--site",
                "blocks.1.hook_resid_pre@end",
            ]
        )
    capsys.readouterr()
    results = [Result.model_validate_json(p.read_text()) for p in out.rglob("ioi--*.json")]
    # files that hold the same numbers for the same architecture share one result
    assert {r.dictionary.sha256 for r in results} >= {i.sha256 for i in one_each.values()}
    assert {r.dictionary.architecture for r in results} == {"standard", "topk", "jumprelu"}
    (first,) = [r for r in results if r.dictionary.source == str(folder)]
    numbers = [s.value for s in first.scores if s.value is not None]
    assert len(numbers) > 100
    for other in results:
        for axis, score in first.axes.items():
            assert other.axes[axis].value == pytest.approx(score.value, abs=1e-5), axis
        for a, b in zip(first.scores, other.scores, strict=True):
            assert (a.name, a.attribute, a.edit, a.k) == (b.name, b.attribute, b.edit, b.k)
            same = None if a.value is None else pytest.approx(a.value, rel=1e-4, abs=1e-5)
            assert b.value == same, (a, b)
