"""Keys and values of a clean prefix as a transformers `Cache`. Imported only when a pass runs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

KeysValues = tuple[Tensor, Tensor]


class PrefixLayer(DynamicLayer):
    """One block's keys and values of the prefix, with those of the pass put behind them.

    Nothing is kept: a cache that grows would hold a copy of every layer's keys and values until
    the pass ends. The length is stated, since transformers reads it from layer 0, which may be a
    block that is skipped and has no prefix.
    """

    def __init__(self, length: int, prefix: KeysValues | None, rows: Tensor) -> None:
        super().__init__()
        self.length, self.prefix, self.rows = length, prefix, rows

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> KeysValues:
        if self.prefix is None or self.length == 0:
            return key_states, value_states
        keys, values = self.prefix
        return (
            torch.cat([keys[self.rows], key_states], dim=-2),
            torch.cat([values[self.rows], value_states], dim=-2),
        )

    def get_seq_length(self) -> int:
        return self.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0


def prefix_cache(length: int, prefixes: Sequence[KeysValues | None], rows: Tensor) -> Cache:
    """A cache with one layer per block; row i of a pass continues prefix `rows[i]`."""
    return Cache(layers=[PrefixLayer(length, prefix, rows) for prefix in prefixes])
