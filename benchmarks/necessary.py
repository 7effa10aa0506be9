"""How many multiply-adds an evaluation makes necessary, counted while it runs."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from torch import Tensor

from saebench.models.language_model import LanguageModel
from saebench.patching.clean import CleanRuns
from saebench.patching.prefixes import Text
from saebench.patching.suffix import SuffixPass


def block_cost(model: LanguageModel) -> float:
    """Multiply-adds of a token in one block: the sizes of its matrices. Attention itself is left out."""
    sizes = (p.numel() for p in model.bridge.original_model.parameters() if p.ndim == 2)
    return (sum(sizes) - model.d_vocab * model.d_model) / model.n_layers


def edit_cost(model: LanguageModel, block: int, tokens: int, unembedded: int) -> float:
    """Of an edit: `tokens` from the edited one on, in the blocks from there on, and so many tokens unembedded."""
    return tokens * block_cost(model) * (model.n_layers - block) + unembedded * model.d_model


def distinct_tokens(texts: Sequence[Text]) -> int:
    """Tokens that have to run where none does twice behind the same tokens."""
    return len({text[:stop] for text in texts for stop in range(1, len(text) + 1)})


@dataclass
class Necessary:
    """Multiply-adds so far: every distinct token once in the blocks before its site, every edit behind it."""

    activations: float = 0.0
    clean: float = 0.0
    edits: float = 0.0

    @property
    def sum(self) -> float:
        return self.activations + self.clean + self.edits


@contextmanager
def counted() -> Iterator[Necessary]:
    """Counts what captures, clean runs and patched passes make necessary in the block of code."""
    found = Necessary()
    module = sys.modules["saebench.patching.capture"]
    read, make = module._read, CleanRuns._make
    logits, token_logits = SuffixPass.logits, SuffixPass.token_logits

    def counted_read(model: LanguageModel, prompts: Any, places: Any, blocks: int, *rest: Any) -> Any:
        found.activations += distinct_tokens([text for text, _ in prompts]) * blocks * block_cost(model)
        return read(model, prompts, places, blocks, *rest)

    def counted_make(runs: CleanRuns, rows: Tensor) -> Any:
        texts = [tuple(runs._tokens[i, : runs.length[i]].tolist()) for i in rows]
        before = distinct_tokens([t[: runs.first[i]] for t, i in zip(texts, rows, strict=True)])
        behind = distinct_tokens(texts) - before
        blocks = before * runs.model.n_layers + behind * runs.layer
        found.clean += blocks * block_cost(runs.model)
        return make(runs, rows)

    def add_edits(suffix: SuffixPass, edited: Tensor, rows: Tensor, unembedded: int) -> None:
        times = len(edited) // len(rows)
        for tokens in (suffix.runs.length[rows] - suffix.first[rows]).tolist():
            found.edits += times * edit_cost(suffix.model, suffix.layer, tokens, unembedded)

    def counted_logits(suffix: SuffixPass, edited: Tensor, rows: Tensor, *rest: Any) -> Any:
        add_edits(suffix, edited, rows, suffix.model.d_vocab)
        return logits(suffix, edited, rows, *rest)

    def counted_tokens(suffix: SuffixPass, edited: Tensor, rows: Tensor, wanted: Tensor) -> Any:
        add_edits(suffix, edited, rows, wanted.shape[1])
        return token_logits(suffix, edited, rows, wanted)

    with (
        patch.object(module, "_read", counted_read),
        patch.object(CleanRuns, "_make", counted_make),
        patch.object(SuffixPass, "logits", counted_logits),
        patch.object(SuffixPass, "token_logits", counted_tokens),
    ):
        yield found
