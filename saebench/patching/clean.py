"""Clean runs: what every patched pass of the same prompts starts from, kept while memory lasts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.models.language_model import LanguageModel
from saebench.models.memory import Budget
from saebench.patching.capture import full_pass
from saebench.patching.placement import hooked
from saebench.patching.swap import replaced


class CleanRun(NamedTuple):
    """What the clean run of some prompts leaves behind, from token `start` on.

    Prompts shorter than the longest are padded at the end, where causal attention lets nothing
    see the padding.
    """

    tokens: Int[Tensor, "m t"]
    residual: Float[Tensor, "m t d_model"]
    """The residual stream in front of the first edited block."""
    prefix: list[tuple[Tensor, Tensor]]
    """Keys and values `[m heads p d_head]` from token 0 on, for each block from there on."""
    start: int
    tuples: bool
    """Whether the model's blocks return tuples."""

    def of(self, index: Int[Tensor, "k"], start: int, stop: int) -> "CleanRun":
        """The run of some of the prompts for tokens `start` to `stop`, and what lies before.

        Of all prompts in order without a copy.
        """
        span = slice(start - self.start, stop - self.start)
        tokens, residual, pairs = self.tokens, self.residual, self.prefix
        if not torch.equal(index, torch.arange(len(tokens))):
            index = index.to(tokens.device)
            tokens, residual = tokens[index], residual[index]
            pairs = [(keys[index], values[index]) for keys, values in pairs]
        before = [(keys[:, :, :start], values[:, :, :start]) for keys, values in pairs]
        return CleanRun(tokens[:, span], residual[:, span], before, start, self.tuples)

    @property
    def nbytes(self) -> int:
        return sum(t.nbytes for t in (self.residual, *(t for pair in self.prefix for t in pair)))


class CleanRuns:
    """The clean runs of prompts `tokens`, made when they are first needed, chunk by chunk.

    `layer` is the first edited block and `first` the first edited token of every prompt.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokens: Sequence[Sequence[int]],
        layer: int,
        first: Int[Tensor, "n"],
        budget: Budget,
    ) -> None:
        self.model, self.layer, self.first, self.budget = model, layer, first, budget
        self.length = torch.tensor([len(prompt) for prompt in tokens])
        self._tokens = torch.zeros(len(tokens), int(self.length.max()), dtype=torch.long)
        for row, prompt in zip(self._tokens, tokens, strict=True):
            row[: len(prompt)] = torch.tensor(prompt)
        self._chunks = self._make_chunks()
        self.chunk, self._place = torch.empty(2, len(tokens), dtype=torch.long)
        for number, rows in enumerate(self._chunks):
            self.chunk[rows], self._place[rows] = number, torch.arange(len(rows))
        self._kept: dict[int, CleanRun] = {}
        budget.holders.add(self)
        self._latest: tuple[int, CleanRun] | None = None

    def of(self, rows: Int[Tensor, "m"], start: int, stop: int) -> CleanRun:
        """The clean run of prompts `rows`, all of one `chunk`, for tokens `start` to `stop`."""
        return self._run(int(self.chunk[rows[0]])).of(self._place[rows], start, stop)

    @property
    def nbytes(self) -> int:
        """What is kept between calls."""
        return sum(run.nbytes for run in self._kept.values())

    def forget(self) -> None:
        self._kept.clear()
        self._latest = None

    def _make_chunks(self) -> list[Int[Tensor, "m"]]:
        """Prompts of similar length and first edited token; a run takes an eighth of the budget."""
        cfg, start = self.model.bridge.cfg, int(self.first.min())
        before = 2 * (cfg.n_layers - self.layer) * int(self.first.max())
        each = self.model.dtype.itemsize * cfg.d_model * (self._tokens.shape[1] - start + before)
        order = (self.length * self._tokens.shape[1] + self.first).argsort(stable=True)
        return list(order.split(max(1, self.budget.bytes // 8 // each)))

    def _run(self, number: int) -> CleanRun:
        """The run of a chunk, kept between calls where the budget has room for it."""
        if number in self._kept:
            return self._kept[number]
        if self._latest and self._latest[0] == number:
            return self._latest[1]
        run = self._make(self._chunks[number])
        if self.budget.may_keep(run.nbytes):
            self._kept[number] = run
        else:
            self._latest = (number, run)
        return run

    @torch.no_grad()
    def _make(self, rows: Int[Tensor, "m"]) -> CleanRun:
        """Runs the prompts in blocks and lays the results side by side."""
        start, reach = int(self.first[rows].min()), int(self.first[rows].max())
        stop = int(self.length[rows].max())
        made: list[CleanRun] = []

        def work(block: slice, _: int) -> None:
            tokens = self._tokens[rows[block], : int(self.length[rows[block]].max())]
            residual, pairs, tuples = self._forward(tokens.to(self.model.device))
            if not made:
                made.append(self._blank(rows, residual, pairs, start, stop, reach, tuples))
            made[0].residual[block, : residual.shape[1] - start] = residual[:, start:]
            for kept, new in zip(made[0].prefix, pairs, strict=True):
                for into, value in zip(kept, new, strict=True):
                    seen = value[:, :, :reach]
                    into[block, :, : seen.shape[2]] = seen

        cost = full_pass(self.model, stop)
        cache = 8 * self.model.n_layers * self.model.d_model * stop
        self.budget.in_blocks(len(rows), cost._replace(bytes=cost.bytes + cache), work)
        return made[0]

    def _blank(
        self,
        rows: Tensor,
        residual: Tensor,
        pairs: list[tuple[Tensor, Tensor]],
        start: int,
        stop: int,
        reach: int,
        tuples: bool,
    ) -> CleanRun:
        """Room for all the prompts, of the shapes that the first block has shown."""
        m = len(rows)

        def room(value: Tensor) -> Tensor:
            return value.new_zeros(m, value.shape[1], reach, value.shape[3])

        return CleanRun(
            self._tokens[rows, start:stop].to(residual.device),
            residual.new_zeros(m, stop - start, residual.shape[2]),
            [(room(keys), room(values)) for keys, values in pairs],
            start,
            tuples,
        )

    def _forward(self, tokens: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]], bool]:
        """Residual stream, keys and values from the first edited block on, and kind of blocks."""
        from transformers import DynamicCache

        bridge, found, kinds = self.model.bridge, [], []
        cache = DynamicCache()
        handle = bridge.blocks[0].register_forward_hook(
            lambda block, args, output: kinds.append(isinstance(output, tuple))
        )
        read = (f"blocks.{self.layer}.hook_in", lambda tensor, hook: found.append(tensor.clone()))
        try:
            with hooked(self.model, [read]), replaced([bridge.unembed], lambda hidden: hidden):
                bridge(tokens, past_key_values=cache, use_cache=True)
        finally:
            handle.remove()
        layers: list[Any] = cache.layers[self.layer :]
        return found[0], [(layer.keys, layer.values) for layer in layers], kinds[0]
