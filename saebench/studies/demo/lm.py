"""Training the demo language model: first on text, then also on interchange interventions.

A small model trained on text alone reads the city with attention in its first block, so that patching
the city's residual afterwards changes nothing. The second phase therefore plants the facts: three fixed
orthonormal subspaces of the residual after block 0, at the city's last token, are trained to carry
country, continent and language (interchange intervention training, Geiger et al. 2022, arXiv 2112.00826).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from random import Random

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from saebench.demo.corpus import ATTRIBUTES, Prompt, Sentence, fact_prompt, sentence, words
from saebench.planting.tokens import encode

PLANTED_LAYER = 1  # the residual stream entering this block
ANSWER_WEIGHT = 4.0
GIVER = 0.002
"""What the early readout leaves to the one who gives: who that is matters at this site then too."""
PLAIN = 0.4
"""Share of training pairs whose other parts are kept or swapped, as in scoring, and not stretched."""
REACH = (-2.0, 3.0)
"""How far the others are stretched along the line from base to source."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the model's weights."""

    layers: int = 4
    d_model: int = 96
    heads: int = 4
    context: int = 32
    text_steps: int = 1500
    planting_steps: int = 1000
    early_readout: float = 0.3
    batch: int = 96
    learning_rate: float = 3e-3
    planting_rate: float = 1e-3
    planted_rank: int = 24
    jitter: float = 3.0
    """Largest standard deviation of the noise added outside the part asked for."""
    seed: int = 0


def new_model(recipe: Recipe, vocabulary: int) -> nn.Module:
    """A GPT-2 of the recipe's size with random weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(recipe.seed)
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=recipe.context,
        n_embd=recipe.d_model,
        n_layer=recipe.layers,
        n_head=recipe.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config)


def planted_subspaces(recipe: Recipe) -> dict[str, Float[Tensor, "rank d"]]:
    """For every attribute, orthonormal rows; the rows of different attributes are orthogonal too."""
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    square = torch.randn(recipe.d_model, recipe.d_model, generator=generator, dtype=torch.float64)
    rows = torch.linalg.qr(square).Q.T
    parts = rows.float().split(recipe.planted_rank)
    return {name: part.contiguous() for name, part in zip(ATTRIBUTES, parts, strict=False)}


def text_loss(model: nn.Module, tokenizer, sentences: list[Sentence], early: float = 0.0) -> Tensor:
    """Next-token cross-entropy; the token before the final full stop, an answer, weighs more.

    `early` is the weight of the same loss for IOI answers read off right after block 0 (through the final
    norm and the unembedding), where the giver is to get the share `GIVER` of the probability.
    """
    ids, lengths = encode(tokenizer, [one.text for one in sentences])
    with kept_residual(model, PLANTED_LAYER) as kept:
        logits = model(ids).logits[:, :-1]
    target = ids[:, 1:]
    steps = torch.arange(target.shape[1])
    weight = (steps < (lengths - 1)[:, None]).float()
    weight = weight + (ANSWER_WEIGHT - 1) * (steps == (lengths - 3)[:, None])
    loss = cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
    loss = (loss * weight.flatten()).sum() / weight.sum()
    if early:
        rows = torch.tensor([i for i, one in enumerate(sentences) if one.giver])
        at = lengths[rows] - 3
        normed = model.get_submodule("transformer.ln_f")(kept[0][rows, at])
        guess = model.get_submodule("lm_head")(normed)
        giver = first_token(tokenizer, [one.giver for one in sentences if one.giver])
        answer = (1 - GIVER) * cross_entropy(guess, target[rows, at])
        loss = loss + early * (answer + GIVER * cross_entropy(guess, giver))
    return loss


def optimizer_for(model: nn.Module, rate: float, steps: int, warm_up: float):
    """AdamW with one cycle of the learning rate."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=warm_up)
    return optimizer, schedule


def descend(loss: Tensor, model: nn.Module, optimizer, schedule) -> None:
    """One step down, with clipped gradients."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()


def train_on_text(model: nn.Module, tokenizer, recipe: Recipe) -> None:
    """The first phase: sentences of the corpus, fresh ones at every step."""
    rng = Random(recipe.seed)
    optimizer, schedule = optimizer_for(model, recipe.learning_rate, recipe.text_steps, 0.15)
    bar = tqdm(range(recipe.text_steps), desc="text")
    for step in bar:
        loss = text_loss(model, tokenizer, [sentence(rng) for _ in range(recipe.batch)])
        descend(loss, model, optimizer, schedule)
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}")


def positions_of(tokenizer, prompts: list[Prompt]) -> Int[Tensor, "b"]:
    """The position of the city's last token in every prompt."""
    return encode(tokenizer, [prompt.until for prompt in prompts])[1] - 1


@contextmanager
def kept_residual(model: nn.Module, layer: int) -> Iterator[list[Tensor]]:
    """A list that the residual stream entering block `layer` [b, t, d] is put on at every run."""
    kept: list[Tensor] = []
    block = model.get_submodule(f"transformer.h.{layer}")
    handle = block.register_forward_pre_hook(lambda _, args: kept.append(args[0]))
    try:
        yield kept
    finally:
        handle.remove()


def residual(model: nn.Module, ids: Int[Tensor, "b t"], layer: int) -> Float[Tensor, "b t d"]:
    """The residual stream entering block `layer`."""
    with kept_residual(model, layer) as kept:
        model(ids)
    return kept[0]


def patched_logits(
    model: nn.Module, ids: Int[Tensor, "b t"], layer: int, at: Int[Tensor, "b"], change
) -> Float[Tensor, "b t vocab"]:
    """Logits when the residual entering block `layer` at position `at[i]` is replaced by `change(old)`."""

    def edit(_, args):
        rows = torch.arange(len(ids))
        hidden = args[0].clone()
        hidden[rows, at] = change(args[0][rows, at])
        return (hidden, *args[1:])

    block = model.get_submodule(f"transformer.h.{layer}")
    handle = block.register_forward_pre_hook(edit)
    try:
        return model(ids).logits
    finally:
        handle.remove()


PARTS = (*ATTRIBUTES, "rest")
"""What the residual is split into: the planted subspaces, and all that is orthogonal to them."""


@dataclass(frozen=True)
class Interchange:
    """Base and source prompts about cities, and what patching parts of the residual should answer."""

    base: list[Prompt]
    source: list[Prompt]
    strength: Float[Tensor, "b 4"]
    """How far each of `PARTS` goes from the base's value (0) to the source's (1), and past either."""
    answers: list[str]


def draw_interchange(
    rng: Random, n: int, swap: tuple[str, ...], asked: str | None = None, **kind
) -> Interchange:
    """`n` pairs of prompts about two different cities whose parts named in `swap` are swapped.

    Unless `asked` says what they ask for, at least half ask for one of those, where that is a fact.
    """
    base, source, answers = [], [], []
    for _ in range(n):
        here, there = rng.sample(words().cities, 2)
        about = asked or (rng.choice(swap) if rng.random() < 0.5 else rng.choice(ATTRIBUTES))
        prompt = fact_prompt(rng, here, about if about in ATTRIBUTES else None, **kind)
        base.append(prompt)
        source.append(fact_prompt(rng, there))
        answers.append(f" {(there if prompt.attribute in swap else here)[prompt.attribute]}")
    strength = torch.tensor([float(part in swap) for part in PARTS]).expand(n, -1)
    return Interchange(base, source, strength, answers)


def draw_planting(rng: Random, n: int) -> Interchange:
    """`n` pairs for training: the part asked for is swapped in half of them, all others by any strength.

    Nothing but the part asked for may then move the answer, in whatever direction cities differ.
    """
    base, source, answers, strength = [], [], [], []
    for _ in range(n):
        here, there = rng.sample(words().cities, 2)
        asked, swapped = rng.choice(ATTRIBUTES), rng.random() < 0.5
        base.append(fact_prompt(rng, here, asked))
        source.append(fact_prompt(rng, there))
        answers.append(f" {(there if swapped else here)[asked]}")
        plain = rng.random() < PLAIN
        others = [float(rng.random() < 0.5) if plain else rng.uniform(*REACH) for _ in PARTS]
        others[ATTRIBUTES.index(asked)] = float(swapped)
        strength.append(others)
    return Interchange(base, source, torch.tensor(strength), answers)


def first_token(tokenizer, answers: list[str]) -> Int[Tensor, "b"]:
    """The first token of every answer."""
    return encode(tokenizer, answers)[0][:, 1]


def interchange_logits(
    model: nn.Module,
    tokenizer,
    pairs: Interchange,
    subspaces: dict[str, Tensor],
    layer: int = PLANTED_LAYER,
    jitter: Float[Tensor, "b d"] | None = None,
) -> Float[Tensor, "b vocab"]:
    """Logits at the answer position after the patch; `jitter` is added outside the part asked for."""
    projections = [subspaces[name].T @ subspaces[name] for name in ATTRIBUTES]
    projections.append(torch.eye(rows_dim(subspaces)) - reduce(torch.add, projections))
    mix = torch.einsum("bk,kij->bij", pairs.strength, torch.stack(projections))
    source_ids, _ = encode(tokenizer, [prompt.text for prompt in pairs.source])
    there = residual(model, source_ids, layer)
    there = there[torch.arange(len(there)), positions_of(tokenizer, pairs.source)]
    added = torch.zeros_like(there)
    if jitter is not None:
        own = torch.stack([projections[ATTRIBUTES.index(p.attribute)] for p in pairs.base])
        added = jitter - torch.einsum("bij,bj->bi", own, jitter)
    ids, lengths = encode(tokenizer, [prompt.text for prompt in pairs.base])
    logits = patched_logits(
        model,
        ids,
        layer,
        positions_of(tokenizer, pairs.base),
        lambda here: here + torch.einsum("bij,bj->bi", mix, there - here) + added,
    )
    return logits[torch.arange(len(ids)), lengths - 1]


def rows_dim(subspaces: dict[str, Tensor]) -> int:
    """The width of the space that the subspaces lie in."""
    return next(iter(subspaces.values())).shape[1]


def plant_facts(model: nn.Module, tokenizer, recipe: Recipe, subspaces: dict[str, Tensor]) -> None:
    """The second phase: text and interchange interventions together.

    On the text, IOI answers are also read off right after block 0 (`Recipe.early_readout`, `GIVER`): the
    last token then carries both names there, the indirect object strongly and the subject weakly.
    """
    rng = Random(recipe.seed + 2)
    generator = torch.Generator().manual_seed(recipe.seed + 2)
    optimizer, schedule = optimizer_for(model, recipe.planting_rate, recipe.planting_steps, 0.1)
    bar = tqdm(range(recipe.planting_steps), desc="planting")
    for step in bar:
        pairs = draw_planting(rng, recipe.batch)
        noise = torch.randn(recipe.batch, recipe.d_model, generator=generator)
        size = torch.rand(recipe.batch, 1, generator=generator) * recipe.jitter
        logits = interchange_logits(model, tokenizer, pairs, subspaces, jitter=noise * size)
        target = first_token(tokenizer, pairs.answers)
        swapped = cross_entropy(logits, target)
        texts = [sentence(rng) for _ in range(recipe.batch // 2)]
        loss = swapped + text_loss(model, tokenizer, texts, recipe.early_readout)
        descend(loss, model, optimizer, schedule)
        if step % 20 == 0:
            right = (logits.argmax(-1) == target).float().mean().item()
            bar.set_postfix(interchange=f"{right:.3f}", loss=f"{loss.item():.3f}")
