"""The published RAVEL data as tasks, one an entity type [Huang et al. 2024]."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from saebench.errors import TaskError, unknown
from saebench.kinds.entities.release_files import Release, entity_types, open_release, read_release
from saebench.spec import EntitiesSpec, EntityTemplates, Task, load_task

_SPLITS = {"train": "fit", "val": "select", "test": "test"}
CITATION = "Huang et al. 2024, RAVEL, arXiv 2402.17700 (its published data)"


class RavelTask(Task):
    """An entity type of the published data, in the form of a task folder of kind `entities`."""

    def __init__(
        self,
        folder: Path,
        spec: EntitiesSpec,
        rows: list[dict[str, str]],
        sha256: str,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.folder, self.spec, self._rows, self.sha256 = folder, spec, rows, sha256
        self.notes = notes

    def rows(self, file: str) -> list[dict[str, str]]:
        return [dict(row) for row in self._rows]


def choose(name: str, where: str, attributes: Sequence[str] = ()) -> list[RavelTask]:
    """The published tasks that `ravel` (all entity types) or `ravel/<type>` names.

    Only those are read: the attributes of one type are unknown to the others.

    Raises:
        TaskError: for an entity type that the directory does not hold, or a wrong file.
    """
    folder = open_release(where)
    kinds = entity_types(folder)
    chosen = [kind for kind in kinds if name in ("ravel", f"ravel/{kind}")]
    if not chosen:
        raise TaskError(unknown("task", name, [f"ravel/{kind}" for kind in kinds], f"In {where}."))
    return [_task(folder, kind, attributes) for kind in chosen]


def _task(folder: Path, kind: str, attributes: Sequence[str]) -> RavelTask:
    release = read_release(folder, kind)
    known = [a for a in release.prompts if a != "Other"]
    for name in attributes:
        if name not in known:
            raise TaskError(unknown("attribute", name, known, f"In {release.paths[1]}."))
    chosen = [a for a in known if not attributes or a in attributes]
    digest = hashlib.sha256("\0".join((release.sha256, *chosen)).encode())
    slot = "{entity}"
    templates = {a: _templates(release, a, slot) for a in chosen}
    spec = EntitiesSpec(
        name=f"ravel/{kind}",
        version=1,
        kind="entities",
        title=f"Published RAVEL data: {kind}",
        summary=f"Facts about entities of type {kind}.",
        citation=CITATION,
        table=release.paths[0].name,
        entity="entity",
        attributes=tuple(chosen),
        templates=templates,
        split="split",
        context=_context(release, slot),
        sites=load_task("ravel").spec.sites,
    )
    return RavelTask(folder, spec, _rows(release, chosen), digest.hexdigest(), release.notes)


def _rows(release: Release, chosen: list[str]) -> list[dict[str, str]]:
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


def _templates(release: Release, attribute: str, slot: str) -> EntityTemplates:
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


def _context(release: Release, slot: str) -> dict[str, tuple[str, ...]]:
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
