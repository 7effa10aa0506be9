"""What is known of a language model without loading it, and of devices without asking torch."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from saebench.cache.code import code
from saebench.models.sources import find_source
from saebench.records.memo import Memo

DTYPES = ("float32", "bfloat16", "float16")
_ACCELERATORS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")
"""Device files of GPUs that torch may be able to use, on Linux."""


class ModelFacts(NamedTuple):
    """What an id and a choice of sites need of a model."""

    name: str
    sha256: str
    hook_points: tuple[str, ...]


def recall(name: str, dtype: str) -> ModelFacts | None:
    """What was seen of a model in a local directory that has not changed since, or None.

    Raises:
        ModelError: if there is no model of that name.
    """
    memo = _memo(name, dtype)
    facts = memo.recall() if memo else None
    return ModelFacts(facts["name"], facts["sha256"], tuple(facts["hook_points"])) if facts else None


def keep(asked: str, dtype: str, facts: ModelFacts) -> None:
    """Remembers what was seen of the model that was asked for by that name."""
    memo = _memo(asked, dtype)
    if memo:
        memo.keep(facts._asdict())


def _memo(asked: str, dtype: str) -> Memo | None:
    name, folder = find_source(asked)
    if not Path(folder).is_dir():
        # on the hub: only asking there says whether it is still the same
        return None
    made_by = code("models", libraries=("transformers", "transformer-lens"))
    return Memo("models", _files(Path(folder)), name=name, dtype=dtype, code=made_by)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.is_file())


def device_kind(device: str) -> str | None:
    """`cpu` where it is plain that nothing else can be meant; None where torch has to be asked."""
    if device == "cpu":
        return device
    plain = sys.platform == "linux" and not any(Path(path).exists() for path in _ACCELERATORS)
    return "cpu" if device == "auto" and plain else None
