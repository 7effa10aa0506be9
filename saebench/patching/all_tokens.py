"""Activations of every token of some prompts."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.models.language_model import LanguageModel
from saebench.patching.capture import by_length
from saebench.patching.placement import hooked
from saebench.patching.sharing import full_pass


@torch.no_grad()
def capture_all(
    model: LanguageModel,
    tokens: Sequence[Sequence[int]],
    hook: str,
    head: int | None = None,
    *,
    skip: int = 0,
) -> Float[Tensor, "n d_in"]:
    """Activations at a hook point, of all tokens but the first `skip` of every prompt, prompt by prompt.

    The model runs no further than the hook's block.

    Raises:
        SiteError: if the model lacks the hook point or the head.
    """
    width, layer = model.d_in(hook, head), int(hook.split(".")[1])
    lengths = torch.tensor([max(0, len(prompt) - skip) for prompt in tokens])
    ends = lengths.cumsum(0)
    out = torch.empty(int(ends[-1]), width, dtype=model.dtype, device=model.device)
    budget = model.budget
    stop = layer + 1 if layer + 1 < model.n_layers else None
    for length, rows in by_length(tokens).items():
        if length <= skip:
            continue

        def read(block: slice, _: int, rows: Tensor = rows, length: int = length) -> None:
            part = rows[block]
            batch = torch.tensor([tokens[i] for i in part.tolist()], device=model.device)
            found: list[Tensor] = []

            def keep(tensor: Tensor, hook: Any) -> None:
                kept = tensor[:, skip:]
                found.append(kept.flatten(2) if head is None else kept[:, :, head])

            with hooked(model, [(hook, keep)]):
                model.bridge(batch, stop_at_layer=stop, logits_to_keep=1)
            at = (ends[part] - lengths[part])[:, None] + torch.arange(length - skip)
            out[at.flatten().to(model.device)] = found[0].flatten(0, 1)

        budget.in_blocks(len(rows), full_pass(model, length), read)
    return out
