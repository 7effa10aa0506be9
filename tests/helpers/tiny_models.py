"""Random models of three architectures, a few thousand parameters each, written to a directory."""

from pathlib import Path
from typing import Any

import torch

WORDS = [f"w{i}" for i in range(40)]
ARCHITECTURES = ("gpt2", "llama", "neox")
# far from the usual 0.02, so that attention is not uniform and an edit moves the logits
SPREAD = 0.3


def save_tiny(directory: Path, architecture: str, n_layers: int = 4, seed: int = 0) -> Path:
    """Writes a random model and a word-level tokenizer as a Hugging Face directory."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    tokenizer = word_tokenizer(WORDS)
    model = AutoModelForCausalLM.from_config(_config(architecture, len(tokenizer), n_layers))
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def word_tokenizer(words: list[str]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["<s>", "<unk>", *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="<s>", unk_token="<unk>"
    )


def _config(architecture: str, vocabulary: int, n_layers: int) -> Any:
    from transformers import GPT2Config, GPTNeoXConfig, LlamaConfig

    common = {"vocab_size": vocabulary, "initializer_range": SPREAD}
    special = {"bos_token_id": 0, "eos_token_id": 0}
    if architecture == "gpt2":
        return GPT2Config(n_embd=32, n_layer=n_layers, n_head=4, n_positions=32, **common, **special)
    rotary = {
        "hidden_size": 32,
        "num_hidden_layers": n_layers,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 32,
    }
    if architecture == "llama":
        return LlamaConfig(num_key_value_heads=2, **rotary, **common, **special)
    parallel = architecture == "neox"
    return GPTNeoXConfig(use_parallel_residual=parallel, **rotary, **common, **special)
