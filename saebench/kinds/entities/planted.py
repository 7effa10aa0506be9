"""What is known of subspaces that were trained into a model, by the task that was planted with it."""

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.cross_section import Attribute, Split
from saebench.dictionaries.supervised import SupervisedDictionary, independent
from saebench.errors import TaskError
from saebench.models.known import BUNDLED
from saebench.models.language_model import LanguageModel
from saebench.site import Site
from saebench.spec import EntitiesSpec, PlantedTruth, Task, read_task


class Truth(NamedTuple):
    """Subspaces (orthonormal rows) and, where they are known, the atoms of all values, by attribute."""

    subspaces: dict[str, Float[Tensor, "rank d_in"]]
    atoms: dict[str, Float[Tensor, "n_values d_in"]]
    notes: tuple[str, ...] = ()


def read_truth(
    task: Task[EntitiesSpec],
    truth: PlantedTruth | None,
    attributes: Sequence[Attribute],
    model: LanguageModel,
    site: Site,
) -> Truth:
    """What was planted in this model at this site; nothing for other models and sites.

    Raises:
        TaskError: if the task's file of subspaces cannot be read or lacks one of its attributes.
    """
    if truth is None:
        return _bundled(model, site)
    if model.sha256 != truth.model_sha256:
        return Truth(
            {}, {}, (f"{task.name} was planted in another model: nothing is known of {model.name!r}",)
        )
    if str(site) != truth.site:
        return Truth({}, {}, (f"variables were planted at {truth.site}: nothing is known of {site}",))
    return _read(task, truth, attributes, model)


def _bundled(model: LanguageModel, site: Site) -> Truth:
    """The subspaces of the bundled model for other tasks than its own; those score without its atoms.

    It is known by its name: rounded to another dtype its weights have another digest.
    """
    if model.name != "demo":
        return Truth({}, {})
    own: Task[EntitiesSpec] = read_task(BUNDLED / "task")
    assert own.spec.planted is not None
    if str(site) != own.spec.planted.site:
        return Truth({}, {})
    of = [Attribute(name, ()) for name in own.spec.attributes]
    return _read(own, own.spec.planted, of, model)._replace(atoms={})


def _read(
    task: Task[EntitiesSpec], truth: PlantedTruth, attributes: Sequence[Attribute], model: LanguageModel
) -> Truth:
    from safetensors import SafetensorError, safe_open

    path = task.folder / truth.file
    subspaces, atoms = {}, {}
    try:
        if truth.sha256 not in (None, sha256(path.read_bytes()).hexdigest()):
            raise ValueError("it is not the file that was planted with the model: its digest is another")
        with safe_open(path, "pt") as file:
            order = json.loads((file.metadata() or {})["values"])
            for attribute in attributes:
                rows, points = (file.get_tensor(f"{what}.{attribute.name}") for what in ("subspace", "atoms"))
                # a table lists values in the order of their names
                at = [order[attribute.name].index(value) for value in attribute.values]
                subspaces[attribute.name] = rows.to(model.device)
                atoms[attribute.name] = points[at].to(model.device)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise TaskError(
            f"{path} cannot be read as the planted subspaces of {task.name!r} ({error}). Expected"
            " subspace.NAME and atoms.NAME for every attribute, as `saebench plant` writes them: plant the"
            " model again."
        ) from error
    said = "the planted model is not certified: its truth is claimed, not shown"
    return Truth(subspaces, atoms, () if truth.certified else (said,))


def oracle(truth: Truth, attributes: Sequence[Attribute], fit: Split) -> SupervisedDictionary | None:
    """The planted atoms as a dictionary that reads labels, centred on `fit`; None where they are unknown."""
    if not truth.atoms:
        return None
    blocks = []
    for at, attribute in enumerate(attributes):
        atoms = truth.atoms[attribute.name]
        blocks.append(atoms - atoms[fit.labels[:, at]].mean(0))
    return SupervisedDictionary(
        "control:oracle", independent(attributes), torch.cat(blocks), fit.acts.mean(0)
    )
