"""The gradient of LD with respect to activations: a first-order guess at what patching them does.

Attribution patching [Nanda 2023; Syed, Rager and Conmy 2023, arXiv 2310.10348]: `(a_s − a_b) · ∇_a LD`, one
forward and one backward pass for all places together.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.models.language_model import LanguageModel
from saebench.patching.capture import by_length
from saebench.patching.placement import Hook, Placement, check, hooked
from saebench.patching.sharing import full_pass

K = TypeVar("K", bound=Hashable)


def ld_gradients(
    model: LanguageModel,
    tokens: Sequence[Sequence[int]],
    places: Mapping[K, Placement],
    answer: Int[Tensor, "n"],
    distractor: Int[Tensor, "n"],
) -> dict[K, Float[Tensor, "n d_in"]]:
    """∂LD/∂a of every prompt's clean run at every place, in logits per unit of activation.

    Raises:
        SiteError: if the model lacks a hook point, or a position lies outside its prompt.
    """
    check(model, tokens, list(places.values()))
    pair = torch.stack([answer, distractor], 1).to(model.device)
    out = {
        key: torch.zeros(len(tokens), model.d_in(p.hook, p.head), device=model.device)
        for key, p in places.items()
    }
    for length, rows in by_length(tokens).items():

        def run(block: slice, _: int, rows: Tensor = rows) -> None:
            part = rows[block]
            batch = torch.tensor([tokens[i] for i in part.tolist()], device=model.device)
            seen: dict[str, Tensor] = {}

            def start(tensor: Tensor, hook: Any) -> Tensor:
                # the parameters are frozen: what is differentiated starts here
                return tensor.detach().requires_grad_()

            def keep(name: str) -> Hook:
                def hold(tensor: Tensor, hook: Any) -> Tensor:
                    # returned, since TransformerLens hooks heads on a view that is dropped otherwise
                    seen[name] = tensor
                    return tensor

                return name, hold

            names = dict.fromkeys(place.hook for place in places.values())
            with torch.enable_grad(), hooked(model, [("blocks.0.hook_in", start), *map(keep, names)]):
                logits = model.bridge(batch, logits_to_keep=1)[:, -1].float()
                both = logits.gather(1, pair[part.to(model.device)])
                found = torch.autograd.grad((both[:, 0] - both[:, 1]).sum(), list(seen.values()))
            gradients = dict(zip(seen, found, strict=True))
            beside = torch.arange(len(part), device=model.device)
            for key, place in places.items():
                picked = gradients[place.hook][beside, place.positions[part].to(model.device)].float()
                out[key][part.to(model.device)] = (
                    picked.flatten(1) if place.head is None else picked[:, place.head]
                )

        # a backward pass keeps every block's values until it has come back to them
        cost = full_pass(model, length)
        model.budget.in_blocks(len(rows), cost._replace(bytes=cost.bytes * 4 * model.n_layers), run)
    return out
