"""The published RAVEL data as tasks, one an entity type [Huang et al. 2024]."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from saebench.errors import TaskError, unknown
from saebench.kinds.entities.release_files import entity_types, open_release, read_release
from saebench.kinds.entities.release_models import SLOT, Release, check
from saebench.spec import EntitiesSpec, EntityTemplates, Task, load_task

_SPLITS = {"train": "fit", "val": "select", "test": "test"}
CITATION = "Huang et al. 2024, RAVEL, arXiv 2402.17700 (its published data)"


class RavelTask(Task[EntitiesSpec]):
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
    parts = read_release(folder, kind)
    known = [a for a in parts.prompts if a != "Other"]
    for name in attributes:
        if name not in known:
            raise TaskError(unknown("attribute", name, known, f"In {parts.paths[1]}."))
    chosen = [a for a in known if not attributes or a in attributes]
    release = check(parts, chosen)
    spec = EntitiesSpec(
        name=f"ravel/{kind}",
        version=1,
        kind="entities",
        title=f"Published RAVEL data: {kind}",
        summary=f"Facts about entities of type {kind}.",
        citation=CITATION,
        table=parts.paths[0].name,
        entity="entity",
        attributes=tuple(chosen),
        templates={a: _templates(release, a, parts.paths[4]) for a in chosen},
        split="split",
        context=_by_split((text, about.split) for text, about in release.context.items() if not about.entity),
        sites=load_task("ravel").spec.sites,
    )
    rows = [
        {"entity": entity, "split": _SPLITS[release.entity_split[entity]], **values}
        for entity, values in release.values.items()
    ]
    digest = hashlib.sha256("\0".join((parts.sha256, *chosen)).encode())
    return RavelTask(folder, spec, rows, digest.hexdigest(), parts.notes)


def _templates(release: Release, attribute: str, path: Path) -> EntityTemplates:
    templates = _by_split((t, release.prompt_split[t]) for t in release.prompts[attribute])
    for split in ("train", "test"):
        if not templates[_SPLITS[split]]:
            raise TaskError(
                f"{path}: attribute {attribute!r} has no template of split {split!r}. Expected some for"
                " train and for test."
            )
    return EntityTemplates(**templates)


def _by_split(texts: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Texts under our names of the splits, with our slot."""
    out: dict[str, list[str]] = {split: [] for split in _SPLITS.values()}
    for text, split in texts:
        out[_SPLITS[split]].append(text.replace("%s", SLOT))
    return {split: tuple(some) for split, some in out.items()}
