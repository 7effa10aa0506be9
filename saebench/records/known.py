"""What is known of a checkpoint that was read before: enough to look for its results without opening it.

Kept in the cache, one small file for each, under a digest of where it lies, of the sizes and times of its
files and of the readers' own; what was changed since is not found. Nothing here imports torch.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from saebench import demo
from saebench.cache import cache_folder
from saebench.errors import SaebenchError
from saebench.records.files import write_all
from saebench.records.result import DictionaryInfo

PACKAGE = Path(__file__).parents[1]
_MOST = 2000
"""Files whose times are looked at; a folder of more is read every time."""


class Known(NamedTuple):
    """A checkpoint without its weights."""

    info: DictionaryInfo
    """`sha256` is empty where the digest takes reading the weights, or activations."""
    hook: str | None
    """Where it writes, and reads too unless `reads` says otherwise."""
    reads: str | None = None
    model_name: str | None = None
    prepend_bos: bool | None = None
    """Whether the texts it was trained on began with a BOS token."""
    task: str | None = None
    """The synthetic task whose data it was trained on, and that task's digest."""
    task_sha256: str | None = None
    warnings: tuple[str, ...] = ()


def recall(spec: str, architecture: str | None = None) -> Known | None:
    """What is known of `demo:NAME` or a path; None for other names, and for what was not read before."""
    place = _place(spec, architecture)
    if place is None or not place.is_file():
        return None
    try:
        values = json.loads(place.read_text(encoding="utf-8"))
        return Known(
            DictionaryInfo(**values.pop("info")), **{**values, "warnings": tuple(values["warnings"])}
        )
    except (ValueError, TypeError, KeyError, ValidationError):
        return None


def remember(spec: str, architecture: str | None, known: Known) -> None:
    """Keeps what is known of `demo:NAME` or a path; a cache that cannot be written is no error."""
    place = _place(spec, architecture)
    if place is None:
        return
    values = {**known._asdict(), "info": known.info.model_dump(mode="json")}
    try:
        write_all({place: json.dumps(values).encode()}, place.parent)
    except (OSError, SaebenchError):
        return


def _place(spec: str, architecture: str | None) -> Path | None:
    """The file in the cache; None for what is no path."""
    path = demo.folder(spec.removeprefix("demo:")) if spec.startswith("demo:") else Path(spec)
    path = path.expanduser().absolute()
    if not path.exists():
        return None
    folder = path if path.is_dir() else path.parent
    files = [*_files([folder, folder.parent]), *_files(p for p in _entries(folder) if p.is_dir())]
    readers = _files([PACKAGE / "checkpoints", PACKAGE / "dictionaries"])
    if len(files) > _MOST:
        return None
    facts = [spec, str(path), architecture, *(_times(file) for file in (*files, *readers))]
    return cache_folder("checkpoints") / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]}.json"


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())[:_MOST]
    except OSError:
        return []


def _files(folders: Iterable[Path]) -> list[Path]:
    return [file for folder in folders for file in _entries(folder) if file.is_file()]


def _times(file: Path) -> list[object]:
    about = file.stat()
    return [str(file), about.st_size, about.st_mtime_ns]
