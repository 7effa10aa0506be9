"""Runs of prompts kept whole, from which passes that start at any block and token go on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.models.language_model import LanguageModel
from saebench.models.memory import Scratch
from saebench.patching.clean import CleanRun
from saebench.patching.placement import Hook
from saebench.patching.prefix_cache import KeysValues, new_pairs
from saebench.patching.sharing import forward, full_pass, keys_values_bytes


@dataclass
class State:
    """What a run leaves behind in every block, prompts padded at the end."""

    residual: list[Float[Tensor, "n t d_model"]]
    """In front of each block."""
    pairs: list[KeysValues]
    tuples: bool
    """Whether the model's blocks return tuples."""


@dataclass(eq=False)
class WholeRuns:
    """A run of prompts, clean or patched, made when it is first needed and kept.

    For many readouts of the same prompts: each would run all of them again up to its own site.
    """

    model: LanguageModel
    tokens: Int[Tensor, "n t"]
    """Padded at the end, where causal attention lets nothing see the padding."""
    length: Int[Tensor, "n"]
    _state: State | None = field(default=None, repr=False)

    @classmethod
    def of(cls, model: LanguageModel, tokens: Sequence[Sequence[int]]) -> "WholeRuns":
        length = torch.tensor([len(prompt) for prompt in tokens])
        padded = torch.zeros(len(tokens), int(length.max()), dtype=torch.long)
        for row, prompt in zip(padded, tokens, strict=True):
            row[: len(prompt)] = torch.tensor(prompt)
        return cls(model, padded, length)

    @property
    def nbytes(self) -> int:
        """What is kept, or will be."""
        token = keys_values_bytes(self.model, self.model.n_layers)
        token += self.model.n_layers * self.model.d_model * self.model.dtype.itemsize
        return self.tokens.numel() * token

    @property
    def state(self) -> State:
        if self._state is None:
            self._state = self._make()
        return self._state

    def at(self, layer: int) -> "RunsAt":
        """The runs for passes that start at a block."""
        return RunsAt(self, layer)

    def take(self, rows: Int[Tensor, "m"]) -> "WholeRuns":
        """The runs of some of the prompts."""
        state, at = self.state, rows.to(self.model.device)
        residual = [acts[at] for acts in state.residual]
        pairs = [(keys[at], values[at]) for keys, values in state.pairs]
        return WholeRuns(
            self.model, self.tokens[rows], self.length[rows], State(residual, pairs, state.tuples)
        )

    def from_block(self, layer: int) -> "WholeRuns":
        """A copy whose blocks from `layer` on may be written over."""
        state = self.state
        residual = [acts.clone() if i > layer else acts for i, acts in enumerate(state.residual)]
        pairs = [
            (pair[0].clone(), pair[1].clone()) if i >= layer else pair for i, pair in enumerate(state.pairs)
        ]
        return WholeRuns(self.model, self.tokens, self.length, State(residual, pairs, state.tuples))

    def recorders(self, rows: Int[Tensor, "m"], start: int, layer: int) -> list[Hook]:
        """Hooks that write what a pass of prompts `rows` from token `start` on has in front of later blocks."""
        at = rows.to(self.model.device)

        def hook(block: int) -> Hook:
            def record(tensor: Tensor, hook: Any) -> None:
                self.state.residual[block][at, start : start + tensor.shape[1]] = tensor

            return f"blocks.{block}.hook_in", record

        return [hook(block) for block in range(layer + 1, self.model.n_layers)]

    def put_pairs(self, rows: Int[Tensor, "m"], start: int, layer: int, pairs: Sequence[KeysValues]) -> None:
        """Stores the keys and values that the blocks from `layer` on computed from token `start` on."""
        at = rows.to(self.model.device)
        for kept, new in zip(self.state.pairs[layer:], pairs, strict=True):
            for into, value in zip(kept, new, strict=True):
                into[at, :, start : start + value.shape[2]] = value

    @torch.no_grad()
    def _make(self) -> State:
        model, every, n = self.model, self.model.n_layers, len(self.tokens)
        parts: list[State] = []

        def work(block: slice, limit: int) -> None:
            seen: list[Tensor] = []
            hooks = [
                (f"blocks.{i}.hook_in", lambda tensor, hook: seen.append(tensor.clone()))
                for i in range(every)
            ]
            kinds: list[bool] = []
            handle = model.bridge.blocks[0].register_forward_hook(
                lambda block, args, output: kinds.append(isinstance(output, tuple))
            )
            try:
                _, cache = forward(model, self.tokens[block], 0, [], every, hooks, Scratch(), keep=True)
            finally:
                handle.remove()
            assert cache is not None
            parts.append(State(seen, new_pairs(cache), any(kinds)))

        model.budget.in_blocks(n, full_pass(model, self.tokens.shape[1]), work)
        residual = [torch.cat(some) for some in zip(*(part.residual for part in parts), strict=True)]
        pairs = [
            (torch.cat([pair[0] for pair in some]), torch.cat([pair[1] for pair in some]))
            for some in zip(*(part.pairs for part in parts), strict=True)
        ]
        return State(residual, pairs, parts[0].tuples)


class RunsAt:
    """The runs for passes that start at block `layer`; stands where `CleanRuns` does."""

    def __init__(self, runs: WholeRuns, layer: int) -> None:
        self.runs, self.layer, self.length = runs, layer, runs.length
        self.chunk = torch.zeros_like(runs.length)

    def of(self, rows: Int[Tensor, "m"], start: int, stop: int) -> CleanRun:
        """The run of prompts `rows` for tokens `start` to `stop`."""
        runs, state = self.runs, self.runs.state
        at = rows.to(runs.model.device)
        before = [(keys[at, :, :start], values[at, :, :start]) for keys, values in state.pairs[self.layer :]]
        return CleanRun(
            runs.tokens[rows, start:stop].to(runs.model.device),
            state.residual[self.layer][at, start:stop],
            before,
            torch.arange(len(rows)),
            start,
            state.tuples,
        )

    def forget(self) -> None:
        """The runs stay: other readouts start from them too."""
