"""The parquet table of per-prompt outcomes that stands beside every result.

Long format: `cluster, prompt, split, axis, score, attribute, edit, k, label, value`. The zeros of a
column that is mostly zero are left out (one that is zero everywhere keeps its first row, so that
its existence survives). The rows with an empty axis and the score `prompt` list every prompt of a
split with its cluster; `pivot` over them and a fill with 0 give back the full table. Under the same
empty axis `unit` (`k` numbers the way: what recurs across clusters) and `template` describe the
prompts; older tables lack them. Facts, attributes, the templates' texts and the resampled headlines
stand in the schema's metadata as JSON. The same outcomes give the same bytes.
"""

import base64
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from saebench.errors import ResultError
from saebench.records.outcomes import AttributeFacts, Key, Outcomes
from saebench.records.parts import flat, parted

SPARSE = 0.3
TABLE_SCHEMA = "saebench.outcomes/1"
_TEXT = ("split", "axis", "score", "attribute", "edit", "label")
_METADATA = b"saebench"
_PARQUET: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 12,
    "use_dictionary": [*_TEXT, "k", "cluster"],
    "column_encoding": {"prompt": "DELTA_BINARY_PACKED"},
    "write_statistics": False,
    "write_page_checksum": True,
    # Arrow's own copy of the schema repeats it and its metadata in base64
    "store_schema": False,
}


def table_bytes(outcomes: Outcomes, id: str) -> bytes:
    """The table of a result with this id, as the bytes of a parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    outcomes = flat(outcomes)
    parts = [*_prompts(outcomes), *outcomes.columns.items()]
    kept = [_kept_rows(values) for _, values in parts]
    lengths = [len(rows) for rows in kept]
    cluster = [np.asarray(outcomes.cluster[k.split])[r] for (k, _), r in zip(parts, kept, strict=True)]
    arrays = {
        "cluster": pa.array(_join(cluster, np.int64)),
        "prompt": pa.array(_join(kept, np.int32)),
        **{name: _text_column([getattr(k, name) for k, _ in parts], lengths) for name in _TEXT},
        "k": pa.array(np.repeat(np.array([k.k for k, _ in parts], dtype=np.int32), lengths)),
        "value": pa.array(_join([v[r] for (_, v), r in zip(parts, kept, strict=True)], np.float32)),
    }
    order = ("cluster", "prompt", "split", "axis", "score", "attribute", "edit", "k", "label")
    table = pa.table({name: arrays[name] for name in (*order, "value")})
    buffer = io.BytesIO()
    writer = pq.ParquetWriter(buffer, table.schema, **_PARQUET)
    with writer:
        writer.write_table(table)
        writer.add_key_value_metadata({_METADATA: _metadata(outcomes, id)})
    return buffer.getvalue()


def _prompts(outcomes: Outcomes) -> Iterator[tuple[Key, np.ndarray]]:
    """Columns that describe the prompts themselves."""
    for split, cluster in outcomes.cluster.items():
        yield Key("", "prompt", split=split), np.ones(len(cluster))
    for split, units in outcomes.units.items():
        for way in range(units.shape[1]):
            yield Key("", "unit", k=way, split=split), units[:, way]
    for split, template in outcomes.template.items():
        yield Key("", "template", split=split), template


def _kept_rows(values: np.ndarray) -> np.ndarray:
    """All prompts, or those with a value if they are few; one at least, if there is one."""
    rows = np.flatnonzero(values)
    # zeros in a dense column cost less than the gaps they would leave in `prompt` and `cluster`
    if len(rows) > SPARSE * len(values):
        return np.arange(len(values))
    return rows if len(rows) else np.arange(min(1, len(values)))


def _join(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *parts]).astype(dtype)


def _text_column(values: list[str], lengths: list[int]):
    import pyarrow as pa

    names = sorted(set(values))
    codes = np.repeat(np.array([names.index(v) for v in values], dtype=np.int32), lengths)
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(names, type=pa.string()))


def _metadata(outcomes: Outcomes, id: str) -> bytes:
    content = {
        "schema": TABLE_SCHEMA,
        "id": id,
        "attributes": {name: list(facts) for name, facts in outcomes.attributes.items()},
        "facts": [[*key, value] for key, value in outcomes.facts.items()],
        **({"templates": outcomes.templates} if outcomes.templates else {}),
        "headlines": {axis: _encode(draws) for axis, draws in outcomes.headlines.items()},
    }
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def _encode(draws: np.ndarray) -> str:
    return base64.b64encode(np.asarray(draws, "<f4").tobytes()).decode()


def _decode(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float64)


def read_headlines(path: Path) -> dict[str, np.ndarray]:
    """Resampled headlines of a table by axis, without reading its rows; empty in older tables.

    Raises:
        ResultError: if the file is missing or is not such a table.
    """
    return {axis: _decode(text) for axis, text in _content(path).get("headlines", {}).items()}


def read_id(path: Path) -> str:
    """The id of the result that a table belongs to.

    Raises:
        ResultError: if the file is missing or is not such a table.
    """
    return str(_content(path)["id"])


def _content(path: Path) -> dict:
    """What a table's metadata says, without reading its rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(path).metadata or {}
        content = json.loads(metadata[_METADATA])
        if content["schema"] != TABLE_SCHEMA:
            raise ValueError(f"schema {content['schema']!r}, expected {TABLE_SCHEMA}")
        return {"id": content["id"], **content}
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def read_table(path: Path) -> Outcomes:
    """The outcomes in a parquet file.

    Raises:
        ResultError: if the file is missing, damaged or not such a table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, read_dictionary=list(_TEXT), page_checksum_verification=True)
        content = json.loads(table.schema.metadata[_METADATA])
        return parted(_outcomes(table, content))
    except (OSError, KeyError, ValueError, IndexError, TypeError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ResultError:
    return ResultError(
        f"Cannot read the table of outcomes {str(path)!r}: {error}. It is missing or damaged; score"
        " the dictionary again (--force)."
    )


def _outcomes(table, content: dict) -> Outcomes:
    prompt, value, cluster = (table[name].to_numpy() for name in ("prompt", "value", "cluster"))
    codes, names = {}, {}
    for name in _TEXT:
        array = table[name].combine_chunks()
        codes[name] = array.indices.to_numpy(zero_copy_only=False)
        names[name] = array.dictionary.to_pylist()
    codes["k"] = table["k"].to_numpy()
    changed = np.zeros(len(prompt), dtype=bool)
    for column in codes.values():
        changed[1:] |= column[1:] != column[:-1]
    starts = np.concatenate([[0], np.flatnonzero(changed)]) if len(prompt) else np.empty(0, int)
    bounds = [*starts.astype(int).tolist(), len(prompt)]
    clusters: dict[str, np.ndarray] = {}
    columns: dict[Key, np.ndarray] = {}
    for start, end in itertools.pairwise(bounds):
        text = {name: names[name][codes[name][start]] for name in _TEXT}
        key = Key(**text, k=int(codes["k"][start]))
        if not key.axis and key.score == "prompt":
            clusters[key.split] = cluster[start:end]
            continue
        columns[key] = np.zeros(len(clusters[key.split]), dtype=np.float32)
        columns[key][prompt[start:end]] = value[start:end]
    attributes = {
        name: AttributeFacts(tuple(values), parent, on_off)
        for name, (values, parent, on_off) in content["attributes"].items()
    }
    facts = {Key(*fields): float(number) for *fields, number in content["facts"]}
    ways: dict[str, list[np.ndarray]] = {}
    template: dict[str, np.ndarray] = {}
    for key in [key for key in columns if not key.axis]:
        column = columns.pop(key).astype(np.int64)
        if key.score == "unit":
            ways.setdefault(key.split, []).append(column)
        else:
            template[key.split] = column
    units = {split: np.stack(of_split, axis=1) for split, of_split in ways.items()}
    templates = tuple(content.get("templates", ()))
    headlines = {axis: _decode(text) for axis, text in content.get("headlines", {}).items()}
    return Outcomes(clusters, attributes, columns, facts, units, template, templates, headlines)
