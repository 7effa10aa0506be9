"""Small GPT-2s whose circuits are set by hand: which heads carry an attribute, from where to where.

The residual stream has places of its own for positions, values, what heads hand on, answers, and for
what all other heads and MLPs write, which nobody reads.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tiny_models import word_tokenizer

from saebench.models.language_model import LanguageModel
from saebench.models.loading import load_model
from saebench.patching.pairs import Pairs, Passage, Questions

WIDTH, HEADS, LAYERS, LENGTH, VALUES = 64, 4, 3, 8, 6
D_HEAD = WIDTH // HEADS
POSITION, VALUE, CARRIED, ANSWERS, JUNK = 0, 8, 14, 38, 50
"""Where each place begins: one-hot positions, one-hot values, what is handed on, answers, the rest."""
POSITIONS = {"first": 1, "other": 3, "middle": 5, "end": LENGTH - 1}
HOLDS = ("first", "other")
"""Where the value of each attribute stands."""
WORDS = ["pad", *(f"v{i}" for i in range(VALUES)), *(f"{a}{i}" for a in "ab" for i in range(VALUES))]


class Head(NamedTuple):
    """A head that copies six numbers from one token to another."""

    layer: int
    head: int
    at: str
    """Where it writes."""
    looks: str
    """Where it reads."""
    reads: int
    writes: int
    gain: float = 1.0

    @property
    def site(self) -> str:
        return f"blocks.{self.layer}.attn.hook_z[{self.head}]@{self.at}"


def direct(layer: int, head: int, attribute: int, gain: float = 1.0) -> Head:
    """A head that brings an attribute's value to the end, as an answer."""
    return Head(layer, head, "end", HOLDS[attribute], VALUE, ANSWERS + VALUES * attribute, gain)


def relay(first: tuple[int, int], second: tuple[int, int], attribute: int) -> list[Head]:
    """Two heads: the value goes to the middle, from there to the end."""
    carried = CARRIED + VALUES * attribute
    return [
        Head(*first, "middle", HOLDS[attribute], VALUE, carried),
        Head(*second, "end", "middle", carried, ANSWERS + VALUES * attribute),
    ]


def build(folder: Path, heads: Sequence[Head], seed: int) -> LanguageModel:
    """The model with these heads; all others read everything and write where nobody reads."""
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = word_tokenizer(WORDS)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        n_positions=LENGTH + 1,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        _words_and_places(model, tokenizer)
        for layer, block in enumerate(model.transformer.h):
            _background(block)
            for each in heads:
                if each.layer == layer:
                    _set_head(block.attn, each)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_model(str(folder))


def _words_and_places(model, tokenizer) -> None:
    words, places, answers = (
        model.transformer.wte.weight,
        model.transformer.wpe.weight,
        model.lm_head.weight,
    )
    for weight in (words, places, answers):
        weight.zero_()
    for i in range(VALUES):
        words[tokenizer.convert_tokens_to_ids(f"v{i}"), VALUE + i] = 1.0
        for at, name in enumerate("ab"):
            answers[tokenizer.convert_tokens_to_ids(f"{name}{i}"), ANSWERS + VALUES * at + i] = 4.0
    # every token has the same length, so that norms hardly differ
    words[tokenizer.convert_tokens_to_ids("pad"), JUNK] = 1.0
    for i in range(LENGTH):
        places[i, POSITION + i] = 2.0


def _background(block) -> None:
    """Random queries, keys, values and MLPs, which write to their own place."""
    for weight in (block.attn.c_attn.weight, block.mlp.c_fc.weight):
        torch.nn.init.normal_(weight, std=0.1)
    for weight in (block.attn.c_proj.weight, block.mlp.c_proj.weight):
        weight.zero_()
        weight[:, JUNK + 1 :] = 0.05 * torch.randn(len(weight), WIDTH - JUNK - 1)


def _set_head(attention, head: Head) -> None:
    """Conv1D weights are [in, out]; queries, keys and values lie side by side."""
    span = slice(head.head * D_HEAD, (head.head + 1) * D_HEAD)
    weight, out = attention.c_attn.weight, attention.c_proj.weight
    for part in range(3):
        weight[:, part * WIDTH : (part + 1) * WIDTH][:, span] = 0.0
    start = head.head * D_HEAD
    # a product of 25 or more where position and place fit, 0 elsewhere
    weight[POSITION + POSITIONS[head.at], start] = 3.0
    weight[POSITION + POSITIONS[head.looks], WIDTH + start] = 3.0
    out[span] = 0.0
    for i in range(VALUES):
        weight[head.reads + i, 2 * WIDTH + start + i] = 0.3
        out[start + i, head.writes + i] = head.gain


def questions(
    model: LanguageModel, n: int = 24, attributes: Sequence[int] = (0, 1), seed: int = 0
) -> Questions:
    """Pairs whose sources change one attribute; on the null a value that no head looks at."""
    sets = [_draw(model, n, attributes, seed + i, null=False) for i in range(2)]
    return Questions(sets[0], sets[1], _draw(model, n, attributes, seed + 2, null=True))


def _draw(model: LanguageModel, n: int, attributes: Sequence[int], seed: int, null: bool) -> Pairs:
    rng = np.random.default_rng(seed)
    ids = {word: model.tokenizer.convert_tokens_to_ids(word) for word in WORDS}
    base, source, which, answer, distractor = [], [], [], [], []
    for attribute in attributes:
        for _ in range(n):
            values = rng.integers(VALUES, size=3)
            new = (values + rng.integers(1, VALUES, size=3)) % VALUES
            moved = values.copy()
            moved[2 if null else attribute] = new[2 if null else attribute]
            texts = []
            for row in (values, moved):
                tokens = [ids["pad"]] * LENGTH
                for place, value in zip((*(POSITIONS[h] for h in HOLDS), 4), row, strict=True):
                    tokens[place] = ids[f"v{value}"]
                texts.append(Passage(tokens, POSITIONS))
            base.append(texts[0])
            source.append(texts[1])
            which.append(attribute)
            answer.append(ids[f"{'ab'[attribute]}{values[attribute]}"])
            distractor.append(ids[f"{'ab'[attribute]}{new[attribute]}"])
    rows = np.arange(len(base))
    return Pairs(
        tuple(base),
        tuple(source),
        np.array(which),
        ("one", "two"),
        torch.tensor(answer),
        torch.tensor(distractor),
        rows,
        None,
        rows % 2,
    )
