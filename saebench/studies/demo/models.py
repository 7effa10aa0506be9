"""The bundled model and its sibling, both ready for interventions.

The bundled weights are older than specs of planted models, and so are their subspaces. `demo/spec.toml` says
what they are as one: its questions are what they are certified on, and `saebench plant` trains the sibling.
"""

from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from saebench.models.known import DEMO
from saebench.planting import certificate, writing
from saebench.planting.certificate import Certificate
from saebench.planting.geometry import Geometry
from saebench.planting.making import Opened, kept_certificate, weights_sha256
from saebench.planting.network import Halves
from saebench.planting.reading import read_spec
from saebench.planting.world import World, make_world

SPEC = DEMO.parent / "spec.toml"


def open_bundled(folder: Path = DEMO) -> Opened:
    """The bundled model in the world of the spec, with its own subspaces and the certificate kept with it.

    Raises:
        PlantingError: if the folder holds no certificate.
    """
    from transformers import AutoModelForCausalLM

    world = make_world(read_spec(SPEC))
    halves = Halves(AutoModelForCausalLM.from_pretrained(folder).eval(), world.spec.model.site)
    rows = load_file(folder / writing.TRUTH)
    geometry = measured_geometry(halves, world, {name: rows[name] for name in world.spec.carried})
    return Opened(halves, world, geometry, kept_certificate(folder))


def certify(opened: Opened, folder: Path = DEMO) -> Certificate:
    """The certificate of the weights in `folder`, measured anew."""
    return certificate.certify(opened.halves, opened.world, opened.geometry, weights_sha256(folder))


def measured_geometry(halves: Halves, world: World, rows: dict[str, Float[Tensor, "rank d"]]) -> Geometry:
    """The geometry of subspaces that are orthogonal and whose atoms nobody chose.

    Atoms are the means of every value within its subspace, over the entities that are not of `test`: those
    tell whether values are decodable.
    """
    acts, labels = certificate.activations(halves, world)[world.known], world.labels[world.known]
    atoms = {}
    for name, basis in rows.items():
        column = labels[:, world.variables.index(name)]
        means = torch.stack([acts[column == value].mean(0) for value in column.unique()])
        atoms[name] = means @ basis.T @ basis
    return Geometry(rows, atoms, torch.cat(list(rows.values())))
