"""The verbs that read results: exit codes, files written."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from command import run

import saebench
from saebench.evaluation.api import make_arena
from saebench.evaluation.contestants import control
from saebench.evaluation.options import Options
from saebench.records import store
from saebench.records.result import Result

pytestmark = pytest.mark.usefixtures("few_prompts")


@pytest.fixture(scope="module")
def in_memory() -> dict[str, Result]:
    """Two controls on IOI, as `saebench.evaluate` returns them; on one bench."""
    arena = make_arena("ioi", options=Options(budget="tiny"))
    (site,) = arena.sites([], None)
    return {name: arena.score_or_reuse(control(name), site, None) for name in ("pca:20", "random:8")}


@pytest.fixture(scope="module")
def results(in_memory, tmp_path_factory) -> Path:
    """Both on disk, one of them also as if it had another seed."""
    out = tmp_path_factory.mktemp("results")
    pca = in_memory["pca:20"]
    reseeded = pca.model_copy(update={"seed": 1, "id": pca.id[::-1]}).with_outcomes(pca.outcomes)
    for result in (*in_memory.values(), reseeded):
        store.save(result, result.outcomes, out)
    return out


def stored(results: Path, name: str, seed: int = 0) -> str:
    for path in results.rglob("*.json"):
        document = json.loads(path.read_text())
        if document["dictionary"]["name"] == name and document["seed"] == seed:
            return str(path)
    raise AssertionError(name)


def test_a_result_does_not_regress_against_itself(capsys, results):
    good = stored(results, "control:pca:20")
    code, out, _ = run(capsys, "regress", good, "--baseline", good)
    assert code == 0 and "No regression" in out


def test_a_worse_result_fails_and_names_the_scores(capsys, results, tmp_path):
    good, bad = stored(results, "control:pca:20"), stored(results, "control:random:8")
    files = {name: tmp_path / f"verdict.{name}" for name in ("xml", "md", "json")}
    code, out, _ = run(
        capsys,
        "regress",
        bad,
        "--baseline",
        good,
        "--junit",
        str(files["xml"]),
        "--markdown",
        str(files["md"]),
        "--json",
        str(files["json"]),
    )
    assert code == 1 and "control" in out and "approximation" in out
    failures = ET.parse(files["xml"]).getroot().findall(".//failure")
    assert failures
    assert "control" in files["md"].read_text()
    json.loads(files["json"].read_text(), parse_constant=pytest.fail)


def test_what_cannot_be_compared_exits_two_and_says_why(capsys, results):
    good, other = stored(results, "control:pca:20"), stored(results, "control:pca:20", seed=1)
    code, _, err = run(capsys, "regress", other, "--baseline", good)
    assert code == 2 and "seed" in err
    code, _, err = run(capsys, "regress", "nothing.json", "--baseline", good)
    assert code == 2 and "nothing.json" in err


def test_the_leaderboard_is_written_and_checked(capsys, results, tmp_path):
    code, out, _ = run(capsys, "leaderboard", str(results), "--out", str(tmp_path))
    assert code == 0 and (tmp_path / "index.html").is_file() and "index.html" in out
    code, _, _ = run(capsys, "leaderboard", str(results), "--out", str(tmp_path), "--check")
    assert code == 0
    (tmp_path / "leaderboard.md").write_text("edited")
    code, out, _ = run(capsys, "leaderboard", str(results), "--out", str(tmp_path), "--check")
    assert code == 1 and "leaderboard.md" in out


def test_results_are_listed_verified_and_merged(capsys, results, tmp_path):
    code, out, _ = run(capsys, "results", "list", str(results))
    assert code == 0 and out.count("control:pca:20") == 2
    code, out, _ = run(capsys, "results", "verify", str(results))
    assert code == 0 and "3 results, 0 damaged" in out
    code, out, _ = run(capsys, "results", "merge", str(results), str(tmp_path / "copy"))
    assert code == 0 and "3 copied" in out
    next((tmp_path / "copy").rglob("*.parquet")).unlink()
    code, out, _ = run(capsys, "results", "verify", str(tmp_path / "copy"))
    assert code == 1 and "1 damaged" in out


def test_formats_and_inspect(capsys):
    code, out, _ = run(capsys, "formats")
    assert code == 0 and "sae_lens" in out
    code, out, _ = run(capsys, "inspect", "demo:topk")
    assert code == 0 and "topk" in out and "blocks.1.hook_resid_pre" in out and "L0" in out
    code, _, err = run(capsys, "inspect", "nowhere/x")
    assert code == 2 and "nowhere" in err


def test_compare_works_on_results_in_memory(in_memory):
    found = {d.label: d for d in saebench.compare(*in_memory.values()).judged}
    assert found["control"].difference is not None and found["control"].difference > 0
