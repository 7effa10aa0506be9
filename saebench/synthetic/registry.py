"""The list of families, and generators by a task's name."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from saebench.errors import TaskError, unknown
from saebench.models.devices import find_device
from saebench.spec import SyntheticSpec, Task
from saebench.synthetic.families import (
    Composed,
    Correlated,
    Family,
    Hierarchical,
    Independent,
    Occlusion,
    Splitting,
)
from saebench.synthetic.generator import Generator
from saebench.synthetic.scale import Scale

if TYPE_CHECKING:
    pass


FAMILIES: dict[str, type[Family]] = {
    "independent": Independent,
    "correlated": Correlated,
    "hierarchical": Hierarchical,
    "occlusion": Occlusion,
    "splitting": Splitting,
    "composed": Composed,
    "scale": Scale,
}


def make_generator(task: Task[SyntheticSpec], overrides: dict[str, Any] | None = None) -> Generator:
    """The generator of a synthetic task; `overrides` replace some of its parameters (for curves).

    Raises:
        TaskError: for an unknown family, or a wrong or missing parameter.
    """
    spec = task.spec
    if spec.family not in FAMILIES:
        raise TaskError(unknown("family of synthetic tasks", spec.family, FAMILIES))
    return family(task.name, spec.family, spec.parameters | (overrides or {})).build(task.name, spec.seed)


def generator_on(task: Task[SyntheticSpec], device: str) -> Generator:
    """The generator of a task with its activations on a device (`auto`: a GPU if there is one)."""
    return replace(make_generator(task), device=find_device(device))


def family(task: str, name: str, parameters: dict[str, Any]) -> Family:
    """Validated parameters of a family."""
    try:
        return FAMILIES[name].model_validate(parameters)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "parameters"
        raise TaskError(
            f"Task {task!r}, family {name!r}: parameters.{where}: {first['msg']}."
            f" Known: {', '.join(FAMILIES[name].model_fields)}."
        ) from error
