"""Whether the suffix reproduces the full pass on this model: a few prompts, both ways."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from saebench.models.language_model import LanguageModel
from saebench.patching.capture import capture
from saebench.patching.placement import Placement
from saebench.patching.plain import PlainPass
from saebench.patching.suffix import SuffixPass

# Largest difference between logits, absolute and relative to the largest logit.
ABSOLUTE = 1e-4
RELATIVE = {torch.float32: 1e-5, torch.bfloat16: 0.05, torch.float16: 0.01}


@torch.no_grad()
def disagreement(plain: PlainPass, suffix: SuffixPass, pair: Int[Tensor, "n 2"]) -> str | None:
    """What is wrong with the suffix, or None. Runs two prompts of up to three kinds of passes."""
    parts = list(suffix.parts(torch.arange(len(plain.tokens))))
    for number in sorted({0, len(parts) // 2, len(parts) - 1}):
        # the ends of a pass: where lengths or positions are mixed, they differ
        rows = parts[number][[0, -1]].unique()
        edited = _noisy(plain.model, [plain.tokens[i] for i in rows.tolist()], plain.places, rows)
        full = torch.cat([plain.logits(edited[i, None], rows[i, None]) for i in range(len(rows))])
        try:
            fast = suffix.logits(edited, rows)
            few = suffix.token_logits(edited, rows, pair[rows.to(pair.device)])
        # what a model of an unforeseen build may raise; the message reaches the user
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
            return f"{type(error).__name__}: {error}"
        both = full.gather(1, pair[rows.to(pair.device)])
        most = max(
            (full - fast).abs().max().item() if full.shape == fast.shape else torch.inf,
            (both - few).abs().max().item() if both.shape == few.shape else torch.inf,
        )
        allowed = max(ABSOLUTE, RELATIVE[plain.model.dtype] * full.abs().max().item())
        if not most <= allowed:
            return f"logits differ by {most:.1e}, allowed is {allowed:.1e}"
    return None


def _noisy(
    model: LanguageModel, tokens: list[Sequence[int]], places: Sequence[Placement], rows: Tensor
) -> Tensor:
    """Clean activations of the prompts, moved by noise of their own size, side by side."""
    found = capture(
        model, tokens, {i: place._replace(positions=place.positions[rows]) for i, place in enumerate(places)}
    )
    clean = torch.cat([found[i] for i in range(len(places))], dim=1)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)).to(clean)
    return clean + clean.std() * noise
