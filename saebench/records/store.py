"""A directory of results: a JSON document and a parquet table of per-prompt outcomes for each.

`<out>/<model>/<dictionary>@<sha8>/<task>--<id8>.json`, and the same name with `.parquet`. A result
is finished when its JSON file exists: both files are written beside their place and moved there,
the table first, so that a killed writer leaves nothing that looks like a result. Any number of
processes may write into one directory.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from pydantic import TypeAdapter, ValidationError

from saebench.errors import ResultError, StoreError
from saebench.records import failures
from saebench.records.files import safe_name, uninterrupted, write_all
from saebench.records.outcomes import Outcomes
from saebench.records.result import SCHEMA, Result
from saebench.records.table import read_headlines, read_id, read_table, table_bytes

_STALE_SECONDS = 3600.0


def result_path(result: Result, out: Path) -> Path:
    """Where a result's JSON file stands in the results directory `out`."""
    dictionary = f"{safe_name(result.dictionary.name)}@{safe_name(result.dictionary.sha256[:8])}"
    file = f"{safe_name(result.task.name)}--{safe_name(result.id[:8])}.json"
    return Path(out) / safe_name(result.model.name) / dictionary / file


def save(result: Result, outcomes: Outcomes, out: Path) -> Path:
    """Writes a result and its outcomes; returns the path of the JSON file.

    Raises:
        StoreError: if the directory cannot be written; no half result is left behind.
    """
    return write(result, table_bytes(outcomes, result.id), out)


def write(result: Result, table: bytes, out: Path) -> Path:
    """Writes a result and its table of outcomes, which may have been made elsewhere.

    Raises:
        StoreError: if the directory cannot be written; no half result is left behind.
    """
    path = result_path(result, out)
    with uninterrupted():
        write_all({path.with_suffix(".parquet"): table, path: json_text(result).encode()}, out)
    return path


def json_text(result: Result) -> str:
    """The document as it is stored: strict JSON, one line for each score to keep diffs short."""
    lines = []
    for key, value in result.model_dump(by_alias=True, mode="json").items():
        if key == "axes":
            body = ",\n".join(f"    {_compact(k)}: {_compact(v)}" for k, v in value.items())
            text = f"{{\n{body}\n  }}"
        elif key == "scores" and value:
            text = "[\n" + ",\n".join(f"    {_compact(score)}" for score in value) + "\n  ]"
        else:
            text = _compact(value)
        lines.append(f"  {_compact(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _compact(value: object) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


@dataclass(frozen=True)
class Stored:
    """A result read back; its outcomes are read when they are first asked for."""

    path: Path
    result: Result

    @property
    def table_path(self) -> Path:
        return self.path.with_suffix(".parquet")

    @property
    def has_outcomes(self) -> bool:
        return self.table_path.is_file()

    @cached_property
    def outcomes(self) -> Outcomes:
        """Per-prompt outcomes.

        Raises:
            ResultError: if the table is missing, damaged, or belongs to another result.
        """
        self._refuse_another()
        return read_table(self.table_path)

    @property
    def headlines(self) -> Mapping[str, np.ndarray]:
        """Resampled headlines by axis; empty where the table is missing or older.

        Raises:
            ResultError: if the table is damaged, or belongs to another result.
        """
        if not self.has_outcomes:
            return {}
        self._refuse_another()
        return read_headlines(self.table_path)

    def _refuse_another(self) -> None:
        found = read_id(self.table_path)
        if found != self.result.id:
            raise ResultError(
                f"{self.table_path} holds the outcomes of result {found[:8]!r}, but the JSON file"
                f" beside it is result {self.result.id[:8]!r}. Score it again (--force)."
            )


def _upgrade_0(data: dict) -> dict:
    """`saebench.result/0`, the first draft: one `ci` for value and normalised value, no kinds."""
    axes = {name: {**axis, "value_ci": axis.get("value_ci")} for name, axis in data["axes"].items()}
    return {"axis_versions": {name: 1 for name in axes}, **data, "axes": axes, "schema": SCHEMA}


UPGRADES: dict[str, Callable[[dict], dict]] = {"saebench.result/0": _upgrade_0}
"""From each older schema, the step to the next one; steps are applied until none is left."""


def parse(text: str | bytes, where: str) -> Result:
    """Reads a result document of this schema or an older one; `where` names it in errors.

    Raises:
        ResultError: if the text is not strict JSON, has an unknown schema or does not fit it.
    """
    try:
        # almost always what is asked for, and several times faster than the steps below
        return Result.model_validate_json(text, strict=True)
    except ValidationError:
        return _parse_slowly(text, where)


def _parse_slowly(text: str | bytes, where: str) -> Result:
    """Reads an older schema, or says what is wrong."""
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ResultError(
            f"{where} is not a result file: {error}. It may have been cut off or edited by hand;"
            " delete it and score the dictionary again."
        ) from error
    schema = data.get("schema") if isinstance(data, dict) else None
    while isinstance(schema, str) and schema in UPGRADES:
        try:
            data = UPGRADES[schema](data)
        except (KeyError, TypeError, AttributeError) as error:
            raise ResultError(f"{where} does not fit its schema {schema}: {error!r}.") from error
        schema = data["schema"]
    if schema != SCHEMA:
        known = ", ".join([*UPGRADES, SCHEMA])
        raise ResultError(
            f"{where} has schema {schema!r}; this version of saebench reads {known}. Update it,"
            " or check that the file is a result."
        )
    try:
        return Result.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ResultError(
            f"{where} does not fit {SCHEMA}: {place}: {first['msg']}"
            f" ({error.error_count()} problem(s) in all). Score the dictionary again."
        ) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON; an undefined number is null, with a reason")


def load(path: Path) -> Stored:
    """Reads a stored result.

    Raises:
        ResultError: if the file is missing, damaged or of an unknown schema.
    """
    path = Path(path)
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ResultError(
            f"Cannot read the result {str(path)!r}: {error.strerror or error}. Expected the path of"
            " a .json file below a results directory (`saebench results list DIR` shows them)."
        ) from error
    return Stored(path, parse(text, str(path)))


def find(out: Path) -> list[Path]:
    """Paths of all finished results below a directory, sorted; units that failed are none."""
    found = (p for p in Path(out).glob("*/*@*/*--*.json") if not p.name.startswith("."))
    return sorted(p for p in found if not p.name.endswith(failures.SUFFIX))


def require_directory(results: Path) -> None:
    """Raises where there are no results because there is no such directory.

    Raises:
        StoreError: saying so.
    """
    if not Path(results).is_dir():
        raise StoreError(f"There is no results directory {str(results)!r}. `saebench evaluate` writes one.")


def lookup(out: Path, id: str) -> Path | None:
    """The finished result with this id, or None. A damaged file is no result."""
    return _first(sorted(Path(out).glob(f"*/*@*/*--{safe_name(id[:8])}.json")), id)


def _first(paths: Iterable[Path], id: str) -> Path | None:
    for path in paths:
        try:
            found = load(path).result.id
        except ResultError:
            # `verify` reports it; for a caller who wants the numbers it is as good as absent
            found = None
        if found == id:
            return path
    return None


class Finished:
    """Ids of the results below a directory as it is now, for many look-ups."""

    def __init__(self, out: Path) -> None:
        self._paths: dict[str, list[Path]] = {}
        for path in find(out):
            self._paths.setdefault(path.stem.rpartition("--")[2], []).append(path)

    def path(self, id: str) -> Path | None:
        """As `lookup`."""
        return _first(self._paths.get(safe_name(id[:8]), []), id)


class Problem(NamedTuple):
    """Something wrong below a results directory.

    `damage` is a result that cannot be trusted; a `leftover` is what a killed writer left behind:
    no result is lost by deleting it.
    """

    path: Path
    kind: Literal["damage", "leftover"]
    what: str


def verify(out: Path, clean: bool = False, stale_after: float = _STALE_SECONDS) -> list[Problem]:
    """Everything wrong below a results directory; `clean` also deletes the leftovers.

    Files of less than `stale_after` seconds may belong to a writer at work and are left alone.
    """
    problems = [problem for path in find(out) for problem in _check(path)]
    now = time.time()
    for path in _leftovers(Path(out)):
        what = "unfinished file" if path.suffix == ".tmp" else "outcomes without a result"
        try:
            age = now - path.stat().st_mtime
        except FileNotFoundError:
            continue  # its writer has just finished it
        if age < stale_after:
            continue
        problems.append(Problem(path, "leftover", f"{what}, {age / 3600:.1f} hours old"))
        if clean:
            path.unlink(missing_ok=True)
    return problems


def _leftovers(out: Path) -> Iterator[Path]:
    yield from sorted(out.glob("*/*@*/.*.tmp"))
    tables = sorted(out.glob("*/*@*/*--*.parquet"))
    yield from (path for path in tables if not path.with_suffix(".json").exists())


def _check(path: Path) -> Iterator[Problem]:
    try:
        stored = load(path)
    except ResultError as error:
        yield Problem(path, "damage", str(error))
        return
    if not path.stem.endswith(f"--{safe_name(stored.result.id[:8])}"):
        yield Problem(path, "damage", f"the file name does not fit its id {stored.result.id[:8]}")
    if not stored.has_outcomes:
        yield Problem(path, "damage", "its table of outcomes (.parquet) is missing")
        return
    try:
        stored.outcomes  # noqa: B018  (reading it is the check)
    except ResultError as error:
        yield Problem(stored.table_path, "damage", str(error))


class Merged(NamedTuple):
    copied: list[Path]
    """New paths in the destination."""
    present: list[Path]
    """Paths in the source whose id the destination already had."""
    refused: list[Problem]
    """Damaged results of the source, not copied."""
    failed: list[failures.Failure]
    """Units of the source that failed and have no result in the destination."""


def merge(source: Path, destination: Path) -> Merged:
    """Copies every sound result of `source` that `destination` does not have yet.

    Raises:
        StoreError: if the source does not exist or the destination cannot be written.
    """
    require_directory(source)
    merged = Merged([], [], [], [])
    for path in find(source):
        problems = list(_check(path))
        if problems:
            merged.refused.extend(problems)
            continue
        stored = load(path)
        if lookup(destination, stored.result.id):
            merged.present.append(path)
            continue
        target = result_path(stored.result, Path(destination))
        table = stored.table_path.read_bytes()
        write_all({target.with_suffix(".parquet"): table, target: path.read_bytes()}, destination)
        failures.forget(stored.result.id, destination)
        merged.copied.append(target)
    for failure in failures.read(source).values():
        # a unit that has a result somewhere did not fail, whichever comes first
        if lookup(destination, failure.id) is None:
            failures.save(failure, destination)
            merged.failed.append(failure)
    return merged


def schema_text() -> str:
    """The JSON Schema of a result file, or of a unit that failed, as committed in `results/schema.json`."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA}
    either = TypeAdapter(Result | failures.Failure).json_schema(by_alias=True)
    return json.dumps({**schema, **either}, indent=1) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
