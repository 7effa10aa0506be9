"""Where a result comes from, and the digest of everything that can change its numbers."""

import hashlib
import json
import resource
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from saebench.records.result import Provenance

_PACKAGES = ("torch", "transformer_lens", "sae_lens", "transformers", "numpy")


def version() -> str:
    try:
        return metadata.version("saebench")
    except metadata.PackageNotFoundError:
        return "0.0.0+source"


def identity(**parts: object) -> str:
    """SHA-256 of named parts as canonical JSON: the id of a result."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _git(*arguments: str) -> str | None:
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        # no git on this machine, or not a repository: the commit is then unknown, which is allowed
        return None


def now() -> str:
    """The time as results give it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def command() -> str:
    """The command line of this process."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def gather(device: str, dtype: str, seconds: float) -> Provenance:
    """The provenance of a result that took `seconds` to compute."""
    commit, status = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "-uno")
    return Provenance(
        saebench=version(),
        commit=commit.strip() if commit else None,
        dirty=bool(status.strip()) if status is not None else None,
        command=command(),
        device=device,
        dtype=dtype,
        seconds=round(seconds, 3),
        peak_memory_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        versions={name: _version(name) for name in _PACKAGES},
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
