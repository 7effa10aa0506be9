"""Sparse autoencoders on a planted model: six architectures, two sparsities, two seeds."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.planting.interchange import Prompts, draw_templates, lengths, token_ids
from saebench.planting.making import Opened

BATCH, STEPS, WIDTH_FACTOR = 256, 700, 4
SENTENCES = 6000
SPARSITIES: dict[str, tuple[float, float]] = {
    "standard": (1.0, 2.0),
    "gated": (1.0, 2.0),
    "topk": (12, 4),
    "batchtopk": (12, 4),
    "jumprelu": (0.05, 0.2),
    "matryoshka": (12, 4),
}
"""Dense and sparse, as `dictionaries.training.ARCHITECTURES` reads them."""
SEEDS = (0, 1)


class Recipe(NamedTuple):
    """One SAE of the study."""

    architecture: str
    sparsity: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.architecture}-{self.sparsity:g}-seed{self.seed}"


def recipes(seeds: Sequence[int] = SEEDS) -> list[Recipe]:
    """Every SAE, one seed after the other."""
    return [
        Recipe(name, sparsity, seed)
        for seed in seeds
        for name, both in SPARSITIES.items()
        for sparsity in both
    ]


@torch.no_grad()
def text_activations(opened: Opened, sentences: int = SENTENCES, seed: int = 11) -> Float[Tensor, "n d"]:
    """The residual stream at the site's hook, at every token of the model's text but the first."""
    world, generator = opened.world, torch.Generator().manual_seed(seed)
    about = torch.randint(-1, len(world.variables), (sentences,), generator=generator)
    entity = torch.randint(len(world.entities), (sentences,), generator=generator)
    held_out = 0
    prompts = Prompts(draw_templates(world, about, held_out, generator), entity)
    found = []
    for rows in torch.arange(sentences).split(500):
        part = Prompts(prompts.template[rows], prompts.entity[rows])
        length = lengths(world, part)
        ids = token_ids(world, part)
        steps = torch.arange(ids.shape[1])
        found.append(opened.halves.before(ids)[(steps > 0) & (steps < length[:, None])])
    return torch.cat(found)


def train(recipe: Recipe, pool: Float[Tensor, "n d"]) -> Any:
    """One SAE, trained by SAELens' trainer."""
    from saebench.dictionaries.training import shuffled_batches, train_sae

    d = pool.shape[1]
    batches: Iterator[Tensor] = shuffled_batches(pool, BATCH, recipe.seed)
    return train_sae(
        recipe.architecture,
        batches,
        d,
        WIDTH_FACTOR * d,
        sparsity=recipe.sparsity,
        steps=STEPS,
        batch=BATCH,
        lr=3e-3,
        seed=recipe.seed,
        progress=False,
    )


def save(sae: Any, recipe: Recipe, folder: Path, hook: str) -> Path:
    """Writes an SAE in SAELens' format."""
    from saebench.dictionaries.training import save_sae

    path = folder / recipe.name
    save_sae(sae, path, {"hook_name": hook, "seed": recipe.seed, "training_tokens": STEPS * BATCH})
    return path
