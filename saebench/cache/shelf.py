"""Entries of the cache: whole files under the digest of what they follow from, of limited total size.

Any number of processes read and write at once: an entry appears by a rename, so it is whole or not
there, and who reads one that is just being thrown out has it in memory. Of several that lack the same
entry one makes it and the others wait. The entries used longest ago go first. Nothing here imports torch.
"""

import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from saebench.cache import cache_folder
from saebench.errors import parse_bytes

LIMIT = "10GB"
"""Bytes of all entries, where `SAEBENCH_CACHE_SIZE` says nothing; 0 keeps none."""
ROOM = 0.8
"""To which share of the limit it is emptied once it is full."""
FOLDER = "tensors"

log = logging.getLogger("saebench")
_told: set[str] = set()


def limit() -> int:
    """Bytes that all entries may take.

    Raises:
        OptionError: if `SAEBENCH_CACHE_SIZE` is no size.
    """
    text = os.environ.get("SAEBENCH_CACHE_SIZE", LIMIT)
    return 0 if text.strip() == "0" else parse_bytes(text) or 0


def place(kind: str, parts: Sequence[object]) -> Path:
    """Where the entry of a kind stands that follows from some parts, each a text, a number or a list."""
    key = hashlib.sha256(json.dumps([kind, *parts], sort_keys=True, default=str).encode()).hexdigest()
    return cache_folder(FOLDER) / kind / f"{key[:40]}.safetensors"


def put(path: Path, data: bytes) -> None:
    """Writes an entry. A cache that cannot be written costs time and nothing else: one line says so."""
    most = limit()
    if len(data) > most // 4:
        # it would throw out most of the others
        return
    part = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        tell(f"the cache cannot be written ({error.strerror or error}); going on without it")
        with_no_error(part)
        return
    make_room(most)


def get(path: Path) -> bytes | None:
    """An entry's bytes, which was then used just now; None if it is not there or cannot be read."""
    try:
        data = path.read_bytes()
        os.utime(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        tell(f"an entry of the cache cannot be read ({error.strerror or error}); it is made again")
        return None
    return data


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Waits while another process or thread makes the entry; a process that dies makes nobody wait.

    Where files cannot be locked (Windows, some network disks, a cache that cannot be written) nobody
    waits, and what is made twice is the same.
    """
    lock = path.with_suffix(".lock")
    held = _locked(lock)
    try:
        yield
    finally:
        if held is not None:
            with_no_error(lock)
            os.close(held)


def _locked(lock: Path) -> int | None:
    """An open, locked file at that path; None where there is no such thing."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        while True:
            held = os.open(lock, os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(held, fcntl.LOCK_EX)
                if os.fstat(held).st_ino == lock.stat().st_ino:
                    return held
            except FileNotFoundError:
                pass  # who held it has removed it: it locks nothing any more
            except OSError:
                os.close(held)
                raise
            os.close(held)
    except OSError:
        return None


def tell(what: str) -> None:
    """Says something once for each process."""
    if what not in _told:
        _told.add(what)
        log.warning("saebench: %s", what)


class Entry(NamedTuple):
    path: Path
    bytes: int
    used: float
    """When, in seconds since 1970."""


def entries() -> list[Entry]:
    """All entries, those used longest ago first."""
    found = []
    for path in cache_folder(FOLDER).glob("*/*.safetensors"):
        try:
            about = path.stat()
        except OSError:
            continue  # another process has thrown it out
        found.append(Entry(path, about.st_size, about.st_mtime))
    return sorted(found, key=lambda entry: entry.used)


def make_room(most: int) -> None:
    """Throws out what was used longest ago, if there is more than that."""
    there = entries()
    total = sum(entry.bytes for entry in there)
    if total <= most:
        return
    for entry in there:
        with_no_error(entry.path)
        total -= entry.bytes
        if total <= ROOM * most:
            return


def with_no_error(path: Path) -> None:
    """Removes a file that may be gone, or may not be removed."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        tell(f"{path} cannot be removed ({error.strerror or error})")


class Kept(NamedTuple):
    """What the cache holds of a kind."""

    kind: str
    entries: int
    bytes: int


def info() -> list[Kept]:
    """What the cache holds, by kind: tensors, and what is remembered of files."""
    root = cache_folder("")
    folders = [(path.name, path) for path in sorted(root.glob("*/")) if path.name != FOLDER]
    folders += [(f"{FOLDER}/{path.name}", path) for path in sorted((root / FOLDER).glob("*/"))]
    found = []
    for name, folder in folders:
        files = [path for path in folder.rglob("*") if path.is_file()]
        found.append(Kept(name, len(files), sum(path.stat().st_size for path in files)))
    return found


def clear(kinds: Iterable[str] = ()) -> int:
    """Removes tensors, all or of some kinds; returns the bytes. Models that were fetched stay."""
    chosen, freed = set(kinds), 0
    for entry in entries():
        if not chosen or entry.path.parent.name in chosen:
            freed += entry.bytes
            with_no_error(entry.path)
    if not chosen:
        shutil.rmtree(cache_folder(FOLDER), ignore_errors=True)
    return freed
