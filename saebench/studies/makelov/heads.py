"""Figure 5 at keys and values of single heads: do latents stand for a role there, or for the token?"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from saebench.axes.base import Bench, Subject, properties
from saebench.cross_section import CrossSection
from saebench.dictionaries.controls import PCA, Identity
from saebench.dictionaries.sae import SaelensDictionary
from saebench.dictionaries.training import shuffled_batches, train_sae
from saebench.dictionary import Dictionary
from saebench.kinds.names.sections import activations, draw
from saebench.site import Site
from saebench.studies.makelov.latents import current_tokens, shares
from saebench.studies.makelov.stage import Stage
from saebench.studies.rows import Row

HEADS = ((0, 0), (0, 1), (0, 3))
"""Block and head: in the bundled model they bring the first name, the subject and the second name to `end`."""
POSITIONS = ("io", "s1")
"""Names that are read. Together, a latent of one name in either role is told from one of a role."""
COMPONENTS, K, WIDTH_FACTOR, STEPS, BATCH = 8, 4, 4, 1000, 256


def rows(stage: Stage, heads: Sequence[tuple[int, int]], seed: int = 0) -> Iterator[Row]:
    """Of the latents on at keys, and at values, of each head, the share that stands for each predicate.

    No SAE of single heads is bundled: a top-k SAE is trained on `fit`, beside neurons and principal components.
    """
    tokens = current_tokens(stage, POSITIONS)
    for block, head in heads:
        for part in ("k", "v"):
            sites = [Site(f"blocks.{block}.attn.hook_{part}", position, head) for position in POSITIONS]
            bench = _bench(stage, sites)
            where = f"{str(sites[0]).partition('@')[0]}@{', '.join(POSITIONS)}"
            for dictionary in _dictionaries(bench.section, seed):
                row = {**stage.row(dictionary.name), "site": where}
                yield from shares(row, Subject(dictionary, bench.section), bench, tokens)


def _bench(stage: Stage, sites: Sequence[Site]) -> Bench:
    """The activations of all sites, prompt by prompt and site after site, with the labels of the prompts."""
    batches = draw(stage.task, stage.model, stage.arena.options.budget, stage.arena.options.seed).batches
    section, splits = stage.bench.section, {}
    for name, batch in batches.items():
        split = getattr(section, name)
        splits[name] = replace(
            split,
            acts=torch.cat([activations(batch.prompts, stage.model, site) for site in sites]),
            labels=split.labels.repeat(len(sites), 1),
            cluster=split.cluster.repeat(len(sites)),
        )
    pooled = replace(section, **splits)
    return replace(stage.bench, section=pooled, properties=properties(pooled))


def _dictionaries(section: CrossSection, seed: int) -> Iterator[Dictionary]:
    acts = section.fit.acts
    batches = shuffled_batches(acts, BATCH, seed)
    width = WIDTH_FACTOR * acts.shape[1]
    sae = train_sae(
        "topk", batches, acts.shape[1], width, sparsity=K, steps=STEPS, batch=BATCH, seed=seed, progress=False
    )
    yield SaelensDictionary(sae, f"topk k={K}")
    yield PCA(acts, COMPONENTS)
    yield Identity(section.mean)
