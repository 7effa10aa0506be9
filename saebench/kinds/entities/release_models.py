"""What the five files of the published RAVEL data hold, as pydantic types, and how a wrong entry is said.

Only what is asked for is checked: values and templates of the chosen attributes, splits of the entities
and templates that these have.
"""

import reprlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, TypeAdapter, ValidationError

from saebench.errors import TaskError
from saebench.kinds.entities.release_files import Parts

SLOT = "{entity}"
Split = Literal["train", "val", "test"]


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("Expected a text")
    return text


def _one_slot(template: str) -> str:
    if template.count("%s") != 1 or SLOT in template:
        raise ValueError("Expected %s exactly once, where the entity's name goes")
    return template


Value = Annotated[str, AfterValidator(_filled)]
Template = Annotated[str, AfterValidator(_one_slot)]


class About(BaseModel):
    """What is known of a text from Wikipedia; one written about an entity names it."""

    split: Split
    entity: Any = None


class Release(NamedTuple):
    """The checked data of an entity type, for the attributes that are asked for."""

    values: dict[str, dict[str, Value]]
    """By entity and attribute."""
    prompts: dict[str, list[Template]]
    """By attribute, with `%s` where the entity's name goes."""
    context: dict[Template, About]
    entity_split: dict[str, Split]
    prompt_split: dict[str, Split]


_PARTS = {name: TypeAdapter(part) for name, part in Release.__annotations__.items()}
_REMEDIES = {
    "values": "for every attribute that is asked for; leave the entity or the attribute out (--ravel-attributes)",
    "entity_split": "for every entity",
    "prompt_split": "for every template",
}


def check(parts: Parts, attributes: Sequence[str]) -> Release:
    """The entries of some attributes, each as it should be.

    Raises:
        TaskError: naming file and entry of the first that is not.
    """

    def checked(name: str, value: object) -> Any:
        try:
            return _PARTS[name].validate_python(value)
        except ValidationError as error:
            raise TaskError(_paragraph(parts, name, error)) from error

    def asked(row: Any) -> Any:
        return {a: row.get(a) for a in attributes} if isinstance(row, dict) else row

    values = checked("values", {entity: asked(row) for entity, row in parts.values.items()})
    prompts = checked("prompts", {a: parts.prompts[a] for a in attributes})
    templates = [template for some in prompts.values() for template in some]
    return Release(
        values,
        prompts,
        checked("context", parts.context),
        checked("entity_split", {entity: parts.entity_split.get(entity) for entity in values}),
        checked("prompt_split", {template: parts.prompt_split.get(template) for template in templates}),
    )


def _paragraph(parts: Parts, name: str, error: ValidationError) -> str:
    """File, entry, what is there and what was expected, of the first thing that is wrong."""
    first = error.errors()[0]
    path = parts.paths[Release._fields.index(name)]
    entry = reprlib.repr(first["input"])
    if first["loc"][-1] != "[key]":
        entry = f"{', '.join(map(repr, first['loc']))} is {entry}"
    expected = first["msg"].removeprefix("Value error, ").replace("Input should be", "Expected")
    expected = expected.removesuffix(f" or instance of {About.__name__}")
    remedy = f" {_REMEDIES[name]}" if name in _REMEDIES else ""
    return f"{path}: {entry}. {expected}{remedy}."
