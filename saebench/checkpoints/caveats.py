"""What is wrong with a checkpoint, found in its weights and on activations; each a sentence."""

from typing import NamedTuple, final

from jaxtyping import Float
from torch import Tensor

from saebench.checkpoints import Loaded
from saebench.checkpoints.diagnostics import Activity, Measured, activity
from saebench.dictionaries.normalization import average_factor
from saebench.dictionaries.sae import SaelensDictionary
from saebench.dictionary import Dictionary, Encoding
from saebench.errors import CheckpointError

UNIT = 0.01
"""How far from 1 the norm of a decoder row may be before it is said."""
BAD_FVU = 0.5
"""FVU above which an undeclared input scale is suspected, if scaling then halves it."""
L0_RANGE = (0.5, 2.0)
"""Measured L0 over the L0 of training, outside of which it is said."""


class OnActivations(NamedTuple):
    """What an SAE does on activations, with its input scale in place."""

    loaded: Loaded
    activity: Activity
    unfolded: Measured | None
    """FVU of the weights as they stand, where a scale was missing."""
    caveats: tuple[str, ...]


def measure(
    loaded: Loaded, acts: Float[Tensor, "n d_in"], read: Float[Tensor, "n d_read"] | None = None
) -> OnActivations:
    """What it does on activations; where a scale is missing, or seems to be, with and without it.

    `read` are those of the same tokens where a transcoder reads.
    """
    if loaded.reads is not None:
        if read is None:
            raise CheckpointError(
                f"{loaded.info.name} reads {loaded.reads} and writes {loaded.hook}: activations of one place do"
                " not say what it does. Give a model to take both from."
            )
        return OnActivations(loaded, activity(loaded.dictionary, acts, read), None, ())
    if loaded.needs_factor:
        raw = activity(loaded.scaled(1.0).dictionary, acts)
        ready = loaded.fitted(acts)
        seen = activity(ready.dictionary, acts)
        said = (
            "scale not folded: the SAE expects activations times a constant;"
            f" FVU {shown(raw.fvu)} as it stands, {shown(seen.fvu)} with the scale"
            f" {average_factor(acts):.4g} measured here"
        )
        return OnActivations(ready, seen, raw.fvu, (said,))
    loaded = loaded.fitted(acts)
    seen = activity(loaded.dictionary, acts)
    caveats: tuple[str, ...] = ()
    rescaled = _as_if_unfolded(loaded, acts)
    before, after = seen.fvu.value, rescaled.value if rescaled else None
    # a sound SAE also gains a little when its input grows: less of a code is lost to its bias
    if before is not None and after is not None and before > BAD_FVU and after < 0.5 * before:
        caveats = (
            "scale not folded: no input scale is declared, but with activations scaled to norm √d_in"
            f" the FVU falls from {before:.4g} to {after:.4g}",
        )
    return OnActivations(loaded, seen, None, caveats)


def _as_if_unfolded(loaded: Loaded, acts: Float[Tensor, "n d_in"]) -> Measured | None:
    """FVU if the SAE had been trained on scaled activations and did not say so."""
    dictionary = loaded.dictionary
    if not isinstance(dictionary, SaelensDictionary) or dictionary.normalization != "none":
        return None
    factor = average_factor(acts)
    return activity(_Scaled(dictionary, factor), acts).fvu


@final
class _Scaled(Dictionary):
    """A dictionary fed with scaled activations, its output scaled back."""

    def __init__(self, inner: Dictionary, factor: float) -> None:
        self.name, self.W_dec, self._inner, self._factor = inner.name, inner.W_dec, inner, factor

    def encode(self, acts: Float[Tensor, "n d_in"]) -> Encoding:
        codes, offset = self._inner.encode(acts * self._factor)
        return Encoding(codes / self._factor, offset / self._factor)


def norm_caveats(norms: Float[Tensor, "d_sae"]) -> list[str]:
    """Decoder rows whose norm is not 1."""
    off = (norms - 1).abs() > UNIT
    if not off.any():
        return []
    return [
        f"decoder not unit norm: {int(off.sum())} of {len(norms)} rows, from {float(norms.min()):.3g}"
        f" to {float(norms.max()):.3g}; codes of different latents are in different units"
    ]


def threshold_caveats(loaded: Loaded) -> list[str]:
    """JumpReLU thresholds that let every positive pre-activation through."""
    sae = getattr(loaded.dictionary, "sae", None)
    threshold = getattr(sae, "threshold", None)
    if threshold is None or loaded.info.architecture != "jumprelu":
        return []
    zero = int((threshold <= 0).sum())
    if not zero:
        return []
    return [f"JumpReLU threshold zero for {zero} of {len(threshold)} latents: these are plain ReLUs"]


def l0_caveats(measured: Activity | None, trained: float | None) -> list[str]:
    """A measured L0 that is far from what training aimed at."""
    if measured is None or trained is None:
        return []
    if L0_RANGE[0] <= measured.l0 / trained <= L0_RANGE[1]:
        return []
    return [
        f"L0 far from training: {measured.l0:.2f} here, {trained:g} in training; other activations,"
        " a missing input scale or a wrong threshold do that"
    ]


def trained_l0(loaded: Loaded) -> float | None:
    """The L0 that training aimed at, where the checkpoint says it."""
    metadata = loaded.metadata
    details = metadata.get("training_architecture_details")
    places = (metadata.get("config"), metadata, details)
    for place in places:
        for key in ("k", "target_l0", "l0"):
            value = place.get(key) if isinstance(place, dict) else None
            if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
                return float(value)
    return None


def shown(measured: Measured) -> str:
    """Four digits, or the reason why there are none."""
    return f"{measured.value:.4g}" if measured.value is not None else f"undefined: {measured.reason}"
