"""Kinds: how a task's data becomes cross-sections. To add one: a module, a line here, a test."""

from collections.abc import Callable

from saebench.kinds import synthetic
from saebench.kinds.base import Built
from saebench.kinds.entities import sections as entities
from saebench.kinds.names import sections as names
from saebench.kinds.passages import Draw, entity_passages, names_passages

KINDS: dict[str, Callable[..., Built]] = {
    "names": names.build,
    "entities": entities.build,
    "synthetic": synthetic.build,
}

PASSAGES: dict[str, Draw | None] = {"names": names_passages, "entities": entity_passages, "synthetic": None}
"""Text of a task to train SAEs on, for kinds that are about language models."""
