"""Any subset of some places patched, and several subsets in one pass: the joint effect of many sets of sites."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saebench.models.language_model import LanguageModel
from saebench.patching.placement import Hook, Placement, check, hooked
from saebench.patching.sharing import full_pass
from saebench.patching.swap import replaced


@torch.no_grad()
def subset_differences(
    model: LanguageModel,
    tokens: Sequence[Sequence[int]],
    places: Sequence[Placement],
    values: Sequence[Float[Tensor, "n _"]],
    taken: Sequence[Bool[Tensor, "k _"]],
    answer: Int[Tensor, "n"],
    distractor: Int[Tensor, "n"],
) -> Float[Tensor, "k n"]:
    """LD of every prompt with parts of some places' values in place, for each of k sets of parts.

    `places` are whole hook points; `taken[i]` says which columns of `values[i]` a set puts in place. What is
    not in a set follows from what is, as in a pass where only the set's places are patched. Full passes, of
    all sets over one batch of prompts: for long lists of sites that reach through the whole model.

    Raises:
        SiteError: if the model lacks a hook point, or a position lies outside its prompt.
    """
    check(model, tokens, places)
    device, n, k = model.device, len(tokens), len(taken[0]) if taken else 1
    length = torch.tensor([len(prompt) for prompt in tokens])
    padded = torch.zeros(n, int(length.max()), dtype=torch.long)
    for row, prompt in zip(padded, tokens, strict=True):
        row[: len(prompt)] = torch.tensor(prompt)
    unembed = model.bridge.unembed.original_component
    pair = torch.stack([answer, distractor], 1).to(device)
    used = [_Used.of(*each) for each in zip(places, values, taken, strict=True) if bool(each[2].any())]
    out = torch.empty(k, n, device=device)

    def work(block: slice, _: int) -> None:
        rows = torch.arange(n)[block]
        # all prompts of one set, then those of the next
        last = (length[rows] - 1).repeat(k).to(device)
        wanted, beside = pair[rows.to(device)].repeat(k, 1), torch.arange(k * len(rows), device=device)

        def two(hidden: Float[Tensor, "b t d_model"]) -> Float[Tensor, "b 1 2"]:
            logits = torch.einsum("bd,bkd->bk", hidden[beside, last], unembed.weight[wanted])
            return (logits if unembed.bias is None else logits + unembed.bias[wanted])[:, None]

        hooks = [one.writer(rows) for one in used]
        with hooked(model, hooks), replaced([model.bridge.unembed], two):
            both = model.bridge(padded[rows].repeat(k, 1).to(device))[:, 0].float()
        out[:, block] = (both[:, 0] - both[:, 1]).unflatten(0, (k, len(rows)))

    model.budget.in_blocks(n, full_pass(model, padded.shape[1]), work, each=k)
    return out


class _Used(NamedTuple):
    """A place of which some of the sets take something."""

    place: Placement
    value: Float[Tensor, "n d_in"]
    sets: Int[Tensor, "s"]
    mask: Bool[Tensor, "s d_in"]
    """What each of those takes."""

    @classmethod
    def of(cls, place: Placement, value: Tensor, taken: Bool[Tensor, "k d_in"]) -> "_Used":
        sets = taken.any(1).nonzero()[:, 0]
        return cls(place, value, sets, taken[sets].to(value.device))

    def writer(self, rows: Int[Tensor, "m"]) -> Hook:
        """A hook that puts in place what each set takes, in the rows of those sets; see `placement.writer`."""
        device, s, m = self.value.device, len(self.sets), len(rows)
        at = (self.sets[:, None] * m + torch.arange(m)).flatten().to(device)
        where = self.place.positions[rows].repeat(s).to(device)
        value = self.value[rows.to(device)]

        def write(tensor: Tensor, hook: Any) -> Tensor:
            shape = tensor.shape[2:]
            old = tensor[at, where].reshape(s, m, *shape)
            new = value.to(tensor.dtype).reshape(1, m, *shape)
            tensor[at, where] = torch.where(self.mask.reshape(s, 1, *shape), new, old).flatten(0, 1)
            return tensor

        return self.place.hook, write
