"""Kinds: how a task's data becomes cross-sections. To add one: a module, a line here, a test."""

from collections.abc import Callable
from typing import Any, NamedTuple

from saebench.kinds import synthetic
from saebench.kinds.base import Built, Settings, no_generator
from saebench.kinds.entities import sections as entities
from saebench.kinds.entities.asking import SIZES as ENTITIES
from saebench.kinds.entities.pairs import entity_pairs
from saebench.kinds.names import sections as names
from saebench.kinds.names import together
from saebench.kinds.names.pairs import names_pairs
from saebench.kinds.pairs import no_pairs
from saebench.kinds.passages import Draw, entity_passages, names_passages
from saebench.kinds.sizes import Sizes
from saebench.models.language_model import LanguageModel
from saebench.patching.pairs import Number, Questions
from saebench.spec import Task
from saebench.synthetic.generator import Generator
from saebench.synthetic.registry import generator_on

__all__ = ["KINDS", "Kind"]


class Kind(NamedTuple):
    """What is done with the tasks of a kind."""

    build: Callable[..., Built]
    """From task, model, site and settings to a cross-section."""
    generator: Callable[[Task[Any], str], Generator] = no_generator
    """What draws the data of a task on a device, for specs that say `generates`."""
    pairs: Callable[[Task[Any], LanguageModel, Settings, Number], Questions] = no_pairs
    """Base prompts beside sources, to look for sites on, for kinds that are about language models."""
    passages: Draw | None = None
    """Text of a task to train SAEs on, for kinds that are about language models."""
    sizes: Sizes[Any] | None = None
    """How much its budgets are; without it, a sweep that needs more prompts than it has goes on to `full`."""


KINDS: dict[str, Kind] = {
    "names": Kind(together.build, pairs=names_pairs, passages=names_passages, sizes=names.SIZES),
    "entities": Kind(entities.build, pairs=entity_pairs, passages=entity_passages, sizes=ENTITIES),
    "synthetic": Kind(synthetic.build, generator_on, sizes=synthetic.SIZES),
}
