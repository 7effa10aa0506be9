"""npz and torch files, which are both zip archives, read without running anything that is in them.

numpy reads arrays without unpickling, torch loads with `weights_only`. Both are asked only once the
archive's directory makes sense; sizes are known before anything is allocated.
"""

import math
import pickle
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from saebench.checkpoints.base import TensorInfo
from saebench.errors import CheckpointError

MAX_MEMBERS = 10_000
MAX_PICKLE = 16 * 2**20
MAX_RATIO = 20
"""Weights hardly compress; an archive that claims to expand further than this is refused."""
FLOOR = 16 * 2**20
MAX_SHARED = 4
"""Tied weights share their bytes; tensors that share them many times over would fill the memory."""


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
    """Tensors and plain values that a torch file names; no tensor is read.

    Raises:
        CheckpointError: if its pickle names code, or a claim does not fit the archive.
    """
    with _archive(path) as archive:
        room = _torch_entries(path, archive)
    with _weights_only(path):
        tree = flatten(torch.load(path, map_location="meta", weights_only=True))
    tensors = {name: value for name, value in tree.items() if isinstance(value, Tensor)}
    _check_claims(path, tensors, room)
    infos = {k: TensorInfo(str(t.dtype).removeprefix("torch."), tuple(t.shape)) for k, t in tensors.items()}
    return infos, {k: v for k, v in tree.items() if k not in tensors}


def read_torch(path: Path) -> dict[str, Tensor]:
    """The tensors of a torch file whose header was checked."""
    with _archive(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise CheckpointError(f"{path}: the checksum of {damaged} is wrong. Fetch or save it again.")
    with _weights_only(path):
        # mapped, so that a tensor that claims more than there is cannot read beyond the file
        tree = flatten(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
    return {k: v.detach().clone() for k, v in tree.items() if isinstance(v, Tensor) and v.numel()}


@contextmanager
def _weights_only(path: Path) -> Iterator[None]:
    """What torch refuses to unpickle, said in one paragraph."""
    try:
        with warnings.catch_warnings():
            # of odd pickle protocols: what cannot be read raises
            warnings.simplefilter("ignore")
            yield
    except pickle.UnpicklingError as error:
        named = next((w for line in str(error).splitlines() for w in _globals(line)), "more than weights")
        raise CheckpointError(
            f"{path}: its pickle holds {named}, so loading it could run code. It is not opened."
            " Ask for, or save, the weights as safetensors or as a state dict."
        ) from error


def _globals(line: str) -> list[str]:
    """The global that a line of torch's refusal names."""
    _, found, rest = line.partition("GLOBAL ")
    return [rest.split(" was not")[0].strip()] if found else []


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


def _torch_entries(path: Path, archive: zipfile.ZipFile) -> list[int]:
    """Sizes of the storages in a torch file.

    Raises:
        CheckpointError: if it is no torch file of weights.
    """
    members = archive.infolist()
    pickles = [m for m in members if m.filename.rsplit("/", 1)[-1] == "data.pkl"]
    if len(pickles) != 1 or any(m.filename.endswith("constants.pkl") for m in members):
        raise CheckpointError(
            f"{path}: a zip archive with {len(pickles)} data.pkl; expected a torch file of weights"
            " (TorchScript archives hold code and are not opened)."
        )
    if pickles[0].file_size > MAX_PICKLE:
        raise CheckpointError(f"{path}: its data.pkl has {pickles[0].file_size} bytes; far too many.")
    if any(m.compress_type != zipfile.ZIP_STORED for m in members):
        raise CheckpointError(f"{path}: a torch file with compressed entries, which torch never writes.")
    folder = pickles[0].filename.removesuffix("data.pkl") + "data/"
    return [m.file_size for m in members if m.filename.startswith(folder)]


def _check_claims(path: Path, tensors: dict[str, Tensor], room: list[int]) -> None:
    """Holds what tensors claim against the storages that are there."""
    for name, tensor in tensors.items():
        claimed = tensor.untyped_storage().nbytes()
        # a stride of 0 would make few bytes into many
        if claimed not in (0, *room) or tensor.nbytes > claimed:
            raise CheckpointError(
                f"{path}: tensor {name!r} claims shape {tuple(tensor.shape)} in {claimed} bytes, and no"
                " such bytes are there. The file is damaged; fetch or save it again."
            )
    total = sum(tensor.nbytes for tensor in tensors.values())
    if total > MAX_SHARED * sum(room):
        raise CheckpointError(
            f"{path}: its tensors claim {total} bytes out of {sum(room)}, many times over. It is not opened."
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
        elif isinstance(value, Tensor | int | float | str | bool):
            flat[str(key)] = value
        if len(flat) > MAX_MEMBERS:
            raise ValueError(f"holds more than {MAX_MEMBERS} entries")
    return flat


def _has_tensor(tree: dict[Any, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in tree.values())
