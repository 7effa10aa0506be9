"""`saebench inspect`: what a checkpoint is, and what is wrong with it, before anything is scored."""

from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.checkpoints import Loaded, load
from saebench.checkpoints.caveats import (
    l0_caveats,
    measure,
    norm_caveats,
    shown,
    threshold_caveats,
    trained_l0,
)
from saebench.checkpoints.diagnostics import Activity, Measured, nearest_neighbours
from saebench.errors import CheckpointError
from saebench.models.language_model import LanguageModel
from saebench.records.result import DictionaryInfo

DUPLICATE = 0.9
"""|cos| from which two decoder rows count as near-duplicates."""


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
    reads: str | None = None
    """The hook point a transcoder reads; `hook` is where it writes."""
    n_acts: int = 0
    activity: Activity | None = None
    fvu_unfolded: Measured | None = None
    """FVU without an input scale, where there is one: what scoring the weights as they stand costs."""
    warnings: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict, repr=False)

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
            *([("reads", self.reads)] if self.reads else []),
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
            ("FVU", shown(seen.fvu)),
            ("linear share of error", shown(seen.linear_error)),
            ("linear share of its norm", shown(seen.linear_error_norm)),
            ("‖codes‖ / ‖a − b_dec‖", shown(seen.norm_ratio)),
        ]
        if self.fvu_unfolded is not None:
            rows.append(("FVU without the scale", shown(self.fvu_unfolded)))
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
    read: Tensor | None = None
    if acts is None and model is not None:
        acts, read, said = activations(model, loaded)
        notes += said
    rows = loaded.dictionary.W_dec
    norms = rows.norm(dim=1)
    near = nearest_neighbours(rows)
    measured = unfolded = None
    if acts is not None:
        acts = _fitting(acts, loaded).to(rows.device, rows.dtype)
        loaded, measured, unfolded, said = measure(loaded, acts, read)
        # what was measured takes the place of what the checkpoint alone had to leave open
        notes = [*said, *(n for n in notes if not (said and n.startswith("scale not folded")))]
    target = trained_l0(loaded)
    zero = int((norms == 0).sum())
    notes += norm_caveats(norms) + threshold_caveats(loaded) + l0_caveats(measured, target)
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
        trained_l0=target,
        reads=loaded.reads,
        n_acts=0 if acts is None else len(acts),
        activity=measured,
        fvu_unfolded=unfolded,
        warnings=tuple(dict.fromkeys(notes)),
        metadata=dict(loaded.metadata),
    )


def activations(
    model: LanguageModel, loaded: Loaded, prompts: int = 1500, per_prompt: int = 4, seed: int = 0
) -> tuple[Float[Tensor, "n d_in"] | None, Float[Tensor, "n d_read"] | None, list[str]]:
    """Activations where it writes, and where a transcoder reads, on sentences of the demo corpus, the first
    token left out; or the reason why there are none, as a warning.

    Raises:
        SiteError: if the model lacks the hook point.
    """
    from saebench.demo.corpus import sentence
    from saebench.patching import Placement, capture
    from saebench.site import Site

    if loaded.hook is None:
        return None, None, ["no activations: the checkpoint does not name its hook point"]
    site = Site.parse(loaded.hook, default_position="end")
    width = model.d_in(site.hook, site.head)
    if width != loaded.info.d_in:
        said = f"{loaded.hook} of {model.name} has width {width}, the SAE {loaded.info.d_in}"
        return None, None, [f"no activations: {said}"]
    rng = Random(seed)
    tokens = [model.tokens(sentence(rng)) for _ in range(prompts)]
    at = [torch.tensor([rng.randrange(1, len(t)) for t in tokens]) for _ in range(per_prompt)]
    found = capture(model, tokens, {i: Placement(site.hook, one, site.head) for i, one in enumerate(at)})
    acts = torch.cat(list(found.values()))
    if loaded.reads is None:
        return acts, None, []
    found = capture(model, tokens, {i: Placement(loaded.reads, one) for i, one in enumerate(at)})
    return acts, torch.cat(list(found.values())), []


def _fitting(acts: Float[Tensor, "n d_in"], loaded: Loaded) -> Float[Tensor, "n d_in"]:
    if not len(acts) or acts.shape[1] != loaded.info.d_in:
        raise CheckpointError(
            f"{loaded.info.name} takes activations of width {loaded.info.d_in}; given are"
            f" {list(acts.shape)}. Give activations of the hook point it was trained at."
        )
    return acts


def _of(values: Float[Tensor, "n"]) -> Spread:
    return Spread(float(values.min()), float(values.median()), float(values.max()))


def _spread(spread: Spread) -> str:
    return f"{spread.least:.4g} … {spread.median:.4g} … {spread.greatest:.4g} (least, median, greatest)"
