"""Files of results: names that are inert in a path, and writes that are whole or not at all."""

import hashlib
import os
import re
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from saebench.errors import StoreError

_LONGEST_NAME = 80


def safe_name(text: str) -> str:
    """A name as one path component: inert, at most 80 characters, different for different names.

    Slashes become `--` and colons `=`. Whatever cannot be read back from that (control characters,
    `..`, quotes, emoji, leading dots, great length) is replaced, and a digest of the whole name is
    put behind `~` so that two such names do not meet.
    """
    name = text.replace("/", "--").replace(":", "=")
    plain = re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._+=-]*[A-Za-z0-9])?", name) and ".." not in name
    if plain and len(name) <= _LONGEST_NAME and name.replace("--", "/").replace("=", ":") == text:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    words = re.sub(r"[^A-Za-z0-9.+-]+", "_", name).replace("..", "_").strip("._+-")
    return f"{words[: _LONGEST_NAME - 11].rstrip('._+-') or 'unnamed'}~{digest}"


def write_all(contents: dict[Path, bytes], out: Path) -> None:
    """Writes every file beside its place, then moves them there in the order given.

    `out` is the directory that errors name.

    Raises:
        StoreError: if one cannot be written; no half file is left behind.
    """
    temporary = {path: path.with_name(f".{secrets.token_hex(8)}.tmp") for path in contents}
    try:
        for path, data in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary[path], "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for path in contents:
            os.replace(temporary[path], path)
    except OSError as error:
        raise StoreError(
            f"Cannot write results under {str(out)!r}: {error.strerror or error}. Nothing was left"
            " half-written. Choose a directory that can be written and has room, with --out DIR."
        ) from error
    finally:
        for path in temporary.values():
            # already moved, or never made
            if path.parent.is_dir() and os.access(path.parent, os.W_OK):
                path.unlink(missing_ok=True)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until what is being written stands whole."""
    if threading.current_thread() is not threading.main_thread():
        # only the main thread is ever interrupted
        yield
        return
    asked: list[tuple[int, FrameType | None]] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: asked.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if asked and callable(before):
            before(*asked[0])


def write_text(path: Path, text: str) -> None:
    """Writes a text file at once or not at all.

    Raises:
        StoreError: if it cannot be written.
    """
    write_all({Path(path): text.encode()}, Path(path).parent)


def ensure_writable(out: Path) -> None:
    """Refuses a directory that cannot be written, before anything is computed.

    Raises:
        StoreError: naming the directory and the reason.
    """
    probe = Path(out) / f".{secrets.token_hex(8)}.tmp"
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StoreError(
            f"Cannot write results under {str(out)!r}: {error.strerror or error}. Choose a directory"
            " that can be written, with --out DIR."
        ) from error
