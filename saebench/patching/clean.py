"""Clean runs: what every patched pass of the same prompts starts from, kept while memory lasts."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.models.language_model import LanguageModel
from saebench.models.memory import Budget, Scratch
from saebench.patching.prefix_cache import KeysValues
from saebench.patching.prefixes import Text
from saebench.patching.sharing import each_batch, forward, keys_values_bytes, trunk_below


class CleanRun(NamedTuple):
    """What the clean run of some prompts leaves behind, from token `start` on.

    Prompts shorter than the longest are padded at the end, where causal attention lets nothing
    see the padding.
    """

    tokens: Int[Tensor, "m t"]
    residual: Float[Tensor, "m t d_model"]
    """The residual stream in front of the first edited block."""
    prefix: list[KeysValues]
    """Keys and values `[prefixes heads p d_head]` from token 0 on, for each block from there on."""
    prefix_of: Int[Tensor, "m"]
    """Which of the prefixes is a prompt's."""
    start: int
    tuples: bool
    """Whether the model's blocks return tuples."""

    def of(self, index: Int[Tensor, "k"], start: int, stop: int) -> "CleanRun":
        """The run of some of the prompts for tokens `start` to `stop`, and what lies before each."""
        span = slice(start - self.start, stop - self.start)
        tokens, residual, of = self.tokens, self.residual, self.prefix_of
        if not torch.equal(index, torch.arange(len(tokens))):
            tokens, residual, of = tokens[index], residual[index], of[index]
        before = [(keys[of, :, :start], values[of, :, :start]) for keys, values in self.prefix]
        return CleanRun(tokens[:, span], residual[:, span], before, torch.arange(len(of)), start, self.tuples)

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
        start = int(self.first.min())
        before = keys_values_bytes(self.model, self.model.n_layers) * int(self.first.max())
        after = self.model.dtype.itemsize * self.model.d_model * (self._tokens.shape[1] - start)
        each = before + after
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
        """Distinct prefixes through all blocks, then what follows in each prompt through those before the edit."""
        model, layer, device = self.model, self.layer, self.model.device
        firsts, lengths = self.first[rows].tolist(), self.length[rows].tolist()
        start, stop = min(firsts), max(lengths)
        texts: list[Text] = [
            tuple(self._tokens[i, :n].tolist()) for i, n in zip(rows.tolist(), lengths, strict=True)
        ]
        trunk = trunk_below(model, texts, firsts, model.n_layers, self.budget, layer)
        tokens = self._tokens[rows, start:stop].to(device)
        residual = torch.zeros(*tokens.shape, model.d_model, dtype=model.dtype, device=device)
        of = trunk.places([text[:first] for text, first in zip(texts, firsts, strict=True)])
        if trunk.residual is not None:
            known = trunk.residual[of, start:]
            residual[:, : known.shape[1]] = known
        scratch = Scratch()

        def work(some: Tensor, batch: Tensor, first: int, before: list[KeysValues]) -> None:
            behind, _ = forward(model, batch, first, before, layer, [], scratch)
            for row, value in zip(some.tolist(), behind, strict=True):
                residual[row, first - start : lengths[row] - start] = value[: lengths[row] - first]

        kinds: list[bool] = []
        handle = model.bridge.blocks[0].register_forward_hook(
            lambda block, args, output: kinds.append(isinstance(output, tuple))
        )
        try:
            each_batch(model, texts, firsts, trunk, layer, self.budget, work)
        finally:
            handle.remove()
        # kept without what only the blocks before the edit needed
        pairs = trunk.pairs[layer:]
        return CleanRun(tokens, residual, pairs, of, start, any(kinds))
