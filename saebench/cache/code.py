"""What made something that is kept: a digest of source and libraries, so that other code makes it again."""

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path


def code(*packages: str, libraries: Iterable[str] = ()) -> str:
    """Digest of the source of some packages or files of saebench and of the versions of libraries."""
    return _code(packages, tuple(libraries))


@cache
def _code(packages: tuple[str, ...], libraries: tuple[str, ...]) -> str:
    total = hashlib.sha256()
    for package in packages:
        place = Path(__file__).parents[1] / package
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            total.update(path.read_bytes())
    for library in libraries:
        total.update(f"{library} {metadata.version(library)}\n".encode())
    return total.hexdigest()
