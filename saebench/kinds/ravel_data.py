"""The published RAVEL data as tasks: five JSON files per entity type [Huang et al. 2024].

`ravel_<type>_entity_attributes.json` {entity: {attribute: value}},
`ravel_<type>_attribute_to_prompts.json` {attribute: [template with %s]},
`wikipedia_<type>_entity_prompts.json` {text with %s: {split, entity}},
`ravel_<type>_entity_to_split.json` {entity: train/val/test},
`ravel_<type>_prompt_to_split.json` {template: train/val/test}.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from saebench.errors import TaskError, unknown
from saebench.spec import EntitiesSpec, EntityTemplates, Task, load_task

HUB = "hij/ravel"
FILES = (
    "ravel_{}_entity_attributes.json",
    "ravel_{}_attribute_to_prompts.json",
    "wikipedia_{}_entity_prompts.json",
    "ravel_{}_entity_to_split.json",
    "ravel_{}_prompt_to_split.json",
)
_SPLITS = {"train": "fit", "val": "select", "test": "test"}
_ANY_FILE = re.compile(r"^(?:ravel|wikipedia)_(.+?)_(?:entity_attributes|attribute_to_prompts|"
                       r"entity_prompts|entity_to_split|prompt_to_split)\.json$")  # fmt: skip
CITATION = "Huang et al. 2024, RAVEL, arXiv 2402.17700 (its published data)"


class RavelTask(Task):
    """An entity type of the published data, in the form of a task folder of kind `entities`."""

    def __init__(
        self, folder: Path, spec: EntitiesSpec, rows: list[dict[str, str]], sha256: str
    ) -> None:
        self.folder, self.spec, self._rows, self.sha256 = folder, spec, rows, sha256

    def rows(self, file: str) -> list[dict[str, str]]:
        return [dict(row) for row in self._rows]


class _Release(NamedTuple):
    """The five files of an entity type, parsed; and the paths they came from, in the order of `FILES`."""

    values: dict[str, dict[str, str]]
    prompts: dict[str, list[str]]
    context: dict[str, dict[str, Any]]
    entity_split: dict[str, str]
    prompt_split: dict[str, str]
    paths: tuple[Path, ...]


def load_ravel(where: str, attributes: Sequence[str] = ()) -> list[RavelTask]:
    """A task per entity type found in a directory, or in the hub's copy `hij/ravel`.

    `attributes` keeps some of the attributes; without it all that have prompts are asked for.

    Raises:
        TaskError: if a file is missing or wrong; the message names file and entry.
    """
    folder = _fetch() if where == HUB and not Path(where).exists() else Path(where)
    if not folder.is_dir():
        raise TaskError(
            f"{where} is not a directory. Expected one with the files of the RAVEL release, such as"
            f" {FILES[0].format('city')}, or {HUB} for the copy on the hub."
        )
    types = sorted({m[1] for path in folder.iterdir() if (m := _ANY_FILE.match(path.name))})
    if not types:
        raise TaskError(
            f"{folder} holds no RAVEL data. Expected files such as {FILES[0].format('city')}:"
            " unpack data.tgz of the release and name the folder inside."
        )
    return [_task(folder, kind, attributes) for kind in types]


def choose(name: str, where: str, attributes: Sequence[str] = ()) -> list[RavelTask]:
    """The published tasks that `ravel` (all entity types) or `ravel/<type>` names.

    Raises:
        TaskError: for an entity type that the directory does not hold, or a wrong file.
    """
    found = load_ravel(where, attributes)
    chosen = [task for task in found if name in ("ravel", task.name)]
    if not chosen:
        raise TaskError(unknown("task", name, [task.name for task in found], f"In {where}."))
    return chosen


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


def _read(path: Path) -> tuple[Any, bytes]:
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
        content = path.read_bytes()
        found = json.loads(content, object_pairs_hook=unique)
    except OSError as error:
        raise TaskError(
            f"{path} cannot be read ({type(error).__name__}). Expected all five files of the RAVEL"
            f" release for its entity type: {', '.join(FILES).replace('{}', '<type>')}."
        ) from error
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{path} is not valid JSON ({error}). Copy the file again.") from error
    if not isinstance(found, dict):
        raise TaskError(f"{path} holds a {type(found).__name__}. Expected a JSON object.")
    return found, content


def _task(folder: Path, kind: str, attributes: Sequence[str]) -> RavelTask:
    paths = tuple(folder / name.format(kind) for name in FILES)
    parsed = [_read(path) for path in paths]
    values, prompts, context, entity_split, prompt_split = (found for found, _ in parsed)
    release = _Release(values, prompts, context, entity_split, prompt_split, paths)
    digest = hashlib.sha256()
    for path, (_, content) in zip(paths, parsed, strict=True):
        digest.update(f"{path.name}\0{len(content)}\0".encode())
        digest.update(content)
    known = [a for a in release.prompts if a != "Other"]
    for name in attributes:
        if name not in known:
            raise TaskError(unknown("attribute", name, known, f"In {paths[1]}."))
    chosen = [a for a in known if not attributes or a in attributes]
    digest.update("\0".join(chosen).encode())
    slot = "{entity}"
    templates = {a: _templates(release, a, slot) for a in chosen}
    spec = EntitiesSpec(
        name=f"ravel/{kind}", version=1, kind="entities", title=f"Published RAVEL data: {kind}",
        summary=f"Facts about entities of type {kind}.", citation=CITATION, table=paths[0].name,
        entity="entity", attributes=tuple(chosen), templates=templates, split="split",
        context=_context(release, slot), sites=load_task("ravel").spec.sites,
    )  # fmt: skip
    return RavelTask(folder, spec, _rows(release, chosen), digest.hexdigest())


def _rows(release: _Release, chosen: list[str]) -> list[dict[str, str]]:
    rows = []
    for entity, values in release.values.items():
        split = release.entity_split.get(entity)
        if split not in _SPLITS:
            raise TaskError(
                f"{release.paths[3]}: entity {entity!r} has the split {split!r}. Expected train, val"
                " or test for every entity."
            )
        row = {"entity": entity, "split": _SPLITS[split]}
        for name in chosen:
            value = values.get(name) if isinstance(values, dict) else None
            if not isinstance(value, str) or not value.strip():
                raise TaskError(
                    f"{release.paths[0]}: entity {entity!r} has no value for {name!r}. Expected a"
                    " text for every attribute that is asked for; leave the entity or the attribute"
                    " out (--ravel-attributes)."
                )
            row[name] = value
        rows.append(row)
    return rows


def _one_slot(path: Path, template: Any, slot: str) -> str:
    if not isinstance(template, str) or template.count("%s") != 1 or slot in template:
        raise TaskError(
            f"{path}: the template {template!r} does not hold %s exactly once. Expected %s where the"
            " entity's name goes."
        )
    return template.replace("%s", slot)


def _templates(release: _Release, attribute: str, slot: str) -> EntityTemplates:
    found: dict[str, list[str]] = {split: [] for split in _SPLITS.values()}
    listed = release.prompts[attribute]
    if not isinstance(listed, list):
        raise TaskError(f"{release.paths[1]}: {attribute!r} is not a list of templates.")
    for template in listed:
        text = _one_slot(release.paths[1], template, slot)
        split = release.prompt_split.get(template)
        if split not in _SPLITS:
            raise TaskError(
                f"{release.paths[4]}: the template {template!r} has the split {split!r}. Expected"
                " train, val or test for every template."
            )
        found[_SPLITS[split]].append(text)
    for ours, theirs in (("fit", "train"), ("test", "test")):
        if not found[ours]:
            raise TaskError(
                f"{release.paths[4]}: attribute {attribute!r} has no template of split {theirs!r}."
                " Expected some for train and for test."
            )
    return EntityTemplates(**{split: tuple(texts) for split, texts in found.items()})


def _context(release: _Release, slot: str) -> dict[str, tuple[str, ...]]:
    """Wikipedia texts by split; those written about one entity are left out."""

    def texts() -> Iterator[tuple[str, str]]:
        for template, about in release.context.items():
            text = _one_slot(release.paths[2], template, slot)
            split = about.get("split") if isinstance(about, dict) else None
            if split not in _SPLITS:
                raise TaskError(
                    f"{release.paths[2]}: the text {template!r} has the split {split!r}. Expected"
                    " train, val or test."
                )
            if not about.get("entity"):
                yield _SPLITS[split], text

    found: dict[str, list[str]] = {split: [] for split in _SPLITS.values()}
    for split, text in texts():
        found[split].append(text)
    return {split: tuple(some) for split, some in found.items()}
