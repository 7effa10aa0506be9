"""One SAE trained on a language model's activations: recipe, run, held-out error, checkpoint with a card."""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.dictionaries.resuming import Resuming
from saebench.dictionaries.sparsity import sparsity_of
from saebench.dictionaries.training import save_sae, train_sae
from saebench.errors import OptionError
from saebench.models.devices import fast
from saebench.models.language_model import LanguageModel
from saebench.site import Site
from saebench.training.sources import Source, open_source
from saebench.training.stream import Stream

EVERY = "every"
"""Position of a site that stands for all tokens."""
PART = 2**18
"""Activations that are captured and shuffled together."""
MEASURED = 4096
TYPICAL_L0 = 32
STEPS_APART = 250
"""Steps between two checkpoints, about."""


@dataclass(frozen=True)
class Recipe:
    """How an SAE is trained. `sparsity` as in `dictionaries.training.ARCHITECTURES`."""

    architecture: str
    width: int
    sparsity: float
    tokens: int = 2_000_000
    """Activations trained on, those that come round again included."""
    distinct: int | None = None
    """Different activations, kept in memory; without it all are different as far as the texts reach."""
    batch: int = 2048
    lr: float = 5e-4
    seed: int = 0
    dtype: str = "float32"
    """Of the model's passes and the SAE's products; weights and activations are float32 in any case."""

    @property
    def steps(self) -> int:
        return self.tokens // self.batch

    def name_on(self, data: str) -> str:
        """Of an SAE that is trained on that."""
        return f"{self.architecture}-{self.width}-{self.sparsity:g}-{data}-seed{self.seed}"


class Fit(NamedTuple):
    """How an SAE does on activations that it was not trained on."""

    fvu: float
    """Share of the variance that it does not explain; 0 is best."""
    l0: float
    dead: int
    """Latents that never fire there."""
    n: int


def open_stream(model: LanguageModel, source: Source, site: Site, recipe: Recipe) -> Stream:
    """The batches that a recipe asks for.

    Raises:
        OptionError: if the budget does not fill a step.
        SiteError: if the model has no such hook point, or the source no such position.
    """
    model.d_in(site.hook, site.head)
    if recipe.steps < 1 or recipe.width < 1:
        raise OptionError(
            f"--tokens {recipe.tokens} and --width {recipe.width}: expected at least one step of"
            f" {recipe.batch} tokens and one latent."
        )
    part = min(PART, recipe.tokens) if recipe.distinct is None else recipe.distinct
    per_part = max(1, part // recipe.batch) * recipe.batch
    parts = None if recipe.distinct is None else 1
    position = None if site.position == EVERY else site.position
    stream = Stream(model, source, site.hook, position, site.head, recipe.batch, per_part, parts, recipe.seed)
    if position is not None:
        # a position that is not there is said now, not after a part of hundreds of thousands is drawn
        stream.read(source.held_out(2))
    return stream


def train(stream: Stream, recipe: Recipe, out: Path, more: dict[str, Any] | None = None) -> tuple[Path, Fit]:
    """Trains an SAE, measures it on what it has not seen and saves it in SAELens' format.

    A run that was killed goes on from its last checkpoint when it is started again.
    """
    where = stream.hook.replace("/", "-") + (f"@{stream.position}" if stream.position else "")
    path = out / stream.model.name.strip("/").replace("/", "--") / where / recipe.name_on(stream.source.name)
    times = max(1, min(20, recipe.steps // STEPS_APART))
    resuming = Resuming(path.with_name(f".{path.name}.{_digest(stream, recipe)}"), stream.batches, times)
    live = sys.stderr.isatty()
    if not live:
        print(f"training {path.name} at {where}: {recipe.tokens:,} activations", file=sys.stderr, flush=True)
    with torch.random.fork_rng(devices=[]), fast(stream.model.device):
        sae = train_sae(
            recipe.architecture,
            resuming,
            stream.model.d_in(stream.hook, stream.head),
            recipe.width,
            sparsity=recipe.sparsity,
            steps=recipe.steps,
            batch=recipe.batch,
            lr=recipe.lr,
            seed=recipe.seed,
            autocast=recipe.dtype != "float32",
            device=str(stream.model.device),
            progress=live,
        )
    fit = measure(sae, stream.held_out(MEASURED))
    path.mkdir(parents=True, exist_ok=True)
    save_sae(sae.to("cpu"), path, _card(stream, recipe, fit) | (more or {}))
    resuming.clear()
    return path, fit


@torch.no_grad()
def measure(sae: Any, acts: Float[Tensor, "n d_in"]) -> Fit:
    """FVU, L0 and dead latents on activations, in float64 sums."""
    acts = acts.to(sae.W_dec.device, torch.float32)
    codes = sae.encode(acts)
    wrong = (acts - sae.decode(codes)).double().square().sum()
    spread = (acts.double() - acts.double().mean(0)).square().sum()
    fires = codes != 0
    return Fit(
        float(wrong / spread), float(fires.sum(1).double().mean()), int((~fires.any(0)).sum()), len(acts)
    )


def _card(stream: Stream, recipe: Recipe, fit: Fit) -> dict[str, Any]:
    """What the checkpoint says of itself, in SAELens' words where it has some."""
    return {
        "model_name": stream.model.name,
        "model_sha256": stream.model.sha256,
        "hook_name": stream.hook,
        "hook_head_index": stream.head,
        "position": stream.position or EVERY,
        "dataset_path": stream.source.name,
        "prepend_bos": stream.model.prepends_bos,
        "training_tokens": recipe.steps * recipe.batch,
        "recipe": asdict(recipe),
        "held_out_fvu": round(fit.fvu, 6),
        "held_out_l0": round(fit.l0, 4),
        "held_out_dead": fit.dead,
        "trained_on": torch.cuda.get_device_name() if stream.model.device.type == "cuda" else "cpu",
    }


def _digest(stream: Stream, recipe: Recipe) -> str:
    """Of all that a checkpoint depends on: another recipe never goes on from it."""
    what = (recipe, stream.model.sha256, stream.source.name, stream.hook, stream.position, stream.head)
    return hashlib.sha256(repr(what).encode()).hexdigest()[:12]


def train_on_model(
    name: str,
    site: str,
    data: Sequence[str],
    architecture: str,
    width: int | None,
    sparsity: Mapping[str, float | None],
    *,
    device: str,
    out: Path,
    context: int = 128,
    folders: Sequence[Path] = (),
    samples: int = Recipe.tokens,
    dtype: str = Recipe.dtype,
    **rest: Any,
) -> tuple[Path, Fit]:
    """What `saebench train --model` does: loads the model, opens the data, trains.

    Raises:
        ModelError, SiteError, OptionError: one short paragraph.
    """
    from saebench.models.loading import load_model

    at, chosen = Site.parse(site, EVERY), sparsity_of(architecture, sparsity, TYPICAL_L0)
    model = load_model(name, device=device, dtype=dtype)
    width = 8 * model.d_in(at.hook, at.head) if width is None else width
    recipe = Recipe(architecture, width, chosen, samples, dtype=dtype, **rest)
    source = open_source(data, model, context, recipe.distinct or recipe.tokens, folders)
    return train(open_stream(model, source, at, recipe), recipe, out)
