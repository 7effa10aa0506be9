"""Random models as GGUF files, written the way llama.cpp's converter does it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

ARCHITECTURES = ("llama", "qwen2", "gemma2")
TEXT = ["the cat sat on the mat and the dog gave a book to Mary at the store", "a b c d e f g"]

_WORDS = ["the", "cat", "sat", "on", "mat", "and", "dog", "gave", "a", "book", "to", "Mary", "at", "store"]
_GROWING = dict.fromkeys(f"▁{word[:n]}" for word in _WORDS for n in range(1, len(word) + 1))
_LETTERS = dict.fromkeys("▁" + "".join(_WORDS))
PIECES = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{i:02X}>" for i in range(256)), *_LETTERS, *_GROWING]
"""A vocabulary of the SentencePiece kind, in which every word grows letter by letter."""


def random_model(architecture: str, vocabulary: int) -> Any:
    """A model of two layers with grouped queries; weights far from zero, norms away from one."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    more: dict[str, Any] = {"head_dim": 32} if architecture == "gemma2" else {}
    config = AutoConfig.for_model(
        architecture,
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        tie_word_embeddings=architecture == "gemma2",
        **more,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    for name, weight in model.named_parameters():
        if "norm" in name or name.endswith("bias"):
            weight.data += 0.2 * torch.randn_like(weight)
    return model


def byte_tokenizer() -> Tokenizer:
    """Byte-level BPE with a few merges, as GPT-2's and Qwen's are."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def write_gguf(path: Path, model: Any, tokenizer: Tokenizer | None, quantisation: str = "F32") -> Path:
    """Matrices in `quantisation`, vectors in float32; queries and keys permuted, norms shifted.

    Without a tokenizer the file gets `PIECES`.
    """
    import gguf

    config, architecture = model.config, model.config.model_type
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(32)
    writer.add_key_length(32)
    writer.add_value_length(32)
    writer.add_vocab_size(config.vocab_size)
    if architecture == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
        writer.add_sliding_window(config.sliding_window)
    _write_tokenizer(writer, tokenizer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], config.num_hidden_layers)
    kind = gguf.GGMLQuantizationType[quantisation]
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        short = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert short is not None, f"GGUF has no name for {name}"
        value = _as_llama_cpp(weight.numpy(), name, config)
        if value.ndim == 2 and quantisation != "F32":
            writer.add_tensor(short, gguf.quants.quantize(value, kind), raw_dtype=kind)
        else:
            writer.add_tensor(short, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _as_llama_cpp(value: np.ndarray, name: str, config: Any) -> np.ndarray:
    if config.model_type == "gemma2" and "norm" in name:
        return value + 1
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    part = name.split(".")[-2]
    if config.model_type == "llama" and part in heads:
        split = value.reshape(heads[part], 2, value.shape[0] // heads[part] // 2, *value.shape[1:])
        return np.ascontiguousarray(split.swapaxes(1, 2).reshape(value.shape))
    return value


def _write_tokenizer(writer: Any, tokenizer: Tokenizer | None) -> None:
    from gguf import TokenType

    if tokenizer is None:
        kinds = [TokenType.CONTROL] * 3 + [TokenType.UNKNOWN] + [TokenType.BYTE] * 256
        writer.add_tokenizer_model("llama")
        writer.add_token_list(PIECES)
        writer.add_token_scores([-float(i) for i in range(len(PIECES))])
        writer.add_token_types(kinds + [TokenType.NORMAL] * (len(PIECES) - len(kinds)))
        writer.add_unk_token_id(3)
        special = (2, 1, 0)
    else:
        vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("default")
        writer.add_token_list([token for token, _ in vocabulary])
        writer.add_token_types([TokenType.NORMAL if i else TokenType.CONTROL for _, i in vocabulary])
        writer.add_token_merges(
            [" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
        )
        special = (0, 0, 0)
    adders = (writer.add_bos_token_id, writer.add_eos_token_id, writer.add_pad_token_id)
    for add, token in zip(adders, special, strict=True):
        add(token)
