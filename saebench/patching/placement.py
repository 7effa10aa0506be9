"""A hook point with a token position per prompt, and the hooks that read and write there."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.errors import SiteError
from saebench.models.language_model import LanguageModel

Hook = tuple[str, Callable[..., Any]]


class Placement(NamedTuple):
    """A site whose semantic position has been resolved to a token index in every prompt."""

    hook: str
    positions: Int[Tensor, "n"]
    head: int | None = None

    @property
    def layer(self) -> int:
        return int(self.hook.split(".")[1])


def check(model: LanguageModel, tokens: Sequence[Sequence[int]], places: Sequence[Placement]) -> None:
    """Refuses hook points that the model lacks and positions outside the prompts.

    Raises:
        SiteError: naming the first misfit.
    """
    lengths = torch.tensor([len(prompt) for prompt in tokens])
    for place in places:
        model.d_in(place.hook, place.head)
        if len(place.positions) != len(tokens):
            raise SiteError(
                f"{place.hook} has {len(place.positions)} positions for {len(tokens)} prompts;"
                " expected one position per prompt."
            )
        outside = (place.positions < 0) | (place.positions >= lengths)
        if outside.any():
            i = int(outside.nonzero()[0])
            raise SiteError(
                f"{place.hook}: position {int(place.positions[i])} lies outside prompt {i}, which"
                f" has {int(lengths[i])} tokens."
            )


@contextlib.contextmanager
def hooked(model: LanguageModel, hooks: Sequence[Hook]) -> Iterator[None]:
    """Adds hooks and takes exactly these away again.

    What `bridge.hooks` does, without resolving every alias of the model at every hook, which
    takes longer than a small patched pass.
    """
    bridge = model.bridge
    level, points = bridge.context_level + 1, [model.points[name] for name, _ in hooks]
    bridge.context_level = level
    try:
        for point, (_, function) in zip(points, hooks, strict=True):
            point.add_hook(function, level=level)
        yield
    finally:
        for point in points:
            point.remove_hooks("fwd", level=level)
        bridge.context_level -= 1


def reader(place: Placement, positions: Int[Tensor, "b"], into: list[Tensor]) -> Hook:
    """A hook that appends the activations `[b, d_in]` at `positions` to `into`."""

    def read(tensor: Tensor, hook: Any) -> None:
        picked = tensor[torch.arange(len(positions), device=tensor.device), positions]
        into.append(picked.flatten(1) if place.head is None else picked[:, place.head])

    return place.hook, read


def writer(place: Placement, positions: Int[Tensor, "b"], value: Float[Tensor, "b d_in"]) -> Hook:
    """A hook that puts `value` in place at `positions`.

    It writes into the tensor instead of returning a changed copy. At `hook_resid_mid`
    TransformerLens hooks what the second norm reads, and Hugging Face adds that same tensor to
    the MLP's output: a copy would change what the MLP sees and leave the residual stream as it was.
    """

    def write(tensor: Tensor, hook: Any) -> Tensor:
        rows = torch.arange(len(positions), device=tensor.device)
        new = value.to(tensor.dtype)
        if place.head is None:
            tensor[rows, positions] = new.reshape(len(rows), *tensor.shape[2:])
        else:
            tensor[rows, positions, place.head] = new
        return tensor

    return place.hook, write


def writers(
    places: Sequence[Placement],
    rows: Int[Tensor, "b"],
    edited: Float[Tensor, "b d_in"],
    widths: Sequence[int],
    start: int = 0,
) -> list[Hook]:
    """One writer per place; `edited` holds their values side by side, in order.

    `start` is the position of the first token of the pass.
    """
    values = edited.split(list(widths), dim=1)
    return [
        writer(place, (place.positions[rows] - start).to(edited.device), value)
        for place, value in zip(places, values, strict=True)
    ]
