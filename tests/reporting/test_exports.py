"""Exports say the same numbers in other programs' terms, and never whose they are not."""

import json
import uuid
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
import simulated
from command import run

import saebench
from saebench.errors import OptionError, StoreError
from saebench.records import store
from saebench.records.result import Result, Score
from saebench.reporting import exports

pytestmark = pytest.mark.usefixtures("few_prompts")

SAE_BENCH = {
    "eval_type_id": str,
    "eval_config": dict,
    "eval_id": str,
    "datetime_epoch_millis": int,
    "eval_result_metrics": dict,
    "eval_result_details": list,
    "sae_bench_commit_hash": str,
    "sae_lens_id": str | None,
    "sae_lens_release_id": str | None,
    "sae_lens_version": str | None,
    "sae_cfg_dict": dict,
    "eval_result_unstructured": object,
}
"""The keys and types of a SAEBench result file (its `BaseEvalOutput`)."""
THEIRS = (
    "absorption_first_letter",
    "absorption",
    "autointerp",
    "core",
    "ravel",
    "scr",
    "tpp",
    "sparse_probing",
    "unlearning",
)


def column(frame: pd.DataFrame, name: str) -> list:
    """A column with None where it is empty."""
    return [None if empty else v for v, empty in zip(frame[name], frame[name].isna(), strict=True)]


def registered(**changes: object) -> Result:
    name = "gpt2-small-res-jb/blocks.8.hook_resid_pre"
    return simulated.result(3, dictionary={"name": name, "source": name}, **changes)


def test_the_keys_are_sae_benchs() -> None:
    document = exports.sae_bench(simulated.result(1))
    assert set(document) == set(SAE_BENCH)
    for key, kind in SAE_BENCH.items():
        assert isinstance(document[key], kind), key
    json.dumps(document, allow_nan=False)
    assert uuid.UUID(document["eval_id"])
    # 2026-01-02T03:04:05Z, counted by hand from 2026-01-01T00:00:00Z = 1767225600
    assert document["datetime_epoch_millis"] == (1767225600 + 86400 + 3 * 3600 + 4 * 60 + 5) * 1000
    for metrics in document["eval_result_metrics"].values():
        # SAEBench refuses metrics that are not flat
        assert not any(isinstance(value, dict | list) for value in metrics.values())


def test_it_does_not_pose_as_sae_bench() -> None:
    for task in ("ioi", "ravel", "synthetic/core", "../core"):
        document = exports.sae_bench(simulated.result(1, task=task))
        assert document["eval_type_id"] not in THEIRS
        assert document["eval_type_id"].startswith("five_axes_")
        assert "not scored by SAEBench" in document["sae_bench_commit_hash"]


def test_the_numbers_are_the_results() -> None:
    result = simulated.result(2)
    document = exports.sae_bench(result)
    control = document["eval_result_metrics"]["control"]
    score = result.axes["control"]
    assert score.ci is not None
    assert control["control_normalized"] == score.normalized
    assert control["control_value_ci_low"] == (score.value_ci or (None,))[0]
    assert control["control_normalized_ci_high"] == score.ci[1]
    assert len(document["eval_result_details"]) == len(result.scores)
    assert exports.sae_bench(result) == document
    assert exports.sae_bench(simulated.result(5))["eval_id"] != document["eval_id"]


def test_only_a_name_of_the_registry_is_given_as_one() -> None:
    document = exports.sae_bench(registered())
    assert document["sae_lens_release_id"] == "gpt2-small-res-jb"
    assert document["sae_lens_id"] == "blocks.8.hook_resid_pre"
    assert document["sae_cfg_dict"]["hook_layer"] == 1
    local = exports.sae_bench(simulated.result(1))
    assert local["sae_lens_release_id"] is None and local["sae_lens_id"] is None


def test_a_frame_has_every_score_and_every_headline() -> None:
    results = [simulated.result(1), simulated.result(2, task="ravel")]
    frame = saebench.to_frame(results)
    assert len(frame) == sum(len(r.scores) + len(r.axes) for r in results)
    for result in results:
        own = frame.query("id == @result.id")
        assert set(own["task"]) == {result.task.name}
        headlines = own.query("name == @exports.HEADLINE")
        wanted = {axis: score.normalized for axis, score in result.axes.items()}
        assert dict(zip(headlines["axis"], column(headlines, "normalized"), strict=True)) == wanted
        rows = own.query("name != @exports.HEADLINE")
        assert column(rows, "value") == [score.value for score in result.scores]
        assert column(rows, "ci_low") == [s.ci[0] if s.ci else None for s in result.scores]
    assert len(saebench.to_frame(results[0])) == len(results[0].scores) + 5
    assert list(saebench.to_frame([]).columns) == list(frame.columns)
    # a field that results get later must not be forgotten here
    known = {*Score.model_fields} - {"ci"}
    assert known <= {*frame.columns}


def test_tables_keep_every_digit(tmp_path: Path) -> None:
    results = [simulated.result(seed) for seed in range(3)]
    frame = saebench.to_frame(results)
    (csv,) = exports.write(results, "csv", tmp_path)
    (parquet,) = exports.write(results, "parquet", tmp_path)
    read = pd.read_csv(csv)
    assert column(read, "value") == column(frame, "value")
    assert column(pd.read_parquet(parquet), "value") == column(frame, "value")
    first = {path: path.read_bytes() for path in (csv, parquet)}
    exports.write(results, "csv", tmp_path)
    exports.write(results, "parquet", tmp_path)
    assert {path: path.read_bytes() for path in first} == first


@pytest.mark.parametrize("name", ["=cmd()", "../../x", "<script>", "a" * 300, "🦄", "@SUM(A1)"])
def test_hostile_names_are_inert(name: str, tmp_path: Path) -> None:
    result = simulated.result(1, name=name, task=name)
    for form in exports.FORMS:
        (path,) = exports.write([result], form, tmp_path)
        assert path.resolve().is_relative_to(tmp_path.resolve())
        assert len(path.name.encode()) <= 255
    read = pd.read_csv(StringIO((tmp_path / "scores.csv").read_text()))
    assert not any(str(cell).startswith(("=", "@")) for cell in read["dictionary"])


def test_unknown_forms_and_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="sae-bench"):
        exports.write([simulated.result()], "sae_bench", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="Cannot write"):
        exports.write([simulated.result()], "csv", tmp_path / "file")


def test_stored_results_are_exported(capsys, tmp_path: Path) -> None:
    results = tmp_path / "results"
    for seed in range(2):
        store.save(simulated.result(seed), simulated.outcomes(seed), results)
    for form, count in (("sae-bench", 2), ("csv", 1), ("parquet", 1)):
        code, out, _ = run(capsys, "results", "export", str(results), "--export", form)
        assert code == 0 and len(out.splitlines()) == count
        assert all(Path(line).is_file() for line in out.splitlines())
    # what was exported is no result
    assert len(store.find(results)) == 2 and not store.verify(results)
    one = str(store.find(results)[0])
    code, out, _ = run(capsys, "results", "export", one, "--out", str(tmp_path / "one"))
    assert code == 0 and len(pd.read_csv(out.strip())["id"].unique()) == 1
    code, _, err = run(capsys, "results", "export", str(tmp_path / "nothing"))
    assert code == 2 and "no result" in err
    code, _, err = run(capsys, "results", "export", str(results), "--export", "excel")
    assert code == 2 and "sae-bench" in err


def test_evaluate_exports(capsys, tmp_path: Path) -> None:
    code, out, err = run(
        capsys,
        "evaluate",
        "control:mean",
        "--budget",
        "tiny",
        "--out",
        str(tmp_path),
        "--export",
        "sae-bench",
        "--format",
        "json",
    )
    assert code == 0 and len(out.splitlines()) == 1 and "Exported" in err
    (path,) = (tmp_path / "exported").rglob("*.json")
    document = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert document["eval_result_unstructured"]["saebench_id"] == json.loads(out)["id"]
    code, _, err = run(capsys, "evaluate", "control:mean", "--export", "excel")
    assert code == 2 and "sae-bench" in err


@pytest.mark.parametrize("name", ["null", "NA", "nan", "None", "=1+1", "-5", "none", "sae"])
def test_a_name_is_never_read_back_as_a_missing_value_or_a_formula(name) -> None:
    result = simulated.result(1, dictionary={"name": name})
    read = pd.read_csv(StringIO(exports.csv_text(saebench.to_frame(result))))
    assert not read["dictionary"].isna().any()
    plain = name in ("none", "sae")
    assert set(read["dictionary"]) == {name if plain else f"'{name}"}
