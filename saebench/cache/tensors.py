"""What takes long to compute and follows from digests: made once on this machine, then read."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from saebench.cache import shelf
from saebench.cache.code import code

_CODE = (
    "answers.py",
    "cross_section.py",
    "dictionary.py",
    "axes",
    "dictionaries",
    "edits",
    "kinds",
    "measures",
    "models",
    "patching",
    "scoring",
)
"""Source that what is kept depends on; other source makes it again."""
_LIBRARIES = ("torch", "transformers", "transformer-lens", "numpy", "scipy")


def cached(
    kind: str,
    parts: Sequence[object] | None,
    make: Callable[[], Mapping[str, Tensor]],
    device: torch.device | str = "cpu",
) -> dict[str, Tensor]:
    """What `make` gives, read from the cache where it was made before from the same parts by the same code.

    `parts` name everything that it follows from; None where that is not known, and it is made. The same
    bytes come back, on `device`. Entries that are damaged or another's are made again. Processes that need
    the same at once wait for the first of them.
    """
    if parts is None or not shelf.limit():
        return dict(make())
    path = shelf.place(kind, [code(*_CODE, libraries=_LIBRARIES), *parts])
    found = _read(path)
    if found is None:
        with shelf.alone(path):
            found = _read(path)  # another process may have made it meanwhile
            if found is None:
                made = dict(make())
                shelf.put(path, _packed(path.stem, made))
                return made
    return {name: tensor.to(device) for name, tensor in found.items()}


def _packed(key: str, tensors: Mapping[str, Tensor]) -> bytes:
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    return safetensors.torch.save(plain, {"saebench": key, "sha256": _total(plain)})


def _read(path: Path) -> dict[str, Tensor] | None:
    """The tensors of an entry; None if it is not there, or not what its name says."""
    data = shelf.get(path)
    if data is None:
        return None
    try:
        size = int.from_bytes(data[:8], "little")
        found = safetensors.torch.load(data)
        said = json.loads(data[8 : 8 + size]).get("__metadata__", {})
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        shelf.tell(f"an entry of the cache is damaged ({error}); it is made again")
        return None
    if said != {"saebench": path.stem, "sha256": _total(found)}:
        shelf.tell("an entry of the cache is not what its name says; it is made again")
        return None
    return found


def _total(tensors: Mapping[str, Tensor]) -> str:
    return hashlib.sha256(
        "".join(f"{name} {digest(tensors[name])}" for name in sorted(tensors)).encode()
    ).hexdigest()


def digest(tensor: Tensor | None) -> str:
    """SHA-256 of a tensor's bytes, shape and type."""
    if tensor is None:
        return "none"
    plain = tensor.detach().cpu().contiguous()
    total = hashlib.sha256(f"{plain.dtype} {tuple(plain.shape)}".encode())
    total.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
