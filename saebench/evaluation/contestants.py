"""What can be scored, by name: SAEs, controls, ceilings, and objects in memory.

A control can only be made once a site's activations are there, so a contestant is a recipe:
`realise(built)` gives the dictionary or intervention and what is to be said about it.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saebench import checkpoints
from saebench.axes import disentangle
from saebench.cross_section import CrossSection
from saebench.dictionaries.base import Dictionary, Intervention, LabelledDictionary
from saebench.dictionaries.controls import PCA, Identity, Mean, NoEdit, Permuted, Random, SourcePatch
from saebench.dictionaries.frozen import frozen
from saebench.dictionaries.supervised import Method, fit_supervised
from saebench.errors import CheckpointError, ControlError, SiteError, unknown
from saebench.kinds.base import Built
from saebench.kinds.entities.lenient import LenientReadout
from saebench.patching import PatchedReadout, capture
from saebench.records.result import DictionaryInfo
from saebench.synthetic.oracle import Oracle, Pursuit

Scorable = Dictionary | LabelledDictionary | Intervention
WIDTH = 8
"""Latents per input dimension of `control:random` where nothing else is said."""
TOKENS = 4
"""Tokens of each fit prompt on which an input scale is measured."""


@dataclass(frozen=True)
class Realised:
    """A contestant at a site."""

    scorable: Scorable
    info: DictionaryInfo
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contestant:
    """Something to be scored. `hook` is where an SAE was trained; None for controls."""

    name: str
    realise: Callable[[Built], Realised]
    hook: str | None = None
    model_name: str | None = None
    l0: float | None = None
    d_sae: int | None = None
    task: str | None = None
    """The synthetic task whose data an SAE was trained on, and that task's digest."""
    task_sha256: str | None = None


def _int(control: str, argument: str, what: str) -> int:
    if not argument.isdigit() or int(argument) < 1:
        raise ControlError(
            f"control:{control} got {argument!r}. Expected control:{control}:{what} with a whole"
            f" number of at least 1, for example control:{control}:8."
        )
    return int(argument)


def _identity(section: CrossSection, argument: str) -> Scorable:
    return Identity(section.mean)


def _mean(section: CrossSection, argument: str) -> Scorable:
    return Mean(section.mean)


def _pca(section: CrossSection, argument: str) -> Scorable:
    return PCA(section.fit.acts, min(_int("pca", argument, "K"), section.d_in))


def _random(section: CrossSection, argument: str) -> Scorable:
    l0, _, width = argument.partition(":")
    d_sae = _int("random", width, "L0:D_SAE") if width else WIDTH * section.d_in
    return Random(section.fit.acts, d_sae, _int("random", l0, "L0"))


def _require_width(loaded: checkpoints.Loaded, section: CrossSection) -> None:
    if loaded.info.d_in != section.d_in:
        raise SiteError(
            f"{loaded.info.name} takes activations of width {loaded.info.d_in}, the site has"
            f" {section.d_in}. Expected an SAE of this model and hook point; --site and --model"
            " say where it is scored."
        )


def _loaded(section: CrossSection, control: str, argument: str) -> Dictionary:
    """The SAE that a control is made from."""
    if not argument:
        raise ControlError(f"control:{control} needs an SAE, for example control:{control}:demo:topk.")
    acts = section.fit.acts
    loaded = checkpoints.load(argument, device=str(acts.device), dtype=acts.dtype)
    _require_width(loaded, section)
    return _fitted(loaded, section).dictionary


def _fitted(loaded: checkpoints.Loaded, section: CrossSection) -> checkpoints.Loaded:
    """The SAE with its input scale, measured where the checkpoint does not give it."""
    acts = section.fit.acts
    return loaded.fitted(_typical(section) if loaded.needs_factor else acts)


def _typical(section: CrossSection) -> Float[Tensor, "n d_in"]:
    """Activations like those of training: the site's hook point, at any token of the fit prompts.

    A task edits one position, and norms differ between positions: on the demo model the scale is
    0.48 at the site alone, 0.94 here and 0.95 on ordinary sentences. The first token is left out,
    since its norm is often hundreds of times that of others. Where there is no language model, the
    site's own activations are what an SAE was trained on.
    """
    readout = section.fit.readout
    readout = readout.inner if isinstance(readout, LenientReadout) else readout
    if not isinstance(readout, PatchedReadout) or len(readout.places) != 1:
        return section.fit.acts
    rng, (place,) = random.Random(0), readout.places
    places = {
        i: place._replace(positions=torch.tensor([_later(rng, len(t)) for t in readout.tokens]))
        for i in range(TOKENS)
    }
    return torch.cat(list(capture(readout.model, readout.tokens, places).values()))


def _later(rng: random.Random, length: int) -> int:
    """A position behind the first, where there is one."""
    return rng.randrange(min(1, length - 1), length)


def _permuted(section: CrossSection, argument: str) -> Scorable:
    return Permuted(_loaded(section, "permuted", argument))


def _frozen_decoder(section: CrossSection, argument: str) -> Scorable:
    return frozen(_loaded(section, "frozen-decoder", argument), section.fit.acts)


def _supervised(section: CrossSection, argument: str) -> Scorable:
    methods: dict[str, Method] = {"": "mean", "mean": "mean", "mse": "mse"}
    if argument not in methods:
        raise ControlError(unknown("kind of supervised dictionary", argument, ("mean", "mse")))
    return fit_supervised(section, methods[argument])


def _no_edit(section: CrossSection, argument: str) -> Scorable:
    return NoEdit()


def _source_patch(section: CrossSection, argument: str) -> Scorable:
    return SourcePatch()


def _truth(section: CrossSection, control: str) -> Oracle:
    if not isinstance(section.truth, Oracle):
        raise ControlError(
            f"control:{control} exists on synthetic tasks only, where the generating features are"
            " known. Use control:supervised here."
        )
    return section.truth


def _oracle(section: CrossSection, argument: str) -> Scorable:
    return _truth(section, "oracle")


def _pursuit(section: CrossSection, argument: str) -> Scorable:
    truth = _truth(section, "matching-pursuit")
    true_l0 = max(1, round(truth.generator.true_l0()))
    steps = _int("matching-pursuit", argument, "L0") if argument else true_l0
    return Pursuit(truth.generator, steps)


def _das(section: CrossSection, argument: str) -> Scorable:
    if not disentangle.applies(section):
        raise ControlError(
            "control:das needs a task whose prompts ask for different attributes, such as ravel, with"
            " pairs to learn from. Use control:source-patch here."
        )
    if argument not in ("", "single"):
        raise ControlError(unknown("kind of DAS", argument, ("", "single")))
    multi, single = disentangle.fit_skylines(section)
    return single if argument else multi


CONTROLS: dict[str, Callable[[CrossSection, str], Scorable]] = {
    "identity": _identity,
    "mean": _mean,
    "pca": _pca,
    "random": _random,
    "permuted": _permuted,
    "frozen-decoder": _frozen_decoder,
    "supervised": _supervised,
    "oracle": _oracle,
    "matching-pursuit": _pursuit,
    "no-edit": _no_edit,
    "source-patch": _source_patch,
    "das": _das,
}


def control(spec: str) -> Contestant:
    """The control `NAME[:ARGUMENT]`.

    Raises:
        ControlError: for an unknown name; for a wrong argument once it is realised.
    """
    name, _, argument = spec.partition(":")
    if name not in CONTROLS:
        raise ControlError(unknown("control", name, CONTROLS))

    def realise(built: Built) -> Realised:
        scorable = CONTROLS[name](built.section, argument)
        return Realised(scorable, _control_info(spec, scorable, built.section))

    return Contestant(f"control:{spec}", realise)


def _control_info(spec: str, scorable: Scorable, section: CrossSection) -> DictionaryInfo:
    kind = "control"
    if isinstance(scorable, LabelledDictionary):
        kind = "labelled"
    elif isinstance(scorable, Intervention):
        kind = "intervention"
    return DictionaryInfo(
        name=f"control:{spec}",
        source=f"control:{spec}",
        format="control",
        architecture=spec.partition(":")[0],
        d_in=section.d_in,
        d_sae=getattr(scorable, "d_sae", 0),
        # a control is a function of its name and of the activations, which the result's id covers
        sha256=hashlib.sha256(f"control:{spec}/1".encode()).hexdigest(),
        kind=kind,
    )


def _sae(loaded: checkpoints.Loaded) -> Contestant:
    def realise(built: Built) -> Realised:
        section = built.section
        _require_width(loaded, section)
        ready = _fitted(loaded, section)
        return Realised(ready.dictionary, ready.info, ready.warnings)

    return Contestant(
        loaded.info.name,
        realise,
        loaded.hook,
        loaded.model_name,
        loaded.info.l0,
        loaded.info.d_sae,
        loaded.metadata.get("saebench_task"),
        loaded.metadata.get("saebench_task_sha256"),
    )


def from_object(obj: Any, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Contestant:
    """A contestant from an object in memory (see `checkpoints.load_object`)."""
    loaded = checkpoints.load_object(obj)
    return _sae(loaded)


def resolve(spec: str, architecture: str | None, device: str, dtype: torch.dtype) -> list[Contestant]:
    """Contestants of one command-line name; `demo:all` gives several.

    Raises:
        CheckpointError, ControlError: if it cannot be found or read.
    """
    if not spec:
        raise CheckpointError("An SAE's name is empty. Expected a path, demo:NAME or control:NAME.")
    if spec.startswith("control:"):
        return [control(spec.removeprefix("control:"))]
    names = [f"demo:{n}" for n in checkpoints.demo_names()] if spec == "demo:all" else [spec]
    loaded = (checkpoints.load(n, architecture=architecture, device=device, dtype=dtype) for n in names)
    return [_sae(one) for one in loaded]


def every_control(l0s: Sequence[float], widths: Sequence[int]) -> list[Contestant]:
    """All controls that a table of SAEs with these L0s and widths is to be read against.

    `pca:K` with K the median L0; one `random` per width and rounded L0 (METHODS §10).
    """
    rounded = sorted({(max(1, round(l0)), d) for l0, d in zip(l0s, widths, strict=True)})
    k = max(1, round(median(l0s))) if l0s else 8
    randoms = [f"random:{l0}:{d}" for l0, d in rounded] or ["random:8"]
    names = ["supervised", "identity", f"pca:{k}", *randoms, "mean", "source-patch", "no-edit"]
    return [control(name) for name in names]
