"""Reading a spec: a TOML file, and the tables, word lists and tasks that it names. No torch here.

What comes out needs no file any more.
"""

import csv
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from saebench.errors import PlantingError, unknown
from saebench.planting.sentences import from_names
from saebench.planting.spec import PlantSpec
from saebench.spec import load_task


def read_spec(path: Path) -> PlantSpec:
    """Reads and checks a spec file.

    Raises:
        PlantingError: if it or a file that it names cannot be read, or asks for what cannot be.
        TaskError: if a task that it names cannot be read.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlantingError(
            f"{path} cannot be read ({error.strerror or error}). Expected a spec of a planted model;"
            ' the shortest is name = "mine", then [variables] with colour = { values = 4 }.'
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlantingError(f"{path} is not valid TOML: {error}. Correct that line.") from error
    read = _with_files(values, path)
    try:
        return PlantSpec.model_validate(read)
    except ValidationError as error:
        raise _refused(path, error) from error


def read_whole(path: Path) -> PlantSpec:
    """Reads a spec that was written with all that its files say.

    Raises:
        PlantingError: if it is damaged.
    """
    try:
        return PlantSpec.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: ValidationError) -> PlantingError:
    # of an entry that may be a number or names, the names where it holds some
    first = max(error.errors(), key=lambda one: len(one["loc"]))
    parts = [str(part) for part in first["loc"] if part != "int" and "[" not in str(part)]
    where = ".".join(parts) or "the spec"
    what = re.sub(r"^Value error, ", "", first["msg"])
    return PlantingError(f"{path}: {where}: {what}. docs/planting.md lists every entry.")


def _with_files(values: Mapping[str, Any], spec: Path) -> dict[str, Any]:
    """The entries of a spec with tables, word lists and tasks in place of their names.

    Raises:
        PlantingError: if a file cannot be read or is not what is asked for.
        TaskError: if a task cannot be read.
    """
    read = dict(values)
    entities = values.get("entities")
    if isinstance(entities, dict):
        read |= _table(entities, read.get("variables"), spec)
    elif "table" in values:
        raise PlantingError(
            f"{spec}: `table` stands by itself. Expected entities = {{ table = FILE, column = NAME }}."
        )
    texts = values.get("text")
    if isinstance(texts, list):
        read["text"] = [_text(text, spec) if isinstance(text, dict) else text for text in texts]
    return read


def _table(entities: dict[str, Any], variables: Any, spec: Path) -> dict[str, Any]:
    """Entities, their values, and the values' names where the spec does not order them."""
    if set(entities) != {"table", "column"} or not all(isinstance(v, str) for v in entities.values()):
        raise PlantingError(
            f"{spec}: entities has {', '.join(sorted(entities)) or 'nothing'}. Expected their number, their"
            " names, or { table = FILE, column = NAME }."
        )
    file, column = spec.parent / entities["table"], entities["column"]
    rows = list(csv.DictReader(_read(file, spec, "a CSV table").splitlines()))
    variables = dict(variables) if isinstance(variables, dict) else {}
    for name in (column, *variables):
        if not rows or name not in rows[0]:
            what = "the entities" if name == column else f"the variable {name!r}"
            raise PlantingError(
                f"{file} has no column for {what}: {unknown('column', name, rows[0] if rows else ())}"
            )
    names = [row[column] for row in rows]
    double = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if double is not None:
        raise PlantingError(f"{file} lists {double!r} twice. Expected one row for each entity.")
    for row in rows:
        empty = [name for name in (column, *variables) if not row[name]]
        if empty:
            raise PlantingError(
                f"{file}: {row[column] or 'a row'!r} has no {empty[0]}. Expected a value of every variable."
            )
    table = {name: tuple(row[name] for row in rows) for name in variables}
    for name, variable in variables.items():
        if isinstance(variable, dict):
            variables[name] = {"values": sorted(set(table[name])), **variable}
    return {"entities": names, "variables": variables, "table": table}


def _text(text: dict[str, Any], spec: Path) -> dict[str, Any]:
    """A `[[text]]` whose templates and lists are all in it."""
    text = dict(text)
    if "task" in text:
        for entry in ("templates", "lists", "answered"):
            if entry in text:
                raise PlantingError(f"{spec}: a text with a `task` has its {entry} from there; leave it out.")
        prompts = _prompts(str(text.pop("task")), spec)
        return {**prompts, **text}
    lists = text.get("lists")
    if isinstance(lists, dict):
        text["lists"] = {name: _words(words, spec) for name, words in lists.items()}
    return text


def _prompts(name: str, spec: Path) -> dict[str, Any]:
    folder = spec.parent / name
    task = load_task(str(folder) if (folder / "task.toml").is_file() else name)
    text = task.spec.sentences(task)
    if text is None:
        raise PlantingError(
            f"{spec}: the task {name!r} is of the kind {task.spec.kind!r}. Expected one of the kind 'names',"
            " whose prompts end in one of two names."
        )
    templates, lists = from_names(text[0]), text[1]
    used = {"name": lists["names"], "place": lists["place"], "object": lists["object"]}
    return {"name": task.name, "templates": templates, "lists": used, "answered": True}


def _words(words: Any, spec: Path) -> Any:
    if not isinstance(words, str):
        return words
    lines = _read(spec.parent / words, spec, "a list with a word on each line").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _read(file: Path, spec: Path, what: str) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlantingError(
            f"{spec} names {file}, which cannot be read ({getattr(error, 'strerror', None) or error})."
            f" Expected {what}, its path given from the spec's folder."
        ) from error
