"""Settings under which a GPU computes in full float32, and the same numbers every time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from saebench.errors import OptionError
from saebench.models import facts


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """TF32 off and kernels in a fixed order of summation where there are such.

    Afterwards the caller's settings hold again: a training run that scores its SAE now and then
    keeps its speed. Nothing to do on a CPU, where both hold anyway.
    """
    if device.type == "cpu":
        yield
        return
    deterministic = torch.are_deterministic_algorithms_enabled()
    lenient = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    try:
        # a kernel without a fixed order still runs: it is torch that says so
        torch.use_deterministic_algorithms(True, warn_only=True)
        memory.fill_uninitialized_memory = False  # every value is written
        with _products(tf32=False):
            yield
    finally:
        memory.fill_uninitialized_memory = filled
        torch.use_deterministic_algorithms(deterministic, warn_only=lenient)


@contextmanager
def fast(device: torch.device) -> Iterator[None]:
    """TF32 products on a GPU, enough for training; afterwards the caller's settings. Nothing to do on a CPU."""
    with nullcontext() if device.type == "cpu" else _products(tf32=True):
        yield


@contextmanager
def _products(tf32: bool) -> Iterator[None]:
    """The precision of a GPU's float32 products."""
    matmul = torch.backends.cuda.matmul
    # torch before 2.9 has `allow_tf32` only, and later ones refuse to mix it with the other
    new = hasattr(matmul, "fp32_precision")
    setting = "fp32_precision" if new else "allow_tf32"
    precision = getattr(matmul, setting)
    try:
        setattr(matmul, setting, ("tf32" if tf32 else "ieee") if new else tf32)
        yield
    finally:
        setattr(matmul, setting, precision)


WORK = 1_000_000
"""Multiply-adds of a block for one token from which another thread is worth its waiting."""


@contextmanager
def few_threads(d_model: int) -> Iterator[None]:
    """As many of torch's threads as a model of that width keeps busy, at most as many as were set.

    Threads of a small model mostly wait for each other: the bundled one (width 96) takes one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, 12 * d_model**2 // WORK)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in facts.DTYPES}


def find_device(device: str) -> torch.device:
    """The device of that name; `auto` is a GPU if there is one.

    Raises:
        OptionError: if it is unknown or absent.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        where = torch.device(device)
        if where.type != "cpu":
            torch.empty(1, device=where)
    # a build without the backend raises what it likes: AssertionError, NotImplementedError, its own error
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = said.partition(". ")[0].rstrip(".")[:200]
        raise OptionError(
            f"Device {device!r} cannot be used: {reason}. Expected auto, cpu, cuda, cuda:N or mps, and a torch"
            " that was built for it. Use --device cpu."
        ) from error
    if where.type == "cuda":
        # cuBLAS reads it once, before its first product: what makes its sums repeatable
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return where
