"""The machine a figure was measured on, how fast it multiplies, and how time is taken."""

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def describe(device: torch.device) -> dict[str, Any]:
    """What a reader needs to judge a figure, the load of the machine among it."""
    gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if gpu else _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def best(work: Callable[[], Any], rounds: int, device: torch.device, cpu_clock: bool = False) -> float:
    """The shortest of several wall times in seconds (or CPU times): what else runs can only add to it."""
    return interleaved([work], rounds, device, cpu_clock)[0]


def interleaved(
    works: list[Callable[[], Any]], rounds: int, device: torch.device, cpu_clock: bool = False
) -> list[float]:
    """The shortest wall time of each (or CPU time), taken in turn, so that a busy spell meets all alike."""
    clock = time.process_time if cpu_clock else time.perf_counter
    times = [float("inf")] * len(works)
    for _ in range(rounds):
        for i, work in enumerate(works):
            _settle(device)
            start = clock()
            work()
            _settle(device)
            times[i] = min(times[i], clock() - start)
    return times


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Products:
    """Large matrix products of an MLP's shape: how fast this machine multiplies at this moment."""

    def __init__(self, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        rows, self.repeats = (1024, 8) if device.type == "cpu" else (32768, 8)
        self.a = torch.randn(rows, 768, device=device, dtype=dtype)
        self.b = torch.randn(768, 3072, device=device, dtype=dtype)
        self.out = torch.empty(rows, 3072, device=device, dtype=dtype)

    @property
    def multiply_adds(self) -> int:
        return self.repeats * self.a.shape[0] * self.b.numel()

    def __call__(self) -> None:
        for _ in range(self.repeats):
            torch.mm(self.a, self.b, out=self.out)
