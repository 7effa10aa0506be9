"""What lies at a path, read without trusting it: sizes and names first, tensors later.

Nothing here allocates more than a header, and nothing is executed. Every claim of a header is held
against the size of the file before a tensor of that size is made.
"""

import json
import stat
from codecs import BOM_UTF8
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from saebench.checkpoints.archives import is_npz, npz_header, read_npz, read_torch, torch_header
from saebench.checkpoints.base import Contents, TensorInfo, Weights, reading
from saebench.checkpoints.naming import joined, without_prefix
from saebench.errors import CheckpointError

MAX_CONFIG = 2**20
MAX_HEADER = 16 * 2**20
MAX_FILES = 400
MAX_CONFIGS = 50
"""A folder of very many configs is no SAE; what they hold together stays small."""
MAX_YAML = 2**16
_YAML = (".yaml", ".yml")
_LFS = b"version https://git-lfs"
_SUFFIXES = {".safetensors", ".pt", ".pth", ".npz", ".bin", ".ckpt", ".json", ".incomplete"}
"""Names play no part in recognising; here they say whose failure is worth a word."""


def survey(path: Path) -> Contents:
    """Everything at a path (a folder, or a file with the configs beside it) that could be an SAE.

    Raises:
        CheckpointError: if there is nothing, or the file itself cannot be used.
    """
    with reading(path, "looking at the path"):
        if not path.exists():
            raise CheckpointError(
                f"{path} does not exist. Give a folder or file with an SAE, `demo:NAME`, SAELens'"
                " `release/sae_id` or `hf://owner/repo/path`."
            )
        folder = path if path.is_dir() else path.parent
        files = sorted(folder.iterdir())[:MAX_FILES] if path.is_dir() else [path]
    configs: dict[str, dict[str, Any]] = {}
    weights: list[Weights] = []
    problems: list[str] = []
    for file in files:
        try:
            found = _look(file)
        except CheckpointError as error:
            if not path.is_dir():
                raise
            if file.suffix in _SUFFIXES:
                problems.append(str(error).removeprefix(f"{folder}/"))
            continue
        if isinstance(found, Weights):
            weights.append(found)
        elif found is not None and len(configs) < MAX_CONFIGS:
            configs[file.name] = found
    if not path.is_dir():
        configs |= configs_of(folder, path)
    above = configs_of(folder.absolute().parent)
    stripped = tuple(without_prefix(w) for w in joined(weights))
    return Contents(path, configs, stripped, above, tuple(problems))


def read_tensors(weights: Weights) -> dict[str, Tensor]:
    """The tensors of a file whose header was checked, without the prefix that their names share.

    Raises:
        CheckpointError: if the bytes do not bear out the header.
    """
    if weights.shards:
        tensors = {name: value for shard in weights.shards for name, value in read_tensors(shard).items()}
        return {name.removeprefix(weights.prefix): value for name, value in tensors.items()}
    with reading(weights.path, f"reading the {weights.kind} file"):
        if weights.kind == "npz":
            tensors = read_npz(weights.path)
        elif weights.kind == "torch":
            tensors = read_torch(weights.path)
        else:
            tensors = load_file(weights.path)
        return {name.removeprefix(weights.prefix): value for name, value in tensors.items()}


def require_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    """Raises if any weight is NaN or infinite, with the count per tensor.

    Raises:
        CheckpointError: naming the tensors.
    """
    bad = []
    for name, value in state.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            nan = int(value.isnan().sum())
            inf = int(value.isinf().sum())
            bad.append(f"{name} ({nan} NaN, {inf} infinite of {value.numel()})")
    if bad:
        raise CheckpointError(
            f"{path}: weights are not finite: {', '.join(bad)}. Training diverged or the file is"
            " damaged; scores of it would mean nothing."
        )


def parse_config(path: Path) -> dict[str, Any]:
    """An object from a JSON or YAML file.

    Raises:
        CheckpointError: if it is too large, cannot be read, or holds something else.
    """
    size, yml = path.stat().st_size, path.suffix in _YAML
    most = MAX_YAML if yml else MAX_CONFIG
    if size > most:
        raise CheckpointError(f"{path}: a config of {size} bytes; expected at most {most}.")
    try:
        # a byte order mark, as some editors write it, is none of the content
        text = path.read_text(encoding="utf-8-sig")
        config = yaml.safe_load(text) if yml else json.loads(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        kind = "YAML" if yml else "JSON"
        raise CheckpointError(
            f"{path}: not readable as {kind} ({' '.join(str(error).split())[:300]})."
        ) from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: holds a {type(config).__name__}, expected an object.")
    return {str(key): value for key, value in config.items()}


def configs_of(folder: Path, but: Path | None = None) -> dict[str, dict[str, Any]]:
    """The configs in a folder; those that cannot be read are not the weights' own problem."""
    found = {}
    try:
        files = sorted(f for f in folder.iterdir() if f.suffix in (".json", *_YAML))
    except OSError:
        return {}
    for file in files[:MAX_CONFIGS]:
        try:
            looked = _look(file)
        except CheckpointError:
            continue
        if isinstance(looked, dict) and file != but:
            found[file.name] = looked
    return found


def _look(file: Path) -> Weights | dict[str, Any] | None:
    """A config, a weights header, or None for a file that is neither."""
    with reading(file, "opening the file"):
        about = file.stat()
        if stat.S_ISDIR(about.st_mode):
            return None
        if not stat.S_ISREG(about.st_mode):
            # a pipe or a device would block or never end
            raise CheckpointError(f"{file}: not a regular file. Give a file with weights.")
        with file.open("rb") as handle:
            head = handle.read(64)
        if not head:
            raise CheckpointError(f"{file}: the file is empty (0 bytes). Fetch or save it again.")
        if head.startswith(_LFS):
            raise CheckpointError(
                f"{file}: a pointer of Git LFS, not the file that it stands for. `git lfs pull` fetches it."
            )
        if file.suffix == ".incomplete":
            raise CheckpointError(f"{file}: a download that did not finish. Fetch the file again.")
        if file.suffix in _YAML or head.removeprefix(BOM_UTF8).lstrip()[:1] == b"{":
            return parse_config(file)
        if head[:4] == b"PK\x03\x04":
            if is_npz(file):
                return Weights(file, "npz", npz_header(file))
            tensors, values = torch_header(file)
            return Weights(file, "torch", tensors, values)
        if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
            raise CheckpointError(
                f"{file}: a bare pickle (or a torch file from before 1.6). Unpickling can run any"
                " code, so it is not opened; save the weights as safetensors or with today's torch."
            )
        if head[8:9] == b"{" or file.suffix == ".safetensors":
            return Weights(file, "safetensors", _safetensors_header(file, about.st_size))
    if file.suffix in _SUFFIXES:
        raise CheckpointError(
            f"{file}: neither JSON, safetensors, npz nor a torch file (it starts with"
            f" {head[:8]!r}). It is damaged or truncated at its beginning; fetch or save it again."
        )
    return None


def _safetensors_header(file: Path, size: int) -> dict[str, TensorInfo]:
    """Names, dtypes and shapes; safetensors itself holds every extent against the file's size."""
    with file.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
    if size < 8 or length > min(size - 8, MAX_HEADER):
        raise CheckpointError(
            f"{file}: truncated or damaged: the header claims {length} bytes, the file has"
            f" {size} (headers up to {MAX_HEADER} are read). Fetch or save it again."
        )
    with safe_open(file, framework="pt") as opened:
        slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 not a dict
        return {name: TensorInfo(s.get_dtype(), tuple(s.get_shape())) for name, s in slices.items()}
