"""What is made once and kept on this machine: folders that stand whole under their final name or not at all."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

__all__ = ["build_folder", "cache_folder"]


def cache_folder(kind: str) -> Path:
    """The folder of `kind` below `SAEBENCH_CACHE`, by default `~/.cache/saebench`."""
    root = os.environ.get("SAEBENCH_CACHE") or Path.home() / ".cache" / "saebench"
    return Path(root).expanduser() / kind


def build_folder(path: Path, make: Callable[[Path], None]) -> Path:
    """Fills a folder with `make` under another name and gives it its final one; of several builders
    the first wins. What is half done when `make` fails is removed."""
    if path.is_dir():
        return path
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        make(part)
        try:
            part.rename(path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return path
