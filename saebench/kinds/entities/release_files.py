"""The published RAVEL data as it lies on disk: the release's JSON files, or the hub's tables.

The release has five files per entity type: `ravel_<type>_entity_attributes.json`
{entity: {attribute: value}}, `ravel_<type>_attribute_to_prompts.json` {attribute: [template with %s]},
`wikipedia_<type>_entity_prompts.json` {text with %s: {split, entity}},
`ravel_<type>_entity_to_split.json` {entity: train/val/test},
`ravel_<type>_prompt_to_split.json` {template: train/val/test}.

The hub's copy has a table per split in two folders: `<type>_entity/<split>-….parquet` (ID, URL, the
entity's name, a column per attribute) and `<type>_prompt/<split>-….parquet` (Template, Attribute,
Source, Entity; texts that ask for no attribute are context).
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from saebench.errors import TaskError

HUB = "hij/ravel"
FILES = (
    "ravel_{}_entity_attributes.json",
    "ravel_{}_attribute_to_prompts.json",
    "wikipedia_{}_entity_prompts.json",
    "ravel_{}_entity_to_split.json",
    "ravel_{}_prompt_to_split.json",
)
SPLITS = ("train", "val", "test")
_ANY_FILE = re.compile(
    r"^(?:ravel|wikipedia)_(.+?)_(?:entity_attributes|attribute_to_prompts|"
    r"entity_prompts|entity_to_split|prompt_to_split)\.json$"
)
_ANY_TABLE = re.compile(r"^(.+)_(?:entity|prompt)$")
_NOT_ATTRIBUTES = ("ID", "URL")


class Parts(NamedTuple):
    """An entity type's data as they lie there, and for each of the five parts the path that errors name."""

    values: dict[str, Any]
    prompts: dict[str, Any]
    context: dict[str, Any]
    entity_split: dict[str, Any]
    prompt_split: dict[str, Any]
    paths: tuple[Path, ...]
    sha256: str
    notes: tuple[str, ...] = ()


def open_release(where: str) -> Path:
    """The directory that holds the data: `where` itself, or the local copy of the hub's.

    Raises:
        TaskError: if it is no directory, or the hub does not deliver.
    """
    folder = _fetch() if where == HUB and not Path(where).exists() else Path(where)
    if not folder.is_dir():
        raise TaskError(
            f"{where} is not a directory. Expected one with the files of the RAVEL release, such as"
            f" {FILES[0].format('city')}, or {HUB} for the copy on the hub."
        )
    return folder


def _fetch() -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        found = Path(snapshot_download(HUB, repo_type="dataset"))
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TaskError(
            f"The hub did not deliver {HUB} ({first.rstrip('.')}). Check the connection, or pass a"
            " directory with the files of the release: --ravel-data DIR."
        ) from error
    # the files may lie in a folder of the copy
    holders = sorted({p.parent for p in found.rglob("ravel_*_entity_attributes.json")})
    return holders[0] if holders else found


def entity_types(folder: Path) -> list[str]:
    """Entity types of which a directory holds at least a part.

    Raises:
        TaskError: if there is none.
    """
    found = {m[1] for path in folder.iterdir() if (m := _ANY_FILE.match(path.name))}
    tables = {m[1] for path in folder.glob("*/*.parquet") if (m := _ANY_TABLE.match(path.parent.name))}
    if not found | tables:
        raise TaskError(
            f"{folder} holds no RAVEL data. Expected files such as {FILES[0].format('city')}:"
            " unpack data.tgz of the release and name the folder inside."
        )
    return sorted(found | tables)


def read_release(folder: Path, kind: str) -> Parts:
    """The data of an entity type, in whichever of the two forms it is there.

    Raises:
        TaskError: naming file and entry.
    """
    tables = (folder / f"{kind}_entity", folder / f"{kind}_prompt")
    return _from_tables(*tables) if any(t.is_dir() for t in tables) else _from_json(folder, kind)


def _from_json(folder: Path, kind: str) -> Parts:
    paths = tuple(folder / name.format(kind) for name in FILES)
    values, prompts, context, entities, templates = (_read(path) for path in paths)
    return Parts(values, prompts, context, entities, templates, paths, _digest(paths))


def _digest(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Any]:
    """A JSON object, in which no name may occur twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for name, value in pairs:
            if name in seen:
                raise TaskError(
                    f"{path}: {name!r} occurs twice. Expected every entity, attribute and template"
                    " once: which of the two is meant cannot be told."
                )
            seen[name] = value
        return seen

    try:
        found = json.loads(path.read_bytes(), object_pairs_hook=unique)
    except OSError as error:
        raise TaskError(
            f"{path} cannot be read ({type(error).__name__}). Expected all five files of the RAVEL"
            f" release for its entity type: {', '.join(FILES).replace('{}', '<type>')}."
        ) from error
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{path} is not valid JSON ({error}). Copy the file again.") from error
    if not isinstance(found, dict):
        raise TaskError(f"{path} holds a {type(found).__name__}. Expected a JSON object.")
    return found


def _from_tables(entities: Path, prompts: Path) -> Parts:
    """The hub's tables in the release's terms. Names that several entities share are left out."""
    rows, asked = _table(entities), _table(prompts)
    columns = [c for c in rows[0] if c not in (*_NOT_ATTRIBUTES, "split")]
    questions = {str(row.get("Attribute")) for row in asked}
    names = [c for c in columns if c not in questions]
    if not names:
        raise TaskError(
            f"{entities}: no column holds the entities' names; it has {', '.join(rows[0])}. Expected"
            f" one besides {', '.join(_NOT_ATTRIBUTES)} and the attributes."
        )
    name = names[0]
    count = Counter(row[name] for row in rows)
    alone = [row for row in rows if count[row[name]] == 1]
    values = {row[name]: {c: row[c] for c in columns if c != name and row[c] is not None} for row in alone}
    templates: dict[str, list[str]] = {}
    context: dict[str, dict[str, Any]] = {}
    for row in asked:
        if row.get("Attribute") in columns:
            templates.setdefault(row["Attribute"], []).append(row["Template"])
        else:
            context[row["Template"]] = {"split": row["split"], "entity": row.get("Entity")}
    shared = sum(n > 1 for n in count.values())
    notes = (f"{shared} names that several entities share are left out",) if shared else ()
    files = sorted(entities.glob("*.parquet")) + sorted(prompts.glob("*.parquet"))
    return Parts(
        values,
        templates,
        context,
        {row[name]: row["split"] for row in alone},
        {row["Template"]: row["split"] for row in asked},
        (entities, prompts, prompts, entities, prompts),
        _digest(files),
        notes,
    )


def _table(folder: Path) -> list[dict[str, Any]]:
    """Rows of all splits, each with its split; a missing value is None.

    Raises:
        TaskError: if a split is missing or a file cannot be read.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for split in SPLITS:
        paths = sorted(folder.glob(f"{split}-*.parquet"))
        if not paths:
            raise TaskError(
                f"{folder} has no table of split {split!r}. Expected {split}-….parquet, as in {HUB}."
            )
        for path in paths:
            try:
                frame = pd.read_parquet(path)
            except (OSError, ValueError) as error:
                raise TaskError(
                    f"{path} cannot be read as a table ({type(error).__name__}). Copy the file again."
                ) from error
            plain = frame.astype(object).where(frame.notna(), None)
            rows += [{**row, "split": split} for row in plain.to_dict("records")]
    if not rows:
        raise TaskError(f"{folder} holds no rows. Expected one an entity or template.")
    return rows
