"""The table of controls: what makes each, what argument it takes, which stand in every table.

To add one: a class with a function that makes it, anywhere, and a line here. Nothing is imported
before a control is made.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from statistics import median
from typing import TYPE_CHECKING, Any

from saebench.errors import ControlError, unknown

if TYPE_CHECKING:
    from saebench.axes.base import Bench
    from saebench.dictionary import Scorable

Sizes = Sequence[tuple[float, int]]
"""Measured L0 and width of every SAE of a table."""


@dataclass(frozen=True)
class Argument:
    """What may stand behind a control's name."""

    form: str
    """How it is written, e.g. `L0[:D_SAE]`."""
    read: Callable[[str, str], Any]
    """From the control's name and the text to its value; raises a ControlError."""
    needed: bool = True
    sae: bool = False
    """Whether it names an SAE, which the control is made from."""


def whole(form: str) -> Callable[[str, str], tuple[int, ...]]:
    """Reads whole numbers of at least 1, as many as `form` has between colons."""

    def read(control: str, text: str) -> tuple[int, ...]:
        parts = text.split(":")
        if len(parts) > form.count(":") + 1 or not all(p.isdigit() and int(p) > 0 for p in parts):
            raise ControlError(
                f"control:{control} got {text!r}. Expected control:{control}:{form} with a whole"
                f" number of at least 1, for example control:{control}:8."
            )
        return tuple(int(part) for part in parts)

    return read


def one_of(*known: str) -> Callable[[str, str], str]:
    """Reads one of a few words."""

    def read(control: str, text: str) -> str:
        if text not in known:
            raise ControlError(unknown(f"kind of control:{control}", text, known))
        return text

    return read


def _never(sizes: Sizes) -> list[str]:
    return []


def _once(sizes: Sizes) -> list[str]:
    return [""]


def _median_l0(sizes: Sizes) -> list[str]:
    return [str(max(1, round(median(l0 for l0, _ in sizes))) if sizes else 8)]


def _every_l0(sizes: Sizes) -> list[str]:
    rounded = sorted({(max(1, round(l0)), d_sae) for l0, d_sae in sizes})
    return [f"{l0}:{d_sae}" for l0, d_sae in rounded] or ["8"]


@dataclass(frozen=True)
class Control:
    """A control of the table."""

    maker: str
    """`module:function` of (bench, value of the argument or None, seed)."""
    help: str
    takes: Argument | None = None
    in_all: Callable[[Sizes], list[str]] = _never
    """Its arguments in `control:all`, where a table has SAEs of these sizes."""

    def make(self, bench: "Bench", value: Any, seed: int) -> "Scorable":
        module, _, function = self.maker.partition(":")
        return getattr(import_module(module), function)(bench, value, seed)


def sae(control: str, text: str) -> str:
    """Reads the name or path of an SAE."""
    if not text:
        raise ControlError(f"control:{control} needs an SAE, for example control:{control}:demo:topk.")
    return text


_HERE = "saebench.evaluation.makers"
_SAE = Argument("SAE", sae, sae=True)
CONTROLS: dict[str, Control] = {
    "supervised": Control(
        f"{_HERE}:supervised",
        "the best dictionary that labels can give: a ceiling",
        Argument("mean|mse", one_of("mean", "mse"), needed=False),
        _once,
    ),
    "identity": Control(f"{_HERE}:identity", "every neuron a latent", in_all=_once),
    "pca": Control(f"{_HERE}:pca", "the K leading components", Argument("K", whole("K")), _median_l0),
    "random": Control(
        f"{_HERE}:random", "random directions at an L0", Argument("L0[:D_SAE]", whole("L0:D_SAE")), _every_l0
    ),
    "mean": Control(f"{_HERE}:mean", "the mean activation, whatever comes: a floor", in_all=_once),
    "source-patch": Control(f"{_HERE}:source_patch", "the whole source activation", in_all=_once),
    "no-edit": Control(f"{_HERE}:no_edit", "nothing is changed: a floor", in_all=_once),
    "permuted": Control(f"{_HERE}:permuted", "an SAE with its decoder rows shuffled", _SAE),
    "frozen-decoder": Control(f"{_HERE}:frozen_decoder", "random rows, a trained encoder", _SAE),
    "soft-frozen": Control(f"{_HERE}:soft_frozen", "rows that stay near random ones", _SAE),
    "frozen-encoder": Control(f"{_HERE}:frozen_encoder", "a random encoder, trained rows", _SAE),
    "oracle": Control(f"{_HERE}:oracle", "the true features and codes; synthetic tasks"),
    "matching-pursuit": Control(
        f"{_HERE}:pursuit",
        "the true features, codes by matching pursuit; synthetic tasks",
        Argument("L0", whole("L0"), needed=False),
    ),
    "das": Control(
        f"{_HERE}:das",
        "learned rotations; tasks that ask for several attributes",
        Argument("single", one_of("single"), needed=False),
    ),
}


def find_control(spec: str) -> tuple[Control, Any]:
    """The control of `NAME[:ARGUMENT]` and the value of its argument.

    Raises:
        ControlError: for an unknown name, or an argument that is missing or that it does not take.
    """
    name, colon, text = spec.partition(":")
    if name not in CONTROLS:
        raise ControlError(unknown("control", name, CONTROLS))
    control = CONTROLS[name]
    if control.takes is None:
        if colon:
            raise ControlError(
                f"control:{name} takes no argument, and got {text!r}. Expected control:{name} alone."
            )
        return control, None
    if not text and not control.takes.needed:
        return control, None
    return control, control.takes.read(name, text)


def digest_of(spec: str, sae_sha256: str | None = None) -> str:
    """What stands for a control's weights in a result's id.

    A control is a function of its name and of the activations, which the id covers; one that is made
    from an SAE is one of that SAE's weights too, wherever they lie.
    """
    name = f"control:{spec}/1" if sae_sha256 is None else f"control:{spec.partition(':')[0]}/2 {sae_sha256}"
    return hashlib.sha256(name.encode()).hexdigest()
