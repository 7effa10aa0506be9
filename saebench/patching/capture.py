"""Clean activations at any number of sites, read in one pass over the prompts."""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.errors import SiteError
from saebench.models.language_model import LanguageModel
from saebench.models.memory import Budget, Cost
from saebench.patching.placement import Placement, check, hooked, reader

K = TypeVar("K", bound=Hashable)


@torch.no_grad()
def capture(
    model: LanguageModel,
    tokens: Sequence[Sequence[int]],
    places: Mapping[K, Placement],
    *,
    budget: Budget | None = None,
) -> dict[K, Float[Tensor, "n d_in"]]:
    """Activations at every place, one forward pass per prompt, prompts of equal length together.

    They are float32 whatever the model computes in: what is measured on them sums over thousands.

    Raises:
        SiteError: if the model lacks a hook point, or a position lies outside its prompt.
    """
    check(model, tokens, list(places.values()))
    budget = budget or model.budget
    out = {
        key: torch.empty(len(tokens), model.d_in(p.hook, p.head), device=model.device, dtype=torch.float32)
        for key, p in places.items()
    }
    last = max((place.layer for place in places.values()), default=-1)
    for length, rows in by_length(tokens).items():

        def read(block: slice, _: int, rows: Tensor = rows) -> None:
            part = rows[block]
            batch = torch.tensor([tokens[i] for i in part.tolist()], device=model.device)
            found: dict[K, list[Tensor]] = {key: [] for key in places}
            hooks = [
                reader(place, place.positions[part].to(model.device), found[key])
                for key, place in places.items()
            ]
            # stopping before the block after the last site; past the end nothing is to be stopped
            stop = last + 1 if last + 1 < model.n_layers else None
            with hooked(model, hooks):
                model.bridge(batch, stop_at_layer=stop, logits_to_keep=1)
            for key, values in found.items():
                if not values:
                    raise SiteError(
                        f"{model.name} has {places[key].hook} and never computes it. Expected a hook point of its"
                        " forward pass."
                    )
                out[key][part.to(model.device)] = values[0].float()

        budget.in_blocks(len(rows), full_pass(model, length), read)
    return out


def by_length(tokens: Sequence[Sequence[int]]) -> dict[int, Tensor]:
    """Indices of the prompts of each length, shortest first."""
    groups: dict[int, list[int]] = defaultdict(list)
    for i, prompt in enumerate(tokens):
        groups[len(prompt)].append(i)
    return {length: torch.tensor(groups[length]) for length in sorted(groups)}


def full_pass(model: LanguageModel, length: int, unembedded: int = 1) -> Cost:
    """What a full forward pass of one prompt takes, with that many of its tokens unembedded."""
    cfg = model.bridge.cfg
    token = 2 * (cfg.d_mlp or 4 * cfg.d_model) + 8 * cfg.d_model + 3 * cfg.n_heads * length
    return Cost(4 * (length * token + 2 * unembedded * model.d_vocab), length)
