"""Modules that do something else for the length of a pass."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn


@contextlib.contextmanager
def replaced(modules: Sequence[nn.Module], forward: Callable[..., Any]) -> Iterator[None]:
    """Gives modules another forward pass for a while; the modules stay where they are.

    Set in the instance's dictionary, since bridge components pass attributes on to what they wrap.
    """
    for module in modules:
        module.__dict__["forward"] = forward
    try:
        yield
    finally:
        for module in modules:
            del module.__dict__["forward"]


def skipped(blocks: Sequence[nn.Module], tuples: bool) -> contextlib.AbstractContextManager[None]:
    """Makes blocks hand their input on, as a tuple if that is what they return.

    They keep their places in the list of blocks, since some models choose a mask by the index.
    """

    def skip(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        return (hidden_states,) if tuples else hidden_states

    return replaced(blocks, skip)
