"""Readouts of tiny models, and the same by full passes."""

import warnings

import torch

from saebench.models.language_model import LanguageModel
from saebench.patching import PatchedReadout
from saebench.patching.plain import PlainPass

TOLERANCE = 1e-4
EQUAL = [[0, 5, 9, 11, 30, 7, 8, 21], [0, 6, 3, 2, 31, 17, 18, 1], [0, 1, 9, 4, 30, 2, 35, 6]]
MIXED = [EQUAL[0], [0, 4, 3, 22, 9], EQUAL[1], [0, 9, 4, 3, 22, 9, 17, 1, 2, 3], [0, 3, 8, 8, 1]]


def positions(tokens: list[list[int]], mixed: bool) -> torch.Tensor:
    """The second token everywhere, or a different one in every prompt (among them the last)."""
    if not mixed:
        return torch.full((len(tokens),), 2)
    return torch.tensor([(3 * i + 1) % len(prompt) for i, prompt in enumerate(tokens)])


def readout(model: LanguageModel, tokens, places, **options) -> PatchedReadout:
    """A readout that has to use the suffix."""
    answer = torch.arange(len(tokens)) + 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = PatchedReadout(model, tokens, places, answer, answer + 7, **options)
    assert made.way == "suffix"
    return made


def plain(model: LanguageModel, tokens, places, edited) -> torch.Tensor:
    """Every prompt on its own, by full forward passes."""
    passes = PlainPass(model, tokens, places)
    rows = torch.arange(len(tokens))
    return torch.cat([passes.logits(edited[i : i + 1], rows[i : i + 1]) for i in rows])


def noise(like: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


def outcomes(made: PatchedReadout, seed: int = 0, rows=None):
    clean = made.clean() if rows is None else made.clean()[rows]
    edits = {k: clean + k * noise(clean, seed + k) for k in range(4)}
    return edits, clean, made.run(edits, reference=clean, rows=rows)
