"""Training SAEs on a synthetic task with SAELens' trainers (docs/methods.md §9).

An SAE can be scored on a synthetic task only if it was trained on that task's data. The checkpoint
carries the task's name and digest, so that `evaluate` knows where it belongs.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.dictionaries.sparsity import sparsity_of
from saebench.dictionaries.training import ARCHITECTURES, save_sae, train_sae
from saebench.errors import OptionError, TaskError
from saebench.spec import SyntheticSpec, Task, load_task
from saebench.synthetic.generator import HOOK, Generator
from saebench.synthetic.registry import generator_on

TASK_KEY, DIGEST_KEY = "saebench_task", "saebench_task_sha256"
_OPTIONS = {"jumprelu": {"decoder_init_norm": 1.0}}


@dataclass(frozen=True)
class Recipe:
    """How an SAE is trained."""

    architecture: str
    width: int
    sparsity: float
    seed: int = 0
    samples: int = 1_000_000
    batch: int = 512
    lr: float = 1e-3
    from_truth: bool = False
    """Starts at the true features, to tell a bad optimum from a bad objective."""

    @property
    def name(self) -> str:
        start = "-from-truth" if self.from_truth else ""
        return f"{self.architecture}-{self.width}-{self.sparsity:g}{start}-seed{self.seed}"

    def with_sparsity(self, sparsity: float) -> "Recipe":
        return replace(self, sparsity=sparsity)


def start(D: Float[Tensor, "n_features d_in"], width: int, seed: int) -> Float[Tensor, "w d_in"]:
    """The true features, filled up with random directions; the first ones where there are more."""
    if width <= len(D):
        return D[:width]
    generator = torch.Generator().manual_seed(seed)
    more = torch.randn(width - len(D), D.shape[1], generator=generator)
    return torch.cat([D, more / more.norm(dim=1, keepdim=True)])


def fit(
    generator: Generator,
    recipe: Recipe,
    progress: bool = False,
    snapshots: Mapping[int, Callable[[Any], None]] | None = None,
) -> Any:
    """Trains an SAE on fresh draws of a generator; the same recipe gives the same weights on a CPU.

    `snapshots` are handed the SAE after so many steps (see `train_sae`).

    Raises:
        OptionError: for an architecture or a size that cannot be trained.
    """
    steps = recipe.samples // recipe.batch
    wrong = [n for n, v in (("width", recipe.width), ("samples / batch", steps)) if v < 1]
    if wrong:
        raise OptionError(f"{' and '.join(wrong)} must be at least 1; got {recipe}.")
    if ARCHITECTURES[recipe.architecture].sparsity == "k" and recipe.sparsity > recipe.width:
        raise OptionError(
            f"--k is {recipe.sparsity:g}, more than the width {recipe.width}. Lower one of them."
        )
    directions = start(generator.D, recipe.width, recipe.seed) if recipe.from_truth else None
    # the trainer seeds torch's global generator; whoever called keeps theirs
    with torch.random.fork_rng(devices=[]):
        return train_sae(
            recipe.architecture,
            generator.batches(recipe.batch, recipe.seed),
            generator.d_model,
            recipe.width,
            sparsity=recipe.sparsity,
            steps=steps,
            batch=recipe.batch,
            lr=recipe.lr,
            seed=recipe.seed,
            init_decoder=directions,
            options=_OPTIONS.get(recipe.architecture),
            device=str(generator.device),
            progress=progress,
            snapshots=snapshots,
        )


def train(task: Task[SyntheticSpec], generator: Generator, recipe: Recipe, out: Path) -> Path:
    """Trains an SAE and saves it in SAELens' format under `out`; returns its folder."""
    live = sys.stderr.isatty()
    if not live:
        print(f"training {recipe.name} on {task.name}: {recipe.samples:,} samples", file=sys.stderr)
    sae = fit(generator, recipe, progress=live)
    path = out / task.name.replace("/", "--") / recipe.name
    path.mkdir(parents=True, exist_ok=True)
    metadata = {
        "hook_name": HOOK,
        "model_name": generator.name,
        TASK_KEY: task.name,
        DIGEST_KEY: task.sha256,
        "seed": recipe.seed,
        "training_samples": recipe.samples,
        "started_from": "the true features" if recipe.from_truth else "random directions",
    }
    save_sae(sae, path, metadata)
    return path


def train_from_options(
    name: str,
    architecture: str,
    width: int | None,
    sparsity: dict[str, float | None],
    *,
    device: str,
    out: Path,
    folders: tuple[Path, ...] = (),
    **rest: Any,
) -> Path:
    """What `saebench train` does: a task by name, defaults from its truth, then `train`.

    Raises:
        TaskError: for an unknown task, or one that is not synthetic.
        OptionError: for an architecture, a size or a sparsity that cannot be trained.
    """
    task = load_task(name, folders)
    if not task.spec.generates:
        raise TaskError(
            f"Task {name!r} has no data to train on. Expected a synthetic task, for example"
            " synthetic/independent (`saebench tasks` lists them)."
        )
    generator = generator_on(task, device)
    chosen = sparsity_of(architecture, sparsity, generator.true_l0())
    width = generator.n_features if width is None else width
    return train(task, generator, Recipe(architecture, width, chosen, **rest), out)
