"""How much runs at once: a memory budget, block sizes, and halving when memory runs out."""

import gc
from collections.abc import Callable
from dataclasses import dataclass

import torch

# On a CPU larger blocks gain nothing once the matrix products fill the cores.
MAX_ROWS = {"cpu": 1024, "cuda": 16384}
FREE_SHARE = 0.5


def free_bytes(device: torch.device) -> int:
    """Memory that a new allocation can have on the device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available


@dataclass
class Budget:
    """Bytes for batches and for clean runs kept between calls.

    Without a figure it takes half of what is free on the device. `limit` rows run at once at most;
    it is halved for good when memory runs out all the same.
    """

    bytes: int
    limit: int

    @classmethod
    def of(cls, device: torch.device, memory_bytes: int | None = None) -> "Budget":
        if memory_bytes is None:
            memory_bytes = int(FREE_SHARE * free_bytes(device))
        return cls(memory_bytes, MAX_ROWS.get(device.type, MAX_ROWS["cuda"]))

    def rows(self, row_bytes: int) -> int:
        """Rows of the given working memory that fit into half of the budget, at least one."""
        return max(1, min(self.limit, self.bytes // 2 // row_bytes))

    def in_blocks(self, n: int, row_bytes: int, work: Callable[[slice, int], None]) -> None:
        """Calls `work(block, rows)` on consecutive blocks of `n`, each of at most `rows`.

        Out of memory halves the block and repeats it; finished blocks are kept.
        """
        start = 0
        while start < n:
            rows = self.rows(row_bytes)
            block = slice(start, min(n, start + rows))
            try:
                work(block, rows)
            except (MemoryError, RuntimeError) as error:
                if rows == 1 or not _is_out_of_memory(error):
                    raise
                self.limit = rows // 2
            else:
                start = block.stop
                continue
            # outside the handler, where the traceback no longer holds the tensors alive
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(sign in str(error) for sign in ("can't allocate memory", "out of memory"))
