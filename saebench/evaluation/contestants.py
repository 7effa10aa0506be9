"""What can be scored, by name: SAEs, controls, ceilings, and objects in memory.

A control can only be made once a site's activations are there, so a contestant is a recipe:
`realise(bench)` gives the dictionary or intervention and what is to be said about it.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from saebench import checkpoints
from saebench.axes.base import Bench
from saebench.cross_section import CrossSection
from saebench.dictionaries.controls import PCA, Identity, Mean, NoEdit, Permuted, Random, SourcePatch
from saebench.dictionaries.frozen import frozen
from saebench.dictionaries.supervised import Method, fit_supervised
from saebench.dictionary import Dictionary, Scorable
from saebench.errors import CheckpointError, ControlError, SiteError, unknown
from saebench.records.result import DictionaryInfo
from saebench.scoring.disentangle import AXIS
from saebench.synthetic.oracle import Oracle, Pursuit

WIDTH = 8
"""Latents per input dimension of `control:random` where nothing else is said."""


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
    realise: Callable[[Bench], Realised]
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


def _identity(bench: Bench, argument: str) -> Scorable:
    return Identity(bench.section.mean)


def _mean(bench: Bench, argument: str) -> Scorable:
    return Mean(bench.section.mean)


def _pca(bench: Bench, argument: str) -> Scorable:
    return PCA(bench.section.fit.acts, min(_int("pca", argument, "K"), bench.section.d_in))


def _random(bench: Bench, argument: str) -> Scorable:
    l0, _, width = argument.partition(":")
    d_sae = _int("random", width, "L0:D_SAE") if width else WIDTH * bench.section.d_in
    return Random(bench.section.fit.acts, d_sae, _int("random", l0, "L0"))


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
    loaded = checkpoints.load(argument, device=str(acts.device))
    _require_width(loaded, section)
    return _fitted(loaded, section).dictionary


def _fitted(loaded: checkpoints.Loaded, section: CrossSection) -> checkpoints.Loaded:
    """The SAE with its input scale, measured where the checkpoint does not give it."""
    return loaded.fitted(section.typical() if loaded.needs_factor else section.fit.acts)


def _permuted(bench: Bench, argument: str) -> Scorable:
    return Permuted(_loaded(bench.section, "permuted", argument))


def _frozen_decoder(bench: Bench, argument: str) -> Scorable:
    return frozen(_loaded(bench.section, "frozen-decoder", argument), bench.section.fit.acts)


def _supervised(bench: Bench, argument: str) -> Scorable:
    methods: dict[str, Method] = {"": "mean", "mean": "mean", "mse": "mse"}
    if argument not in methods:
        raise ControlError(unknown("kind of supervised dictionary", argument, ("mean", "mse")))
    return fit_supervised(bench.section, methods[argument])


def _no_edit(bench: Bench, argument: str) -> Scorable:
    return NoEdit()


def _source_patch(bench: Bench, argument: str) -> Scorable:
    return SourcePatch()


def _truth(section: CrossSection, control: str) -> Oracle:
    if not isinstance(section.truth, Oracle):
        raise ControlError(
            f"control:{control} exists on synthetic tasks only, where the generating features are"
            " known. Use control:supervised here."
        )
    return section.truth


def _oracle(bench: Bench, argument: str) -> Scorable:
    return _truth(bench.section, "oracle")


def _pursuit(bench: Bench, argument: str) -> Scorable:
    truth = _truth(bench.section, "matching-pursuit")
    true_l0 = max(1, round(truth.generator.true_l0()))
    steps = _int("matching-pursuit", argument, "L0") if argument else true_l0
    return Pursuit(truth.generator, steps)


def _das(bench: Bench, argument: str) -> Scorable:
    if AXIS not in bench.learned:
        raise ControlError(
            "control:das needs a task whose prompts ask for different attributes, such as ravel, with"
            " pairs to learn from. Use control:source-patch here."
        )
    if argument not in ("", "single"):
        raise ControlError(unknown("kind of DAS", argument, ("", "single")))
    multi, single = bench.learned[AXIS]
    return single if argument else multi


CONTROLS: dict[str, Callable[[Bench, str], Scorable]] = {
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

    def realise(bench: Bench) -> Realised:
        scorable = CONTROLS[name](bench, argument)
        return Realised(scorable, _control_info(spec, scorable, bench.section))

    return Contestant(f"control:{spec}", realise)


def _control_info(spec: str, scorable: Scorable, section: CrossSection) -> DictionaryInfo:
    return DictionaryInfo(
        name=f"control:{spec}",
        source=f"control:{spec}",
        format="control",
        architecture=spec.partition(":")[0],
        d_in=section.d_in,
        d_sae=getattr(scorable, "d_sae", 0),
        # a control is a function of its name and of the activations, which the result's id covers
        sha256=hashlib.sha256(f"control:{spec}/1".encode()).hexdigest(),
        kind=scorable.role,
    )


def _sae(loaded: checkpoints.Loaded) -> Contestant:
    def realise(bench: Bench) -> Realised:
        section = bench.section
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


def from_object(obj: Any) -> Contestant:
    """A contestant from an object in memory (see `checkpoints.load_object`)."""
    loaded = checkpoints.load_object(obj)
    return _sae(loaded)


def resolve(spec: str, architecture: str | None, device: str) -> list[Contestant]:
    """Contestants of one command-line name; `demo:all` gives several.

    Raises:
        CheckpointError, ControlError: if it cannot be found or read.
    """
    if not spec:
        raise CheckpointError("An SAE's name is empty. Expected a path, demo:NAME or control:NAME.")
    if spec.startswith("control:"):
        return [control(spec.removeprefix("control:"))]
    names = [f"demo:{n}" for n in checkpoints.demo_names()] if spec == "demo:all" else [spec]
    loaded = (checkpoints.load(n, architecture=architecture, device=device) for n in names)
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
