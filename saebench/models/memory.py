"""How much runs at once: a memory budget, block sizes, and halving when memory runs out."""

import gc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol
from weakref import WeakSet

import torch
from torch import Tensor

from saebench.errors import out_of_memory

# Tokens in one batch of a model as wide as GPT-2 small; a narrower one takes as many values. On a
# CPU the intermediate values of more do not fit into its caches, and fewer do not fill the cores;
# on a GPU more gain nothing once the matrix products fill it.
MAX_TOKENS = {"cpu": 1536, "cuda": 65536}
MAX_ROWS = {"cpu": 512, "cuda": 16384}
WIDTH = 768
FREE_SHARE = 0.5


def free_bytes(device: torch.device) -> int:
    """Memory that a new allocation can have on the device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available


class Holder(Protocol):
    """Something that keeps tensors between calls."""

    @property
    def nbytes(self) -> int: ...


class Cost(NamedTuple):
    """What one row of a batch takes: working memory, roughly, and tokens that are run."""

    bytes: int
    tokens: int


@dataclass
class Budget:
    """Bytes for batches (half of them) and for clean runs kept between calls (a quarter).

    Without a figure it takes half of what is free on the device. `limit` rows run at once at most;
    it is halved for good when memory runs out all the same.
    """

    bytes: int
    limit: int
    tokens: int
    holders: "WeakSet[Holder]" = field(default_factory=WeakSet)
    """What keeps clean runs on this budget."""

    @classmethod
    def of(cls, device: torch.device, memory_bytes: int | None = None, d_model: int = WIDTH) -> "Budget":
        if memory_bytes is None:
            memory_bytes = int(FREE_SHARE * free_bytes(device))
        kind = "cpu" if device.type == "cpu" else "cuda"
        times = max(1, WIDTH // d_model)
        return cls(memory_bytes, times * MAX_ROWS[kind], times * MAX_TOKENS[kind])

    def rows(self, cost: Cost) -> int:
        """Rows that fit into half of the budget, at least one."""
        fits = self.bytes // 2 // max(1, cost.bytes)
        return max(1, min(self.limit, fits, self.tokens // max(1, cost.tokens)))

    def may_keep(self, size: int) -> bool:
        """Whether that much more may be kept: a quarter of the budget is for clean runs."""
        return size + sum(holder.nbytes for holder in self.holders) <= self.bytes // 4

    def in_blocks(self, n: int, cost: Cost, work: Callable[[slice, int], None], each: int = 1) -> None:
        """Calls `work(block, rows)` on consecutive blocks of `n` members of `each` rows.

        A block has at most `rows` rows, or one member whose rows `work` has to divide. Out of
        memory halves the block and repeats it; finished blocks are kept.
        """
        start = 0
        while start < n:
            rows = self.rows(cost)
            block = slice(start, min(n, start + max(1, rows // each)))
            try:
                work(block, rows)
            except (MemoryError, RuntimeError) as error:
                ran = min(rows, each * (block.stop - block.start))
                if ran == 1 or not out_of_memory(error):
                    raise
                self.limit = ran // 2
            else:
                start = block.stop
                continue
            # outside the handler, where the traceback no longer holds the tensors alive
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


class Scratch:
    """Memory for large values that are used up before the next of their name is made.

    Fresh memory costs the operating system's zeroing and a miss in every cache, each time.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def take(self, name: str, shape: Sequence[int], like: Tensor) -> Tensor:
        """An uninitialised tensor of `like`'s dtype and device."""
        size, kept = math.prod(shape), self._kept.get(name)
        if kept is None or len(kept) < size or kept.dtype != like.dtype:
            kept = self._kept[name] = like.new_empty(size)
        return kept[:size].view(shape)
