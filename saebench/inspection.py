"""`saebench inspect`: what a checkpoint is, and what is wrong with it, before anything is scored."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.checkpoints import Loaded, load
from saebench.diagnostics import Activity, Measured, activity, nearest_neighbours
from saebench.dictionaries.base import Dictionary, Encoding
from saebench.dictionaries.normalization import average_factor
from saebench.dictionaries.sae import SaelensDictionary
from saebench.errors import CheckpointError
from saebench.model import LanguageModel
from saebench.result import DictionaryInfo

DUPLICATE = 0.9
"""|cos| from which two decoder rows count as near-duplicates."""
UNIT = 0.01
"""How far from 1 the norm of a decoder row may be before it is said."""
BAD_FVU = 0.5
"""FVU above which an undeclared input scale is suspected, if scaling then halves it."""
L0_RANGE = (0.5, 2.0)
"""Measured L0 over the L0 of training, outside of which it is said."""


class Spread(NamedTuple):
    """Least, middle and greatest of some numbers."""

    least: float
    median: float
    greatest: float


@dataclass(frozen=True)
class Inspection:
    """Facts about a checkpoint; what needs activations is None without them."""

    info: DictionaryInfo
    hook: str | None
    model: str | None
    normalization: str
    folded: tuple[str, ...]
    dtypes: tuple[str, ...]
    decoder_norms: Spread
    zero_rows: int
    """Latents whose decoder row is 0: they cannot write anything."""
    neighbours: Spread | None
    """`|cos|` of decoder rows with their nearest neighbour."""
    duplicates: float
    """Share of latents whose nearest neighbour has `|cos| ≥ 0.9`."""
    trained_l0: float | None
    n_acts: int = 0
    activity: Activity | None = None
    fvu_unfolded: Measured | None = None
    """FVU without an input scale, where there is one: what scoring the weights as they stand costs."""
    warnings: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Strict JSON: what is undefined is null with a reason beside it."""
        out = asdict(self) | {"info": self.info.model_dump(mode="json")}
        for key in ("decoder_norms", "neighbours", "fvu_unfolded", "activity"):
            value = getattr(self, key)
            out[key] = _plain(value)
        del out["metadata"]
        return out

    def text(self) -> str:
        """The same for people: one line a fact, warnings last."""
        width = max(len(label) for label, _ in self.rows())
        lines = [f"{label:<{width}}  {value}" for label, value in self.rows()]
        return "\n".join([*lines, *(f"warning: {w}" for w in self.warnings)])

    def rows(self) -> list[tuple[str, str]]:
        """Labels and values, in the order in which they are shown."""
        info = self.info
        trained = info.training_architecture
        kind = f"{info.architecture}" + (f", trained as {trained}" if trained else "")
        rows = [
            ("name", info.name),
            ("format", info.format),
            ("architecture", kind),
            ("d_in × d_sae", f"{info.d_in} × {info.d_sae}"),
            ("hook point", self.hook or "not given"),
            ("model", self.model or "not given"),
            ("normalisation", self.normalization),
            ("folded", "; ".join(self.folded) or "nothing"),
            ("stored as", ", ".join(self.dtypes)),
            ("sha256", info.sha256),
            ("non-finite weights", "none"),
            ("decoder row norms", _spread(self.decoder_norms)),
            ("zero decoder rows", str(self.zero_rows)),
            ("nearest |cos|", _spread(self.neighbours) if self.neighbours else "fewer than 2 rows"),
            ("near-duplicates", f"{self.duplicates:.2%} of latents (|cos| ≥ {DUPLICATE})"),
        ]
        seen = self.activity
        if seen is None:
            return [*rows, ("activations", "none given: L0, dead latents and error not measured")]
        target = f" (training: {self.trained_l0:g})" if self.trained_l0 else ""
        rows += [
            ("activations", str(self.n_acts)),
            ("L0", f"{seen.l0:.2f}{target}"),
            ("dead latents", f"{seen.dead:.2%} (zero on all {self.n_acts})"),
            ("FVU", _measured(seen.fvu)),
            ("linear share of error", _measured(seen.linear_error)),
            ("linear share of its norm", _measured(seen.linear_error_norm)),
            ("‖codes‖ / ‖a − b_dec‖", _measured(seen.norm_ratio)),
        ]
        if self.fvu_unfolded is not None:
            rows.append(("FVU without the scale", _measured(self.fvu_unfolded)))
        return rows


def inspect(
    spec: str | Path | Loaded,
    *,
    model: LanguageModel | None = None,
    acts: Float[Tensor, "n d_in"] | None = None,
    architecture: str | None = None,
) -> Inspection:
    """Loads a checkpoint and says what it is; with activations, or a model to take them from, also
    what it does.

    Raises:
        CheckpointError: if it cannot be read, or the activations are of another width.
    """
    loaded = spec if isinstance(spec, Loaded) else load(spec, architecture=architecture)
    notes = list(loaded.warnings)
    if acts is None and model is not None:
        acts, said = activations(model, loaded)
        notes += said
    rows = loaded.dictionary.W_dec
    norms = rows.norm(dim=1)
    near = nearest_neighbours(rows)
    measured = unfolded = None
    if acts is not None:
        acts = _fitting(acts, loaded).to(rows.device, rows.dtype)
        measured, unfolded, notes, loaded = _measure(loaded, acts, notes)
    trained_l0 = _trained_l0(loaded)
    zero = int((norms == 0).sum())
    notes += _norm_warnings(norms) + _threshold_warnings(loaded)
    notes += _l0_warnings(measured, trained_l0)
    return Inspection(
        info=loaded.info.model_copy(update={"l0": measured.l0 if measured else None}),
        hook=loaded.hook,
        model=loaded.model_name,
        normalization=loaded.normalization,
        folded=loaded.folded,
        dtypes=tuple(loaded.metadata.get("dtype", [str(rows.dtype).removeprefix("torch.")])),
        decoder_norms=_of(norms),
        zero_rows=zero,
        neighbours=_of(near) if len(near) else None,
        duplicates=float((near >= DUPLICATE).double().mean()) if len(near) else 0.0,
        trained_l0=trained_l0,
        n_acts=0 if acts is None else len(acts),
        activity=measured,
        fvu_unfolded=unfolded,
        warnings=tuple(dict.fromkeys(notes)),
        metadata=dict(loaded.metadata),
    )


def activations(
    model: LanguageModel, loaded: Loaded, prompts: int = 1500, per_prompt: int = 4, seed: int = 0
) -> tuple[Float[Tensor, "n d_in"] | None, list[str]]:
    """Activations at the SAE's own hook point on sentences of the demo corpus, the first token left
    out; or the reason why there are none, as a warning.

    Raises:
        SiteError: if the model lacks the hook point.
    """
    from saebench.demo.corpus import sentence
    from saebench.patching import Placement, capture
    from saebench.site import Site

    if loaded.hook is None:
        return None, ["no activations: the checkpoint does not name its hook point"]
    site = Site.parse(loaded.hook, default_position="end")
    width = model.d_in(site.hook, site.head)
    if width != loaded.info.d_in:
        said = f"{loaded.hook} of {model.name} has width {width}, the SAE {loaded.info.d_in}"
        return None, [f"no activations: {said}"]
    rng = Random(seed)
    tokens = [model.tokens(sentence(rng).text) for _ in range(prompts)]
    places = {
        i: Placement(site.hook, torch.tensor([rng.randrange(1, len(t)) for t in tokens]), site.head)
        for i in range(per_prompt)
    }
    return torch.cat(list(capture(model, tokens, places).values())), []


def _measure(
    loaded: Loaded, acts: Float[Tensor, "n d_in"], notes: list[str]
) -> tuple[Activity, Measured | None, list[str], Loaded]:
    """What it does on activations; where a scale is missing, or seems to be, with and without it."""
    if loaded.needs_factor:
        raw = activity(loaded.scaled(1.0).dictionary, acts)
        ready = loaded.fitted(acts)
        seen = activity(ready.dictionary, acts)
        said = (
            "scale not folded: the SAE expects activations times a constant;"
            f" FVU {_measured(raw.fvu)} as it stands, {_measured(seen.fvu)} with the scale"
            f" {average_factor(acts):.4g} measured here"
        )
        kept = [n for n in notes if not n.startswith("scale not folded")]
        return seen, raw.fvu, [said, *kept], ready
    seen = activity(loaded.dictionary, acts)
    rescaled = _as_if_unfolded(loaded, acts)
    before, after = seen.fvu.value, rescaled.value if rescaled else None
    # a sound SAE also gains a little when its input grows: less of a code is lost to its bias
    if before is not None and after is not None and before > BAD_FVU and after < 0.5 * before:
        notes = [
            "scale not folded: no input scale is declared, but with activations scaled to norm √d_in"
            f" the FVU falls from {before:.4g} to {after:.4g}",
            *notes,
        ]
    return seen, None, notes, loaded


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


def _fitting(acts: Float[Tensor, "n d_in"], loaded: Loaded) -> Float[Tensor, "n d_in"]:
    if not len(acts) or acts.shape[1] != loaded.info.d_in:
        raise CheckpointError(
            f"{loaded.info.name} takes activations of width {loaded.info.d_in}; given are"
            f" {list(acts.shape)}. Give activations of the hook point it was trained at."
        )
    return acts


def _trained_l0(loaded: Loaded) -> float | None:
    """The L0 that training aimed at, where the checkpoint says it."""
    metadata = loaded.metadata
    details = metadata.get("training_architecture_details")
    places = (metadata.get("config"), metadata, details)
    for place in places:
        for key in ("k", "target_l0"):
            value = place.get(key) if isinstance(place, dict) else None
            if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
                return float(value)
    return None


def _norm_warnings(norms: Float[Tensor, "d_sae"]) -> list[str]:
    off = (norms - 1).abs() > UNIT
    if not off.any():
        return []
    return [
        f"decoder not unit norm: {int(off.sum())} of {len(norms)} rows, from {float(norms.min()):.3g}"
        f" to {float(norms.max()):.3g}; codes of different latents are in different units"
    ]


def _threshold_warnings(loaded: Loaded) -> list[str]:
    sae = getattr(loaded.dictionary, "sae", None)
    threshold = getattr(sae, "threshold", None)
    if threshold is None or loaded.info.architecture != "jumprelu":
        return []
    zero = int((threshold <= 0).sum())
    if not zero:
        return []
    return [
        f"JumpReLU threshold zero for {zero} of {len(threshold)} latents: these are plain ReLUs"
    ]


def _l0_warnings(measured: Activity | None, trained: float | None) -> list[str]:
    if measured is None or trained is None:
        return []
    if L0_RANGE[0] <= measured.l0 / trained <= L0_RANGE[1]:
        return []
    return [
        f"L0 far from training: {measured.l0:.2f} here, {trained:g} in training; other activations,"
        " a missing input scale or a wrong threshold do that"
    ]


def _of(values: Float[Tensor, "n"]) -> Spread:
    return Spread(float(values.min()), float(values.median()), float(values.max()))


def _spread(spread: Spread) -> str:
    return f"{spread.least:.4g} … {spread.median:.4g} … {spread.greatest:.4g} (least, median, greatest)"


def _measured(measured: Measured) -> str:
    return (
        f"{measured.value:.4g}" if measured.value is not None else f"undefined: {measured.reason}"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Spread | Activity | Measured):
        return {k: _plain(v) for k, v in value._asdict().items()}
    return value
