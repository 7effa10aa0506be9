"""From a spec to a planted model: `plant`."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch

from saebench.errors import PlantingError
from saebench.planting import writing
from saebench.planting.certificate import Certificate, certify
from saebench.planting.geometry import Geometry, make_geometry
from saebench.planting.network import Halves, new_model
from saebench.planting.reading import read_spec, read_whole
from saebench.planting.spec import PlantSpec
from saebench.planting.training import Report, partial_of, train
from saebench.planting.world import World, make_world

STATE = ".training.pt"


class Planted(NamedTuple):
    """A planted model on disk."""

    folder: Path
    certificate: Certificate
    made: bool
    """False if it was there already."""


def plant(
    path: Path, out: Path, force: bool = False, report: Callable[[PlantSpec], Report] | None = None
) -> Planted:
    """Trains the model of a spec file into `out`/NAME, measures it, and writes its task.

    A model of the same spec that is there is kept unless `force`; a run that was stopped goes on where
    its state was last saved. One thread is used, so that the same spec gives the same weights. `report`
    is given the spec and returns what is called after every step with its number and the loss.

    Raises:
        PlantingError: if the spec is wrong, the folder holds something else, or training diverges.
    """
    spec = read_spec(path)
    folder = out / spec.name
    # one that is replaced anyway may be damaged
    found = None if force else read_certificate(folder)
    if found and found.spec_sha256 == spec.sha256:
        return Planted(folder, found, False)
    _ensure_ours(folder, spec.name, path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        made = _make(spec, path.read_text("utf-8"), folder, report(spec) if report else _silent)
    finally:
        torch.set_num_threads(threads)
    return Planted(folder, made, True)


def _ensure_ours(folder: Path, name: str, spec: Path) -> None:
    """Refuses a place that holds something else than a planted model or the beginnings of one.

    Raises:
        PlantingError: naming it.
    """
    file = next((place for place in (folder.parent, folder) if place.is_file()), None)
    if file:
        raise PlantingError(
            f"{file} is a file. Expected a folder, or nothing, for the model {name!r}: choose another --out,"
            f" or another name in {spec}."
        )
    state = folder / STATE
    begun = (folder / writing.CERTIFICATE, state, partial_of(state))
    if folder.exists() and any(folder.iterdir()) and not any(file.exists() for file in begun):
        raise PlantingError(
            f"{folder} holds something that `saebench plant` did not write. Expected an empty place for"
            f" the model {name!r}: choose another --out, or another name in {spec}."
        )


def _silent(step: int, loss: float) -> None:
    """Nobody watches."""


def _make(spec: PlantSpec, text: str, folder: Path, report: Report) -> Certificate:
    world, geometry = make_world(spec), make_geometry(spec)
    halves = Halves(new_model(spec, len(world.tokenizer)), spec.model.site)
    train(halves, world, geometry, folder / STATE, report)
    halves.model.eval()
    with TemporaryDirectory() as scratch:
        # what is there stays until all of the new one is
        saved = Path(scratch)
        writing.save_model(halves.model, world, saved)
        certificate = certify(halves, world, geometry, weights_sha256(saved))
        writing.write_planted(folder, saved, world, geometry, certificate, text)
    for file in (folder / STATE, partial_of(folder / STATE)):
        file.unlink(missing_ok=True)
    return certificate


class Opened(NamedTuple):
    """A planted model in its halves, with the world it speaks of and where its variables lie."""

    halves: Halves
    world: World
    geometry: Geometry
    certificate: Certificate


def open_planted(folder: Path) -> Opened:
    """The planted model of a folder, ready for interventions; the world is drawn again from its spec.

    Raises:
        PlantingError: if it is not a planted model.
    """
    from transformers import AutoModelForCausalLM

    certificate = kept_certificate(folder)
    whole = folder / writing.WHOLE_SPEC
    spec = read_whole(whole) if whole.exists() else read_spec(folder / writing.SPEC)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    return Opened(Halves(model, spec.model.site), make_world(spec), make_geometry(spec), certificate)


def weights_sha256(folder: Path) -> str:
    """The digest by which the rest of the package knows a model."""
    from saebench.models.loading import load_model

    return load_model(str(folder), device="cpu").sha256


def read_certificate(folder: Path) -> Certificate | None:
    """The certificate of a planted model, None where there is none.

    Raises:
        PlantingError: if it is damaged.
    """
    file = folder / writing.CERTIFICATE
    if not file.exists():
        return None
    try:
        return Certificate.model_validate_json(file.read_text("utf-8"))
    except ValueError as error:
        raise PlantingError(f"{file} is damaged. Plant the model again with --force.") from error


def kept_certificate(folder: Path) -> Certificate:
    """The certificate of a planted model.

    Raises:
        PlantingError: if there is none, or it is damaged.
    """
    found = read_certificate(folder)
    if found is None:
        raise PlantingError(
            f"{folder} is not a planted model: it holds no {writing.CERTIFICATE}. Expected a folder that"
            " `saebench plant` wrote."
        )
    return found
