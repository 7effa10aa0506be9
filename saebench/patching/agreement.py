"""Whether the suffix reproduces the full pass on this model: a few prompts, both ways."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from saebench.models.language_model import LanguageModel
from saebench.patching.capture import capture
from saebench.patching.placement import Placement
from saebench.patching.plain import PlainPass
from saebench.patching.rounding import UNFIT, allowed, difference
from saebench.patching.suffix import SuffixPass


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
        # the message reaches the user
        except UNFIT as error:
            return f"{type(error).__name__}: {error}"
        both = full.gather(1, pair[rows.to(pair.device)])
        most, bound = max(difference(full, fast), difference(both, few)), allowed(full, plain.model.dtype)
        if not most <= bound:
            return f"logits differ by {most:.1e}, allowed is {bound:.1e}"
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
