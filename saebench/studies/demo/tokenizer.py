"""The demo model's tokenizer: one token per word, the space before it included (" Mary")."""

from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from saebench.demo.corpus import vocabulary_text

END, UNKNOWN = "<|endoftext|>", "<unk>"


def build_tokenizer():
    """A word-level tokenizer over GPT-2's byte-level pre-tokenisation, with every word of the corpus.

    `<|endoftext|>` (id 0) begins a text, ends it and pads; words that the corpus lacks become `<unk>`.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found = {piece for text in vocabulary_text() for piece, _ in split.pre_tokenize_str(text)}
    vocabulary = {word: i for i, word in enumerate([END, UNKNOWN, *sorted(found)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = split
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


def load_tokenizer(folder: Path):
    """The tokenizer saved in `folder`."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def encode(tokenizer, texts: list[str]) -> tuple[Int[Tensor, "b t"], Int[Tensor, "b"]]:
    """Token ids with `<|endoftext|>` in front, padded on the right, and the length of every row.

    Raises:
        ValueError: a word is not in the vocabulary.
    """
    rows = [e.ids for e in tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)]
    if any(tokenizer.unk_token_id in row for row in rows):
        raise ValueError("a text of the demo corpus holds a word that is not in the vocabulary")
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest + 1), tokenizer.pad_token_id)
    for i, row in enumerate(rows):
        ids[i, 1 : len(row) + 1] = torch.tensor(row)
    return ids, torch.tensor([len(row) + 1 for row in rows])
