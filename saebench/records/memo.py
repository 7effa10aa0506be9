"""Facts about files that take long to find out, remembered while the files stay as they are.

A digest of weights is known only once they have been read. What was read is remembered under the
files' names, sizes and times of change, and under the code that read it, so that a finished result
can be found again without reading anything. Forgetting costs time and nothing else.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from saebench import demo
from saebench.cache import cache_folder
from saebench.cache.code import code
from saebench.errors import StoreError
from saebench.records.files import write_text
from saebench.records.result import DictionaryInfo

_SETTLED_SECONDS = 2.0
"""A file that changed this recently may change again without its time moving."""
_MOST_FILES = 2000
"""A checkpoint in a folder of more files is read every time."""


class Memo:
    """What is known of some files and named circumstances; one JSON document each, in the cache."""

    def __init__(self, kind: str, files: Iterable[Path] = (), **circumstances: object) -> None:
        stats = [(path, path.stat()) for path in sorted(files)]
        seen = [
            (str(path.absolute()), about.st_size, about.st_mtime_ns, about.st_ctime_ns)
            for path, about in stats
        ]
        latest = max((max(about.st_mtime, about.st_ctime) for _, about in stats), default=0.0)
        self._settled = time.time() - latest > _SETTLED_SECONDS
        key = json.dumps([seen, circumstances], sort_keys=True, default=str)
        self.path = cache_folder("facts") / kind / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"

    def recall(self) -> Any:
        """What was remembered, or None."""
        try:
            return json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            # never written, or written by a process that was killed: as good as forgotten
            return None

    def keep(self, facts: object) -> None:
        """Remembers facts, unless the files have only just been written."""
        if not self._settled:
            return
        try:
            write_text(self.path, json.dumps(facts))
        except StoreError:
            # a cache that cannot be written only costs time
            return


class Known(NamedTuple):
    """A checkpoint without its weights: enough to look for its results."""

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
    memo = _checkpoint(spec, architecture)
    if memo is None:
        return None
    facts = memo.recall()
    try:
        info, warnings = DictionaryInfo(**facts.pop("info")), tuple(facts.pop("warnings"))
        return Known(info, **facts, warnings=warnings)
    except (AttributeError, TypeError, KeyError, ValidationError):
        # never read, or the cache is damaged
        return None


def remember(spec: str, architecture: str | None, known: Known) -> None:
    """Keeps what is known of `demo:NAME` or a path."""
    memo = _checkpoint(spec, architecture)
    if memo:
        memo.keep({**known._asdict(), "info": known.info.model_dump(mode="json")})


def _checkpoint(spec: str, architecture: str | None) -> Memo | None:
    """The memo of a checkpoint, with all files that say what it is; None for what is no path."""
    path = demo.folder(spec.removeprefix("demo:")) if spec.startswith("demo:") else Path(spec)
    path = path.expanduser().absolute()
    if not path.exists():
        return None
    folder = path if path.is_dir() else path.parent
    try:
        folders = [folder, folder.parent, *(p for p in _entries(folder) if p.is_dir())]
        files = [file for one in folders for file in _entries(one) if file.is_file()]
    except OSError:
        return None
    if len(files) > _MOST_FILES:
        return None
    read_by = code("checkpoints", "dictionaries")
    return Memo("checkpoints", files, spec=spec, path=path, architecture=architecture, code=read_by)


def _entries(folder: Path) -> Iterator[Path]:
    return islice(folder.iterdir(), _MOST_FILES)
