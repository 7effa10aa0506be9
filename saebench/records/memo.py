"""Facts about files that take long to find out, remembered while the files stay as they are.

A digest of weights is known only once they have been read. What was read is remembered under the
files' names, sizes and times of change, and under the code that read it, so that a finished result
can be found again without reading anything. Forgetting costs time and nothing else.
"""

import hashlib
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from saebench.cache import cache_folder
from saebench.errors import StoreError
from saebench.records.files import write_text

_SETTLED_SECONDS = 2.0
"""A file that changed this recently may change again without its time moving."""


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
