"""The table of controls: what makes each, what argument it takes, which stand in every table.

To add one: a class with a function that makes it, anywhere, and a line here. Nothing is imported
before a control is made.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from saebench.errors import ControlError, unknown

if TYPE_CHECKING:
    from saebench.axes.base import Bench
    from saebench.dictionary import Scorable


class Sized(NamedTuple):
    """An SAE of a table: what it is asked for by, its L0 measured at the site, its width."""

    name: str
    l0: float
    d_sae: int


class FromSAE(NamedTuple):
    """The argument of a control that is made from an SAE."""

    sae: str
    cosine: float | None = None


Table = Sequence[Sized]
"""The SAEs of a table."""


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


def _never(table: Table) -> list[str]:
    return []


def _once(table: Table) -> list[str]:
    return [""]


def _middle(table: Table) -> list[Sized]:
    """The SAE of median L0: controls that are trained stand in a table once, made from it."""
    ordered = sorted(table, key=lambda sae: (sae.l0, sae.name))
    return ordered[(len(ordered) - 1) // 2 :][:1]


def _median_l0(table: Table) -> list[str]:
    return [str(max(1, round(median(sae.l0 for sae in table))) if table else 8)]


def _median_random(table: Table) -> list[str]:
    return [f"{max(1, round(sae.l0))}:{sae.d_sae}" for sae in _middle(table)] or ["8"]


def _every_sae(table: Table) -> list[str]:
    return [sae.name for sae in table]


def _middle_sae(table: Table) -> list[str]:
    return [sae.name for sae in _middle(table)]


@dataclass(frozen=True)
class Control:
    """A control of the table."""

    maker: str
    """`module:function` of (bench, value of the argument or None, seed)."""
    help: str
    takes: Argument | None = None
    in_all: Callable[[Table], list[str]] = _never
    """Its arguments in `control:all`, beside the SAEs of a table."""
    note: str = ""
    """What a reader of its row has to know."""

    def make(self, bench: "Bench", value: Any, seed: int) -> "Scorable":
        module, _, function = self.maker.partition(":")
        return getattr(import_module(module), function)(bench, value, seed)


def sae(control: str, text: str) -> FromSAE:
    """Reads the name or path of an SAE."""
    if not text:
        raise ControlError(f"control:{control} needs an SAE, for example control:{control}:demo:topk.")
    return FromSAE(text)


def sae_and_cosine(control: str, text: str) -> FromSAE:
    """Reads the name or path of an SAE, and how close to its start a row has to stay."""
    name, _, last = text.rpartition(":")
    if re.fullmatch(r"[01]?\.\d+", last) and name:
        if not 0 < float(last) < 1:
            raise ControlError(f"control:{control} got the cosine {last}. Expected one between 0 and 1.")
        return FromSAE(name, float(last))
    return sae(control, text)


_HERE = "saebench.evaluation.makers"
_SAE = Argument("SAE", sae, sae=True)
_TRAINED = "trained on the fit prompts (all positions where there is a language model), not on the SAE's data"
CONTROLS: dict[str, Control] = {
    "supervised": Control(
        f"{_HERE}:supervised",
        "the best dictionary that labels can give: without a kind, the one that is the ceiling",
        Argument("mean|mse", one_of("mean", "mse"), needed=False),
        _once,
    ),
    "identity": Control(f"{_HERE}:identity", "every neuron a latent", in_all=_once),
    "pca": Control(f"{_HERE}:pca", "the K leading components", Argument("K", whole("K")), _median_l0),
    "random": Control(
        f"{_HERE}:random",
        "random directions at an L0, one threshold fitted to the task",
        Argument("L0[:D_SAE]", whole("L0:D_SAE")),
        _median_random,
    ),
    "random-like": Control(
        f"{_HERE}:random_like", "random directions, each on as often as a latent of the SAE", _SAE, _every_sae
    ),
    "mean": Control(f"{_HERE}:mean", "the mean activation, whatever comes: a floor", in_all=_once),
    "source-patch": Control(f"{_HERE}:source_patch", "the whole source activation", in_all=_once),
    "no-edit": Control(f"{_HERE}:no_edit", "nothing is changed: a floor", in_all=_once),
    "permuted": Control(f"{_HERE}:permuted", "an SAE with its decoder rows shuffled", _SAE),
    "frozen-decoder": Control(
        f"{_HERE}:frozen_decoder", "random rows, a trained encoder", _SAE, _middle_sae, _TRAINED
    ),
    "soft-frozen": Control(
        f"{_HERE}:soft_frozen",
        "rows that stay within a cosine of .8 of where they were drawn, a trained encoder",
        Argument("SAE[:COSINE]", sae_and_cosine, sae=True),
        _middle_sae,
        _TRAINED,
    ),
    "frozen-encoder": Control(
        f"{_HERE}:frozen_encoder", "a random encoder, trained rows", _SAE, _middle_sae, _TRAINED
    ),
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


def digest_of(spec: str, sae_sha256: str | None = None, cosine: float | None = None) -> str:
    """What stands for a control's weights in a result's id.

    A control is a function of its name and of the activations, which the id covers; one that is made
    from an SAE is one of that SAE's weights too, wherever they lie.
    """
    name = f"control:{spec}/1"
    if sae_sha256 is not None:
        name = f"control:{spec.partition(':')[0]}/2 {sae_sha256}" + (f" {cosine}" if cosine else "")
    return hashlib.sha256(name.encode()).hexdigest()
