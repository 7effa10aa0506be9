"""What is known of subspaces that were trained into a model: of the bundled one, and of planted ones."""

import json
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.cross_section import Attribute, Split
from saebench.dictionaries.supervised import SupervisedDictionary, independent
from saebench.errors import TaskError
from saebench.models.known import DEMO
from saebench.models.language_model import LanguageModel
from saebench.site import Site
from saebench.spec import EntitiesSpec, PlantedTruth, Task

BUNDLED = Site.parse("blocks.1.hook_resid_pre@entity")
"""The one site at which the bundled model's facts were planted."""


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
        return Truth(_bundled(model, site), {})
    if model.sha256 != truth.model_sha256:
        return Truth(
            {}, {}, (f"{task.name} was planted in another model: nothing is known of {model.name!r}",)
        )
    if str(site) != truth.site:
        return Truth({}, {}, (f"variables were planted at {truth.site}: nothing is known of {site}",))
    subspaces, atoms = _read(task, truth, attributes, model)
    said = "the planted model is not certified: its truth is claimed, not shown"
    return Truth(subspaces, atoms, () if truth.certified else (said,))


def _bundled(model: LanguageModel, site: Site) -> dict[str, Tensor]:
    if model.name != "demo" or site != BUNDLED:
        return {}
    from safetensors.torch import load_file

    found = load_file(DEMO / "planted.safetensors")
    return {name: rows.to(model.device, torch.float32) for name, rows in found.items()}


def _read(
    task: Task[EntitiesSpec], truth: PlantedTruth, attributes: Sequence[Attribute], model: LanguageModel
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    path = task.folder / truth.file
    subspaces, atoms = {}, {}
    try:
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
    return subspaces, atoms


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
