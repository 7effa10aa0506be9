"""What a checkpoint is before and after it is loaded."""

import pickle
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from saebench.checkpoints.origin import Origin
from saebench.dictionaries.objects import ObjectDictionary
from saebench.dictionaries.sae import SaelensDictionary, digest
from saebench.dictionary import Dictionary
from saebench.errors import CheckpointError
from saebench.records.result import DictionaryInfo

FOREIGN = (
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    AssertionError,
    EOFError,
    OSError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
    pickle.PickleError,
    struct.error,
    SyntaxError,
    tokenize.TokenError,
    SafetensorError,
)
"""What code that we call raises when a file is not what it claims to be."""


class TensorInfo(NamedTuple):
    """A tensor as the file announces it, before anything is allocated."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Weights:
    """One file of weights: how it is stored and what it announces."""

    path: Path
    kind: str
    """`safetensors`, `npz` or `torch`."""
    tensors: Mapping[str, TensorInfo]
    """By name, without a prefix that all names share."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Numbers and strings that a torch file holds beside its tensors (`activation`, `k`)."""

    prefix: str = ""
    """What stands in front of every name in the file (`_orig_mod.`, `module.`)."""
    shards: tuple["Weights", ...] = ()
    """The files that hold the tensors, where there are several."""

    def has(self, *names: str) -> bool:
        return all(name in self.tensors for name in names)

    @property
    def origin(self) -> Origin:
        return Origin.of(self.path)


@dataclass(frozen=True)
class Contents:
    """What lies at a path, read without trusting it."""

    path: Path
    configs: Mapping[str, dict[str, Any]]
    weights: tuple[Weights, ...]
    above: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """Configs of the folder above, which count where none beside the weights describes them."""
    problems: tuple[str, ...] = ()
    """Files that look like weights or configs and cannot be read, with the reason."""

    @property
    def origin(self) -> Origin:
        return Origin.of(self.path)

    def config(self, *keys: str) -> dict[str, Any] | None:
        """The first config that has all the keys."""
        fitting = (c for c in self.configs.values() if all(key in c for key in keys))
        return next(fitting, None)

    def having(self, *names: str) -> tuple[Weights, ...]:
        """The weight files that announce all these tensors."""
        return tuple(w for w in self.weights if w.has(*names))


class Parts(NamedTuple):
    """A checkpoint put into SAELens' terms: settings and weights of an inference class."""

    config: dict[str, Any]
    """`architecture`, `d_in`, `d_sae` and what that architecture's config class takes."""
    state: dict[str, Tensor]
    hook: str | None = None
    """Where it writes, and reads too unless `reads` says otherwise."""
    model_name: str | None = None
    training_architecture: str | None = None
    metadata: dict[str, Any] = {}  # noqa: RUF012 a NamedTuple field, never written to
    folded: tuple[str, ...] = ()
    """What was multiplied into the weights while loading."""
    warnings: tuple[str, ...] = ()
    factor: float | None = None
    """The constant input scale, where the checkpoint gives it."""
    whitening: tuple[Tensor, Tensor, Tensor] | None = None
    """Mean, matrix and inverse of input whitening that has still to be folded."""
    reads: str | None = None
    """The hook point a transcoder reads; `config["architecture"]` is then its activation's."""
    transcodes: bool = False
    """Whether it writes elsewhere than it reads."""


class Format(NamedTuple):
    """A way SAEs are stored. Recognised by content; names of files play no part."""

    recognise: Callable[[Contents], bool]
    load: Callable[[Contents, str | None], Parts]
    description: str
    describes: Callable[[Contents], bool] = lambda contents: False
    """Whether a config of this format is there; such a config may stand one folder up."""
    published: Callable[[Contents], bool] = lambda contents: False
    """Whether it lies under a published name that says what it is: such a file needs no --architecture."""


@dataclass(frozen=True)
class Loaded:
    """A dictionary and what is known about it."""

    dictionary: Dictionary
    info: DictionaryInfo
    hook: str | None
    model_name: str | None
    metadata: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    folded: tuple[str, ...] = ()
    normalization: str = "none"
    reads: str | None = None
    """The hook point a transcoder reads; None where it reads where it writes."""

    @property
    def needs_factor(self) -> bool:
        """Whether a constant input scale has still to be measured before anything is encoded."""
        return isinstance(self.dictionary, SaelensDictionary) and self.dictionary.needs_factor

    def fitted(self, acts: Float[Tensor, "n d_in"]) -> "Loaded":
        """The same with the constant input scale measured on `acts` (the fit split), and said so.

        Returns itself where no scale is missing, so it can always be called. The decoder of an
        object in memory is tried on these activations too.

        Raises:
            CheckpointError: if that decoder is not linear in its codes, or the scale undefined.
        """
        if isinstance(self.dictionary, ObjectDictionary):
            self.dictionary.require_linear(acts)
        if not self.needs_factor:
            return self
        assert isinstance(self.dictionary, SaelensDictionary)
        return self._with(
            self.dictionary.fitted(acts),
            f"measured on {len(acts)} activations (the factor of its training is more exact: fold it in)",
        )

    def scaled(self, factor: float) -> "Loaded":
        """The same with a given constant input scale (1 scores the weights as they stand)."""
        if not isinstance(self.dictionary, SaelensDictionary):
            raise CheckpointError(f"{self.info.name} has no input scale to set.")
        return self._with(self.dictionary.scaled(factor), "given")

    def _with(self, dictionary: SaelensDictionary, how: str) -> "Loaded":
        said = f"input scale {dictionary.factor:.6g}, {how}"
        kept = tuple(w for w in self.warnings if not w.startswith("scale not folded"))
        sha = digest(dictionary)
        return replace(
            self,
            dictionary=dictionary,
            info=self.info.model_copy(update={"sha256": sha}),
            warnings=(*kept, f"{said}: the checkpoint expects scaled activations"),
            folded=(*self.folded, said),
        )


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turns what a library raises over a bad file into one paragraph that names the file."""
    try:
        yield
    except CheckpointError:
        raise
    except FOREIGN as error:
        lines = str(error).strip().splitlines()
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise CheckpointError(
                f"{path}: {what} ran out of memory. Use a machine with more, or a smaller SAE."
            ) from error
        reason = lines[0][:300] if lines else "no reason given"
        raise CheckpointError(
            f"{path}: {what} failed ({type(error).__name__}: {reason}). The file is damaged or not"
            " what it claims to be; fetch or save it again."
        ) from error


def as_dtype(state: Mapping[str, Tensor], dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    """The weights in one dtype on one device."""
    return {k: v.to(device=device, dtype=dtype).contiguous() for k, v in state.items()}


def only(contents: Contents, weights: tuple[Weights, ...]) -> Weights:
    """The one file of weights.

    Raises:
        CheckpointError: if there are several, or none.
    """
    if len(weights) != 1:
        names = ", ".join(w.path.name for w in weights) or "none"
        raise CheckpointError(
            f"{contents.path} holds {len(weights)} files of weights ({names}), and one is needed."
            " Give the path of one file."
        )
    return weights[0]
