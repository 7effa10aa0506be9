"""npz and torch files, which are both zip archives, read without unpickling anything.

A torch file names its tensors in a pickle. That pickle is only *read*, by the small interpreter
in `pickles.py` that knows dicts, numbers and tensors and calls nothing; `torch.load` is not used.
"""

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from saebench.checkpoints.base import TensorInfo
from saebench.checkpoints.pickles import Described, Storage, describe
from saebench.errors import CheckpointError

MAX_MEMBERS = 10_000
MAX_PICKLE = 16 * 2**20
MAX_RATIO = 20
"""Weights hardly compress; an archive that claims to expand further than this is refused."""
FLOOR = 16 * 2**20


def is_npz(path: Path) -> bool:
    """Whether a zip archive holds nothing but numpy arrays."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        return bool(names) and all(name.endswith(".npy") for name in names)


def npz_header(path: Path) -> dict[str, TensorInfo]:
    """What the arrays of an npz file claim to be, checked against the archive's directory.

    Raises:
        CheckpointError: for zip bombs, claims that do not fit, or arrays of Python objects.
    """
    tensors = {}
    with _archive(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as handle:
                version = npy.read_magic(handle)
                read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                shape, _, dtype = read(handle)
                room = member.file_size - handle.tell()
            if dtype.kind not in "fiub":
                raise CheckpointError(
                    f"{path}: array {member.filename!r} has dtype {dtype}; expected numbers."
                    " Arrays of objects are pickles, which are never opened."
                )
            if math.prod(shape) * dtype.itemsize != room:
                raise CheckpointError(
                    f"{path}: array {member.filename!r} claims shape {shape} of {dtype}, but"
                    f" {room} bytes of data follow. The file is damaged; fetch or save it again."
                )
            tensors[member.filename.removesuffix(".npy")] = TensorInfo(str(dtype), shape)
    return tensors


def read_npz(path: Path) -> dict[str, Tensor]:
    """The arrays of an npz file whose header was checked."""
    with np.load(path, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    native = {k: v.astype(v.dtype.newbyteorder("="), order="C") for k, v in found.items()}
    return {k: torch.from_numpy(v) for k, v in native.items()}


def torch_header(path: Path) -> tuple[dict[str, TensorInfo], dict[str, Any]]:
    """Tensors and plain values that a torch file names.

    Raises:
        CheckpointError: if its pickle holds anything else, or a claim does not fit the archive.
    """
    with _archive(path) as archive:
        tree, _ = _describe(path, archive)
    tensors = {
        name: TensorInfo(value.storage.dtype_name, value.size)
        for name, value in tree.items()
        if isinstance(value, Described)
    }
    return tensors, {k: v for k, v in tree.items() if not isinstance(v, Described)}


def read_torch(path: Path) -> dict[str, Tensor]:
    """The tensors of a torch file, built from its bytes."""
    with _archive(path) as archive:
        tree, prefix = _describe(path, archive)
        buffers: dict[str, Tensor] = {}
        state = {}
        for name, value in tree.items():
            if not isinstance(value, Described) or not math.prod(value.size):
                continue
            key = value.storage.key
            if key not in buffers:
                data = bytearray(archive.read(f"{prefix}data/{key}"))
                buffers[key] = torch.frombuffer(data, dtype=torch.uint8)
            flat = buffers[key].view(value.storage.dtype)
            state[name] = flat.as_strided(value.size, value.stride, value.offset).clone()
    return state


def _archive(path: Path) -> zipfile.ZipFile:
    """The opened archive, once its directory makes sense."""
    archive = zipfile.ZipFile(path)
    members = archive.infolist()
    names = [member.filename for member in members]
    size = path.stat().st_size
    claimed = sum(member.file_size for member in members)
    reason = None
    if len(names) > MAX_MEMBERS or len(set(names)) != len(names):
        reason = f"{len(names)} entries, {len(set(names))} different names"
    elif any(name.startswith("/") or ".." in Path(name).parts or "\\" in name for name in names):
        reason = "an entry whose name leaves the archive"
    elif claimed > max(FLOOR, MAX_RATIO * size):
        reason = f"{claimed} bytes out of a file of {size}, as zip bombs do"
    elif any(
        m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or m.flag_bits & 1 for m in members
    ):
        reason = "entries that are encrypted or compressed in an unusual way"
    if reason:
        archive.close()
        raise CheckpointError(f"{path}: the archive has {reason}. It is not opened.")
    return archive


def _describe(path: Path, archive: zipfile.ZipFile) -> tuple[dict[str, Any], str]:
    """The flat state dict that the pickle of a torch file describes, and the archive's folder."""
    names = archive.namelist()
    pickles = [name for name in names if name.rsplit("/", 1)[-1] == "data.pkl"]
    if len(pickles) != 1 or any(name.endswith("constants.pkl") for name in names):
        raise CheckpointError(
            f"{path}: a zip archive with {len(pickles)} data.pkl; expected a torch file of weights"
            " (TorchScript archives hold code and are not opened)."
        )
    info = archive.getinfo(pickles[0])
    if info.file_size > MAX_PICKLE:
        raise CheckpointError(f"{path}: its data.pkl has {info.file_size} bytes; far too many.")
    prefix = pickles[0].removesuffix("data.pkl")
    order = f"{prefix}byteorder"
    if order in names and archive.read(order) != b"little":
        raise CheckpointError(f"{path}: written on a big-endian machine. Save it again on another.")
    tree = flatten(describe(archive.read(info), path))
    for name, value in tree.items():
        if isinstance(value, Described):
            _check(path, archive, prefix, name, value)
    return tree, prefix


def _check(path: Path, archive: zipfile.ZipFile, prefix: str, name: str, t: Described) -> None:
    """Holds a tensor's claims against the bytes of its storage."""
    storage: Storage = t.storage
    numbers = (*t.size, *t.stride, t.offset, storage.numel)
    ok = len(t.size) == len(t.stride) and all(type(n) is int and n >= 0 for n in numbers)
    entry = f"{prefix}data/{storage.key}"
    room = archive.getinfo(entry).file_size if entry in archive.namelist() else -1
    steps = zip(t.size, t.stride, strict=True) if ok else ()
    reach = t.offset + sum((n - 1) * s for n, s in steps) + 1 if ok else 0
    # a stride of 0 would make few bytes into many
    dense = ok and math.prod(t.size) <= max(storage.numel, 1)
    full = room == storage.numel * storage.itemsize if ok else False
    fits = full and (not math.prod(t.size) or reach * storage.itemsize <= room)
    if not (ok and dense and fits):
        raise CheckpointError(
            f"{path}: tensor {name!r} claims shape {t.size} in a storage of {storage.numel}, but"
            f" {room} bytes are there. The file is damaged; fetch or save it again."
        )


def flatten(tree: Any, depth: int = 2) -> dict[str, Any]:
    """A nested state dict as one level with dotted names; a lone wrapper (`state_dict`) goes.

    Raises:
        ValueError: if it is not a dict.
    """
    if not isinstance(tree, dict):
        raise ValueError(f"holds a {type(tree).__name__}, expected a dict of tensors")
    inner = [v for v in tree.values() if isinstance(v, dict) and _has_tensor(v)]
    if len(inner) == 1 and not _has_tensor(tree):
        tree = inner[0]
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and depth:
            flat |= {f"{key}.{k}": v for k, v in flatten(value, depth - 1).items()}
        elif isinstance(value, Described | int | float | str | bool):
            flat[str(key)] = value
        if len(flat) > MAX_MEMBERS:
            raise ValueError(f"holds more than {MAX_MEMBERS} entries")
    return flat


def _has_tensor(tree: dict[Any, Any]) -> bool:
    return any(isinstance(value, Described) for value in tree.values())
