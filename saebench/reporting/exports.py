"""Results in forms that other programs read: pandas, CSV, parquet, and SAEBench's JSON layout.

SAEBench (`sae-bench`, Karvonen et al. 2025) is another project. Its readers find the keys they know,
but neither `eval_type_id` nor the commit hash says that it made the numbers.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from saebench.errors import choice
from saebench.records.files import safe_name, write_all
from saebench.records.result import Result, Score
from saebench.reporting.text import csv_cell

if TYPE_CHECKING:
    import pandas as pd

FORMS = ("sae-bench", "csv", "parquet")
COLUMNS = [
    "task",
    "model",
    "site",
    "dictionary",
    "axis",
    "name",
    "attribute",
    "edit",
    "k",
    "n_changed",
    "value",
    "ci_low",
    "ci_high",
    "floor",
    "ceiling",
    "normalized",
    "normalized_ci_low",
    "normalized_ci_high",
    "n",
    "direction",
    "reason",
    "note",
    "kind",
    "architecture",
    "d_in",
    "d_sae",
    "l0",
    "training_architecture",
    "training_seed",
    "source",
    "budget",
    "seed",
    "task_version",
    "created",
    "dictionary_sha256",
    "model_sha256",
    "task_sha256",
    "commit",
    "saebench",
    "id",
]
HEADLINE = "headline"
"""What the rows of an axis's own number are called in a frame of scores."""


def to_frame(results: Result | Iterable[Result]) -> "pd.DataFrame":
    """Every score of one or more results, one row a score, as a pandas DataFrame.

    Columns: what was scored (`dictionary`, `model`, `task`, `site`, …), then the score (`axis`,
    `name`, `attribute`, `edit`, `k`, `value` with `ci_low` and `ci_high`, `floor`, `ceiling`,
    `normalized`, …). The headline of an axis is the row named `headline`; the interval of its
    normalised value stands in `normalized_ci_low` and `normalized_ci_high`. Undefined is missing,
    with its `reason`.
    """
    import pandas as pd

    several = [results] if isinstance(results, Result) else list(results)
    rows = [row for result in several for row in (*headlines(result), *_scores(result))]
    return pd.DataFrame(rows, columns=COLUMNS)


def _scored(result: Result) -> dict[str, Any]:
    d = result.dictionary
    return {
        "id": result.id,
        "created": result.created,
        "dictionary": d.name,
        "source": d.source,
        "kind": d.kind,
        "architecture": d.architecture,
        "training_architecture": d.training_architecture,
        "training_seed": d.seed,
        "d_in": d.d_in,
        "d_sae": d.d_sae,
        "l0": d.l0,
        "dictionary_sha256": d.sha256,
        "model_sha256": result.model.sha256,
        "task_sha256": result.task.sha256,
        "commit": result.provenance.commit,
        "saebench": result.provenance.saebench,
        "model": result.model.name,
        "task": result.task.name,
        "task_version": result.task.version,
        "site": result.site,
        "budget": result.budget,
        "seed": result.seed,
    }


def headlines(result: Result) -> list[dict[str, Any]]:
    """The rows of the axes' own numbers."""
    rows = []
    for axis, score in result.axes.items():
        fields = score.model_dump()
        normalized, raw = fields.pop("ci"), fields.pop("value_ci")
        ends = _ends("ci", raw) | _ends("normalized_ci", normalized)
        rows.append({"axis": axis, "name": HEADLINE, "direction": "higher", **fields, **ends})
    return [_scored(result) | row for row in rows]


def _scores(result: Result) -> list[dict[str, Any]]:
    scored = _scored(result)
    return [
        scored | fields | _ends("ci", fields.pop("ci")) for fields in map(Score.model_dump, result.scores)
    ]


def _ends(name: str, pair: Sequence[float] | None) -> dict[str, float | None]:
    low, high = pair or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def sae_bench(result: Result) -> dict[str, Any]:
    """A result under the keys of a SAEBench result file, strict JSON.

    One category of metrics an axis, each flat; `eval_result_details` lists every score. The
    `eval_id` is a UUID made from the result's own id, so the same result has the same one.
    """
    d, made = result.dictionary, result.provenance
    # what SAELens' registry calls it; everything else has no id there
    registered = d.format == "sae_lens" and d.name == d.source and "/" in d.name
    release, _, sae_id = d.name.partition("/") if registered else ("", "", "")
    hook, _, position = result.site.partition("@")
    layer = [int(part) for part in hook.split(".") if part.isdigit()][:1]
    tool = f"saebench {made.saebench}, commit {made.commit or 'unknown'}"
    return {
        "eval_type_id": eval_type(result),
        "eval_config": {
            "model_name": result.model.name,
            "task": result.task.name,
            "task_version": result.task.version,
            "task_sha256": result.task.sha256,
            "site": result.site,
            "position": position,
            "budget": result.budget,
            "random_seed": result.seed,
            "axis_versions": result.axis_versions,
            "n": result.task.n.model_dump(),
            "llm_dtype": made.dtype,
        },
        "eval_id": str(uuid5(NAMESPACE_URL, f"saebench:{result.id}")),
        "datetime_epoch_millis": int(datetime.fromisoformat(result.created).timestamp() * 1000),
        "eval_result_metrics": {axis: _metrics(result, axis) for axis in result.axes},
        "eval_result_details": [score.model_dump(mode="json") for score in result.scores],
        "sae_bench_commit_hash": f"not scored by SAEBench: {tool}",
        "sae_lens_id": sae_id or None,
        "sae_lens_release_id": release or None,
        "sae_lens_version": made.versions.get("sae_lens"),
        "sae_cfg_dict": {
            "architecture": d.architecture,
            "training_architecture": d.training_architecture,
            "d_in": d.d_in,
            "d_sae": d.d_sae,
            "l0": d.l0,
            "model_name": result.model.name,
            "hook_name": hook,
            "hook_layer": layer[0] if layer else None,
            "name": d.name,
            "source": d.source,
            "sha256": d.sha256,
            "kind": d.kind,
        },
        "eval_result_unstructured": {"saebench_id": result.id, "warnings": list(result.warnings)},
    }


def eval_type(result: Result) -> str:
    """Our own name for what was measured: none of SAEBench's evaluations is called so."""
    return safe_name(f"five_axes_{result.task.name}".replace("/", "_"))


def _metrics(result: Result, axis: str) -> dict[str, float | int | str | None]:
    score = result.axes[axis]
    numbers = score.model_dump(include={"value", "normalized", "floor", "ceiling", "n", "reason"})
    ends = _ends("value_ci", score.value_ci) | _ends("normalized_ci", score.ci)
    # SAEBench's tables are joined over evaluations, so a metric's name has to say what it is
    return {f"{axis}_{key}": value for key, value in (numbers | ends).items()}


def write(results: Sequence[Result], form: str, out: Path) -> list[Path]:
    """Writes results in one of `FORMS` below `out`; returns the paths.

    `csv` and `parquet` are one table of all; `sae-bench` is one file a result, in a folder for each
    evaluation type. In CSV, a text that a spreadsheet would take for a formula is made inert.

    Raises:
        OptionError: if the form is unknown.
        StoreError: if `out` cannot be written.
    """
    choice("export", form, FORMS)
    if form == "sae-bench":
        files = {_sae_bench_path(r, out): _document(r) for r in results}
    elif form == "csv":
        files = {Path(out) / "scores.csv": csv_text(to_frame(results)).encode()}
    else:
        files = {Path(out) / "scores.parquet": to_frame(results).to_parquet(index=False)}
    write_all(files, out)
    return list(files)


def _sae_bench_path(result: Result, out: Path) -> Path:
    d = result.dictionary
    name = f"{safe_name(d.name)}@{safe_name(d.sha256[:8])}_{safe_name(result.id[:8])}"
    return Path(out) / "sae-bench" / eval_type(result) / f"{name}_eval_results.json"


def _document(result: Result) -> bytes:
    return (json.dumps(sae_bench(result), indent=2, allow_nan=False) + "\n").encode()


def csv_text(frame: "pd.DataFrame") -> str:
    """A frame as CSV: numbers in full, undefined ones empty, texts inert in a spreadsheet."""
    return frame.map(csv_cell).to_csv(index=False, lineterminator="\n")
