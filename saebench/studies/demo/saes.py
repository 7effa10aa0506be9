"""Eight SAEs of one residual stream of the bundled model, trained on every token but the first."""

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from saebench.demo.corpus import fact_prompt, ioi_prompt, sentence
from saebench.dictionaries.training import save_sae, shuffled_batches, train_sae
from saebench.planting.network import Halves
from saebench.planting.tokens import encode

HOOK = "blocks.1.hook_resid_pre"
WIDTH_FACTOR = 8
POOL_SENTENCES = 30_000
BATCH = 512


class SaeRecipe(NamedTuple):
    """One SAE; `sparsity` is read as `saebench.dictionaries.training.ARCHITECTURES` says."""

    name: str
    architecture: str
    sparsity: float
    steps: int = 2000
    lr: float = 3e-3
    seed: int = 0


SAES = (
    SaeRecipe("standard", "standard", 5.0, lr=2e-3),
    SaeRecipe("gated", "gated", 6.0, lr=2e-3),
    SaeRecipe("topk", "topk", 8),
    SaeRecipe("batchtopk", "batchtopk", 8),
    SaeRecipe("jumprelu", "jumprelu", 0.5, lr=2e-3),
    SaeRecipe("matryoshka", "matryoshka", 8),
    SaeRecipe("topk-k32", "topk", 32),
    SaeRecipe("topk-undertrained", "topk", 8, steps=100),
)


@torch.no_grad()
def activation_pool(halves: Halves, tokenizer, sentences: int, seed: int) -> Float[Tensor, "n d"]:
    """The residual stream at every token of fresh sentences, `<|endoftext|>` and padding left out."""
    rng, parts = Random(seed), []
    for _ in range(0, sentences, 500):
        ids, lengths = encode(tokenizer, [sentence(rng) for _ in range(500)])
        steps = torch.arange(ids.shape[1])
        parts.append(halves.before(ids)[(steps > 0) & (steps < lengths[:, None])])
    return torch.cat(parts)


def train_one(recipe: SaeRecipe, pool_file: str, folder: str, model_name: str, progress: bool = True) -> str:
    """Train one SAE on the saved pool and write it to `folder`/name. Runs in a process of its own."""
    torch.set_num_threads(1)
    pool = load_file(pool_file)["pool"]
    sae = train_sae(
        recipe.architecture,
        shuffled_batches(pool, BATCH, recipe.seed),
        pool.shape[1],
        WIDTH_FACTOR * pool.shape[1],
        sparsity=recipe.sparsity,
        steps=recipe.steps,
        batch=BATCH,
        lr=recipe.lr,
        seed=recipe.seed,
        progress=progress,
    )
    metadata = {
        "model_name": model_name,
        "hook_name": HOOK,
        "seed": recipe.seed,
        "training_tokens": recipe.steps * BATCH,
        "prepend_bos": True,
        "context_size": None,
        "license": "MIT",
    }
    save_sae(sae, Path(folder) / recipe.name, metadata)
    return recipe.name


def train_saes(halves: Halves, tokenizer, folder: Path, workers: int, model_name: str) -> None:
    """Train all eight, `workers` at a time, each on one thread, so that the bytes do not depend on it."""
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    from tqdm.auto import tqdm

    with TemporaryDirectory() as scratch:
        pool_file = str(Path(scratch) / "pool.safetensors")
        save_file({"pool": activation_pool(halves, tokenizer, POOL_SENTENCES, seed=11)}, pool_file)
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as processes:
            jobs = [processes.submit(train_one, r, pool_file, str(folder), model_name, False) for r in SAES]
            for job in tqdm(as_completed(jobs), total=len(jobs), desc="SAEs"):
                job.result()


@torch.no_grad()
def site_activations(halves: Halves, tokenizer, n: int, seed: int) -> dict[str, Tensor]:
    """Activations at the last token of IOI prompts and at the last token of the city in questions."""
    rng = Random(seed)
    ioi = [ioi_prompt(rng) for _ in range(n)]
    ids, lengths = encode(tokenizer, [prompt.text for prompt in ioi])
    rows = torch.arange(n)
    facts = [fact_prompt(rng) for _ in range(n)]
    fact_ids, _ = encode(tokenizer, [prompt.text for prompt in facts])
    _, until = encode(tokenizer, [prompt.until for prompt in facts])
    entity = halves.before(fact_ids)[rows, until - 1]
    return {"ioi_end": halves.before(ids)[rows, lengths - 1], "ravel_entity": entity}


@torch.no_grad()
def sae_figures(folder: Path, halves: Halves, tokenizer) -> dict[str, dict[str, float]]:
    """For every SAE: mean L0 and FVU on fresh text, dead latents, and both at the tasks' sites."""
    from sae_lens import SAE

    fresh = activation_pool(halves, tokenizer, 6000, seed=12)
    sites = site_activations(halves, tokenizer, 3000, seed=13)
    figures = {}
    for recipe in SAES:
        sae = SAE.load_from_disk(str(folder / recipe.name))
        codes = sae.encode(fresh)
        row = {
            "l0": (codes != 0).sum(-1).double().mean().item(),
            "fvu": fvu(fresh, sae.decode(codes)),
            "dead": int(((codes != 0).sum(0) == 0).sum()),
        }
        for name, acts in sites.items():
            codes = sae.encode(acts)
            row[f"l0_{name}"] = (codes != 0).sum(-1).double().mean().item()
            row[f"fvu_{name}"] = fvu(acts, sae.decode(codes))
        figures[recipe.name] = row
    return figures


def fvu(acts: Float[Tensor, "n d"], rebuilt: Float[Tensor, "n d"]) -> float:
    """Fraction of variance unexplained: residual sum of squares over that of the mean; 0 is best."""
    acts, rebuilt = acts.double(), rebuilt.double()
    return ((acts - rebuilt).square().sum() / (acts - acts.mean(0)).square().sum()).item()
