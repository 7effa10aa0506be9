"""Figure 6: does a stronger attribute keep a weaker one from being learned? Counted with SAEs trained again."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.axes.base import Subject
from saebench.cross_section import Split
from saebench.dictionaries.sae import SaelensDictionary
from saebench.dictionaries.training import shuffled_batches, train_sae
from saebench.dictionary import Dictionary
from saebench.measures.detection import F1Table, f1_table
from saebench.scoring.interpretability import EXPLAINED_AT
from saebench.studies.makelov.stage import Stage
from saebench.studies.rows import Row

ARCHITECTURE, K, WIDTH_FACTOR = "topk", 16, 4
STEPS, BATCH = 1000, 256
SHARES = (0.0, 0.5, 1.0)
"""Of the stronger attribute's atom, what is taken out of every activation."""


def rows(stage: Stage, strong: str, weak: Sequence[str], seeds: Sequence[int]) -> Iterator[Row]:
    """Latents with F1* ≥ .8 for each attribute's values, on activations that lack a share of the stronger one.

    `retrained`: an SAE trained on activations that lack it. `same`: the SAE that was trained on whole
    activations encodes them. An SAE that has not learned a feature has no latent for it, whatever it
    encodes; only the first form says whether it was kept from learning it.
    """
    for seed in seeds:
        whole = _train(stage, strong, 0.0, seed)
        for share in SHARES:
            made = {"retrained": whole if not share else _train(stage, strong, share, seed)}
            made |= {"same": whole} if share else {}
            for form, sae in made.items():
                for name in (strong, *weak):
                    yield {
                        **stage.row(f"{ARCHITECTURE} k={K}"),
                        "seed": seed,
                        "taken_out": strong,
                        "share": share,
                        "form": form,
                        "attribute": name,
                        **_counts(stage, sae, strong, share, name),
                    }


def _train(stage: Stage, strong: str, share: float, seed: int) -> Dictionary:
    acts = _without(stage, stage.bench.section.fit, strong, share)
    width = WIDTH_FACTOR * acts.shape[1]
    batches = shuffled_batches(acts, BATCH, seed)
    sae = train_sae(
        ARCHITECTURE,
        batches,
        acts.shape[1],
        width,
        sparsity=K,
        steps=STEPS,
        batch=BATCH,
        seed=seed,
        progress=False,
    )
    return SaelensDictionary(sae, f"{ARCHITECTURE} without {share} of {strong}")


def _without(stage: Stage, split: Split, name: str, share: float) -> Float[Tensor, "n d_in"]:
    """`a − share · u`, u the atom of the prompt's own value."""
    atoms = stage.bench.atoms_of(name)[split.labels[:, stage.bench.section.index(name)]]
    return split.acts - share * atoms


def _counts(stage: Stage, sae: Dictionary, strong: str, share: float, name: str) -> Row:
    """Latents that stand for a value on `select` and reach F1* ≥ .8 for it on `test`, and values that have one."""
    section, prop = stage.bench.section, stage.bench.properties[name]
    subject = Subject(sae, section)
    tables: list[F1Table] = []
    for split, labels in ((section.select, prop.select), (section.test, prop.test)):
        codes = subject.encode(_without(stage, split, strong, share), split.known).codes
        tables.append(f1_table(codes, labels, len(prop.values), signed=False))
    select, test = (table.f1_star[:, prop.keep] for table in tables)
    best = select.argmax(1, keepdim=True)
    good = (select.gather(1, best) >= EXPLAINED_AT) & (test.gather(1, best) >= EXPLAINED_AT)
    covered = torch.unique(best[good])
    return {"latents": int(good.sum()), "values_covered": len(covered) / max(1, int(prop.keep.sum()))}
