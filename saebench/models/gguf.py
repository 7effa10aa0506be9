"""GGUF files: dequantised once into a Hugging Face directory that is kept by the file's digest."""

import errno
import hashlib
import shutil
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from saebench.cache import build_folder, cache_folder
from saebench.errors import ModelError
from saebench.models.known import PACKAGED, folder_of

MAGIC = b"GGUF"
# A 4-bit weight takes eight times the room in float32; some are stored in more bits.
GROWTH = 7
DAMAGE = (
    ValueError,
    KeyError,
    IndexError,
    RuntimeError,
    TypeError,
    EOFError,
    struct.error,
    NotImplementedError,
)


def unpack(file: Path) -> tuple[str | None, Path]:
    """The name of a GGUF file's model if it is a known one, and the directory it was dequantised into.

    Made when it is not in the cache yet; all weights in float32, so nothing is lost but room.

    Raises:
        ModelError: if the file is no GGUF file, is damaged, or there is no room or package for it.
    """
    sha256 = digest_of(file)
    name = next((known.name for known in PACKAGED.values() if known.sha256 == sha256), None)
    folder = folder_of(sha256, name or file.stem)
    if not folder.is_dir():
        with room_for(cache_folder("models"), GROWTH * file.stat().st_size, f"unpacking {file.name}"):
            build_folder(folder, lambda part: _convert(file, part))
    return name, folder


def digest_of(file: Path) -> str:
    """SHA-256 of a file that begins as a GGUF file does.

    Raises:
        ModelError: if it cannot be read, or begins otherwise.
    """
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            if stream.read(len(MAGIC)) != MAGIC:
                raise ModelError(
                    f"{file} is not a GGUF file: it does not begin with {MAGIC.decode()}. Expected a .gguf"
                    " file as llama.cpp writes them, or a Hugging Face model directory."
                )
            stream.seek(0)
            while block := stream.read(2**22):
                digest.update(block)
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}. Check its permissions.") from error
    return digest.hexdigest()


@contextmanager
def room_for(folder: Path, size: int, what: str) -> Iterator[None]:
    """Refuses to begin without room for `size` bytes, and says so if the disk fills up all the same.

    Raises:
        ModelError: naming the folder and the variable that moves it.
    """
    place = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(place).free
    full = (
        f"No room for {what}: it takes about {size / 1e6:,.0f} MB in {folder}, where {free / 1e6:,.0f} MB are"
        " free. Make room, or set SAEBENCH_CACHE to a folder on another disk."
    )
    if free < size:
        raise ModelError(full)
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            reason = error.strerror or str(error)
            raise ModelError(f"{what.capitalize()} failed in {folder}: {reason}.") from error
        raise ModelError(full) from error


def _convert(file: Path, into: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        import gguf  # noqa: F401  what transformers reads most architectures with
    except ImportError as error:
        raise ModelError(
            f"Reading {file.name} needs the package gguf, which is not installed. Install it with"
            " pip install 'saebench[gguf]'."
        ) from error
    with _announced(file):
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
            model = AutoModelForCausalLM.from_pretrained(
                str(file.parent), gguf_file=file.name, dtype="float32"
            )
        except DAMAGE as error:
            raise ModelError(_unreadable(file, error)) from error
        _save(model, tokenizer, into)


def _save(model: Any, tokenizer: Any, into: Path) -> None:
    # the weights are no longer quantised, and transformers refuses to save what says that it is
    model.__dict__.pop("hf_quantizer", None)
    model.config.__dict__.pop("quantization_config", None)
    model.is_quantized = False
    try:
        model.save_pretrained(into)
    except SafetensorError as error:
        # what safetensors raises when the disk is full
        raise OSError(errno.ENOSPC if "space" in str(error).lower() else errno.EIO, str(error)) from error
    tokenizer.save_pretrained(into)


def _unreadable(file: Path, error: Exception) -> str:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    if "not supported" in first:
        return (
            f"{file.name} holds an architecture that transformers cannot read from GGUF: {first}. Use the"
            " model's Hugging Face directory instead."
        )
    return (
        f"{file} cannot be read as a language model ({first}): the file is damaged or incomplete, or holds"
        " something else. Copy or download it again."
    )


@contextmanager
def _announced(file: Path) -> Iterator[None]:
    """transformers' own bar on a terminal, one line elsewhere."""
    size = f"{file.stat().st_size / 1e6:,.0f} MB"
    print(f"Unpacking {file.name} ({size}); this is done once", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        yield
        return
    with redirect_stderr(StringIO()):
        yield
