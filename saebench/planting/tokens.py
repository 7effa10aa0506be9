"""A tokenizer of whole words, the space before them included (" Mary"), and texts as tokens."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

END, UNKNOWN = "<|endoftext|>", "<unk>"


def build_tokenizer(texts: Iterable[str]) -> Any:
    """One token per word of `texts`, over GPT-2's byte-level pre-tokenisation.

    `<|endoftext|>` (id 0) begins a text, ends it and pads; words that `texts` lack become `<unk>`.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False)
    seen = {piece for text in texts for piece, _ in pieces.pre_tokenize_str(text)}
    vocabulary = {word: i for i, word in enumerate([END, UNKNOWN, *sorted(seen)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pieces
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        unk_token=UNKNOWN,
        model_max_length=64,
        clean_up_tokenization_spaces=False,
    )


def encode(tokenizer: Any, texts: Sequence[str]) -> tuple[Int[Tensor, "b t"], Int[Tensor, "b"]]:
    """Token ids with `<|endoftext|>` in front, padded on the right, and the length of every row.

    Raises:
        ValueError: a word is not in the vocabulary.
    """
    rows = [e.ids for e in tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False)]
    if any(tokenizer.unk_token_id in row for row in rows):
        raise ValueError("a text holds a word that is not in the vocabulary")
    ids = padded([[tokenizer.bos_token_id, *row] for row in rows], tokenizer.pad_token_id)
    return ids, torch.tensor([len(row) + 1 for row in rows])


def padded(rows: Sequence[Sequence[int]], fill: int, spare: int = 0) -> Int[Tensor, "b t"]:
    """Rows of different lengths in one tensor, with `spare` columns behind the longest."""
    out = torch.full((len(rows), max(map(len, rows)) + spare), fill)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row)
    return out
