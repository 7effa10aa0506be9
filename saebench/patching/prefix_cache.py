"""Keys and values of a clean prefix as a transformers `Cache`. Imported only when a pass runs."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from saebench.models.memory import Scratch

KeysValues = tuple[Tensor, Tensor]


class PrefixLayer(DynamicLayer):
    """One block's keys and values of the prefix, with those of the pass put behind them.

    They are not joined for longer than the block runs: a cache that grows would hold a copy of every
    layer's keys and values until the pass ends. The length is stated, since transformers reads it from
    layer 0, which may be a block that is skipped and has no prefix.
    """

    def __init__(self, length: int, prefix: KeysValues | None, scratch: Scratch) -> None:
        super().__init__()
        self.length, self.prefix, self.scratch = length, prefix, scratch

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> KeysValues:
        if self.prefix is None or self.length == 0:
            return key_states, value_states
        keys, values = self.prefix
        return (self._behind("keys", keys, key_states), self._behind("values", values, value_states))

    def _behind(
        self, name: str, prefix: Float[Tensor, "m heads p d"], new: Float[Tensor, "em heads t d"]
    ) -> Float[Tensor, "em heads p+t d"]:
        """The prefix of every prompt in front of each of its edits, copied once."""
        edits = new.unflatten(0, (-1, len(prefix)))
        parts = [prefix.expand(len(edits), *prefix.shape), edits]
        if torch.is_grad_enabled():
            return torch.cat(parts, dim=-2).flatten(0, 1)
        # the next layer may write over them: its block runs when this one is done
        shape = (*edits.shape[:-2], prefix.shape[-2] + edits.shape[-2], edits.shape[-1])
        return torch.cat(parts, dim=-2, out=self.scratch.take(name, shape, new)).flatten(0, 1)

    def get_seq_length(self) -> int:
        return self.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0


class KeepingLayer(PrefixLayer):
    """The same, and the pass's own keys and values stay at hand."""

    new: KeysValues | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> KeysValues:
        self.new = (key_states, value_states)
        return super().update(key_states, value_states, *args, **kwargs)


def prefix_cache(
    length: int, prefixes: Sequence[KeysValues | None], scratch: Scratch, keep: bool = False
) -> Cache:
    """A cache with one layer per block. Row i of a pass continues prompt i modulo their number."""
    kind = KeepingLayer if keep else PrefixLayer
    return Cache(layers=[kind(length, prefix, scratch) for prefix in prefixes])


def new_pairs(cache: Cache) -> list[KeysValues]:
    """What the blocks that ran in a pass left behind of its own tokens."""
    return [layer.new for layer in cache.layers if isinstance(layer, KeepingLayer) and layer.new is not None]
