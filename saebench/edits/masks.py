"""Learned masks over latents: which of them to swap so that one attribute changes (docs/methods.md §5).

DBM, differential binary masking [Davies et al. 2023; RAVEL §3; SAEBench §RAVEL]: one logit per latent
and attribute, `s = σ(m / T)`, codes `(1 − s) α + s β`, the temperature annealed towards 0, cause and
isolate examples in one loss. What is scored is the hard mask `s > ½`. Over `Identity` it is the mask
of neurons, over `PCA` that of principal components.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saebench.cache.tensors import cached, digest
from saebench.cross_section import CrossSection, Split
from saebench.dictionaries.codes import Encoded, SparseCodes, difference, encode_split
from saebench.dictionary import Encodes
from saebench.edits.few_latents import add_codes
from saebench.edits.pairs import Batch, Pairs, Tick, balances, train
from saebench.scoring.settings import MASKS, PAIRS

Origin = Literal["trained", "none", "all"]
ORIGINS: tuple[Origin, ...] = ("trained", "none", "all")


class Mask(NamedTuple):
    """Latents to swap for one attribute."""

    latents: Bool[Tensor, "d_sae"]
    origin: Origin = "trained"
    """Which candidate did best on `select`: a trained mask, the empty one, or that of all latents."""

    @property
    def size(self) -> int:
        return int(self.latents.sum())


class Changes(NamedTuple):
    """β − α of every base prompt and its source, per attribute, over the latents that are ever active."""

    live: Tensor
    codes: list[SparseCodes]


def changes(dictionary: Encodes, section: CrossSection, split: Split, base: Encoded) -> Changes:
    """What swapping each latent would change, for every attribute's source."""
    found, live = [], torch.zeros(dictionary.d_sae, dtype=torch.bool, device=split.acts.device)
    live[base.codes.latent] = True
    for attribute in section.attributes:
        source = encode_split(
            dictionary, split.source_acts[attribute.name], split.source_known(attribute.name)
        ).codes
        live[source.latent] = True
        found.append(difference(base.codes, source))
    return Changes(live.nonzero()[:, 0], found)


def temperature(step: int, steps: int) -> float:
    """From hot at step 0 to cold at the last, log-spaced."""
    hot, cold = MASKS.temperature
    return hot * (cold / hot) ** (step / max(1, steps - 1))


def hard(logits: Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    """`σ(m / T) > ½`, which no temperature changes."""
    return logits > 0


def fit_masks(
    dictionary: Encodes,
    section: CrossSection,
    seed: int = 0,
    steps: int = PAIRS.steps,
    tick: Tick = lambda _: None,
) -> tuple[dict[str, Mask], Tensor]:
    """Trains masks for all attributes together, from several starts; also returns the live latents of `fit`.

    Candidates are every look at the hard mask on the way (four a run), the empty mask and all latents:
    a learned mask must not lose to a member of its own family. For each attribute the one that does best
    on `select` is taken, of equals the last trained one.
    """
    fit, select = section.fit, section.select
    seen = changes(dictionary, section, fit, encode_split(dictionary, fit.acts, fit.known))
    chosen = changes(dictionary, section, select, encode_split(dictionary, select.acts, select.known)).codes

    def make() -> dict[str, Tensor]:
        judge = _Judge(dictionary, section, seen.live, chosen)
        for number, (start, rate) in enumerate(MASKS.starts if len(seen.live) else ()):
            _train_masks(dictionary, section, seen, judge, start, rate, seed + number, steps)
            tick("masks")
        return {"masks": judge.masks, "origins": torch.tensor([ORIGINS.index(o) for o in judge.origins])}

    parts = None
    if section.made_from is not None:
        codes = [
            digest(part) for side in (*seen.codes, *chosen) for part in (side.row, side.latent, side.value)
        ]
        parts = [section.made_from, seed, steps, digest(dictionary.W_dec), digest(seen.live), codes]
    found = cached("masks", parts, make, fit.acts.device)
    origins = [ORIGINS[i] for i in found["origins"].tolist()]
    named = zip(section.attributes, found["masks"], origins, strict=True)
    return {attribute.name: Mask(latents, origin) for attribute, latents, origin in named}, seen.live


def _train_masks(
    dictionary: Encodes,
    section: CrossSection,
    seen: Changes,
    judge: "_Judge",
    start: float,
    rate: float,
    seed: int,
    steps: int,
) -> None:
    """One training run; the judge looks four times on the way."""
    fit = section.fit
    logits = torch.full((len(section.attributes), len(seen.live)), start, device=fit.acts.device)
    logits.requires_grad_()
    rows_of = dictionary.W_dec[seen.live]
    slot = torch.full((dictionary.d_sae,), 0, device=fit.acts.device)
    slot[seen.live] = torch.arange(len(seen.live), device=fit.acts.device)
    padded = [codes.padded() for codes in seen.codes]

    def edit(batch: Batch, step: int) -> Tensor:
        share = (logits / temperature(step, steps)).sigmoid()
        at = batch.rows.to(fit.acts.device)
        out = fit.acts[at]
        for a, (latents, values) in enumerate(padded):
            mine = (batch.attribute == a).nonzero()[:, 0].to(at.device)
            if len(mine):
                dense = values.new_zeros(len(mine), len(seen.live))
                # padding is latent 0 at code 0, which adds nothing wherever it lands
                dense.scatter_add_(1, slot[latents[at[mine]]], values[at[mine]])
                out = out.index_add(0, mine, (dense * share[a]) @ rows_of)
        return out

    def look(step: int) -> None:
        if step % max(1, steps // MASKS.looks) == 0 or step == steps:
            judge.see(hard(logits.detach()))

    train([logits], edit, Pairs(section, fit, seed), fit, steps, rate, look)


class _Judge:
    """Keeps for every attribute the mask that did best on `select`, beginning with no latent and all of them."""

    def __init__(
        self, dictionary: Encodes, section: CrossSection, live: Tensor, changes: list[SparseCodes]
    ) -> None:
        self.dictionary, self.section, self.live = dictionary, section, live
        self.changes, select = changes, section.select
        attributes = range(len(section.attributes))
        none = balances(section, select, {at: {"": select.acts} for at in attributes})
        self.scores = [none[at][""] for at in attributes]
        self.masks = torch.zeros(len(attributes), dictionary.d_sae, dtype=torch.bool, device=live.device)
        self.origins: list[Origin] = ["none" for _ in attributes]
        self.see(torch.ones(len(attributes), len(live), dtype=torch.bool, device=live.device), "all")

    def see(self, masks: Bool[Tensor, "n_attributes n_live"], origin: Origin = "trained") -> None:
        wide = torch.zeros_like(self.masks)
        wide[:, self.live] = masks
        edits = {
            at: {"": swap_masked(self.section.select.acts, codes, self.dictionary.W_dec, wide[at])}
            for at, codes in enumerate(self.changes)
        }
        now = balances(self.section, self.section.select, edits)
        for at in edits:
            if now[at][""] > self.scores[at] or (now[at][""] == self.scores[at] and origin == "trained"):
                self.scores[at], self.masks[at], self.origins[at] = now[at][""], wide[at], origin


def swap_masked(
    base: Float[Tensor, "n d_in"],
    change: SparseCodes,
    W_dec: Float[Tensor, "d_sae d_in"],
    mask: Bool[Tensor, "d_sae"] | Bool[Tensor, "n d_sae"],
) -> Float[Tensor, "n d_in"]:
    """`a + Σ_{j in mask} (β_j − α_j) w_j`: masked latents take the source's codes.

    Starting from the activation keeps the reconstruction error, from `â` it leaves it out. A mask of
    its own for every row is allowed.
    """
    keep = mask[change.latent] if mask.ndim == 1 else mask[change.row, change.latent]
    kept = SparseCodes(change.row[keep], change.latent[keep], change.value[keep], change.n, change.d_sae)
    return add_codes(base, kept, W_dec)


def random_masks(n: int, size: int, live: Tensor, d_sae: int, seed: int) -> Bool[Tensor, "n d_sae"]:
    """For every row its own draw of `size` latents among the live ones, so that the mean is over draws."""
    generator = torch.Generator().manual_seed(seed)
    out = torch.zeros(n, d_sae, dtype=torch.bool, device=live.device)
    for row in range(n if size else 0):
        chosen = torch.randperm(len(live), generator=generator)[:size]
        out[row, live[chosen.to(live.device)]] = True
    return out
