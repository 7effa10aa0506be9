"""Loads the language model from the bundle, a local directory or the hub.

It is a `TransformerBridge` without compatibility mode: its weights are Hugging Face's own, neither
folded nor centred, so activations are those that SAEs of that model were trained on.
"""

import contextlib
import hashlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from saebench.errors import ModelError, OptionError, unknown
from saebench.models.devices import DTYPES, find_device
from saebench.models.language_model import LanguageModel
from saebench.models.sources import find_source, unloadable
from saebench.models.surroundings import undisturbed

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@undisturbed()
def load_model(name: str, *, device: str = "auto", dtype: str = "float32") -> LanguageModel:
    """Loads a model by name, a GGUF file, a Hugging Face directory, or a model from the hub.

    `saebench models` lists the names; what a GGUF file holds is unpacked once and kept.

    Raises:
        ModelError: if it is absent, damaged, unreachable or not a decoder-only language model.
        OptionError: for an unknown dtype or an absent device.
    """
    if dtype not in DTYPES:
        raise OptionError(unknown("dtype", dtype, DTYPES))
    where, kind = find_device(device), DTYPES[dtype]
    name, path = find_source(name)
    with _quiet():
        hf_model, tokenizer = _load_pretrained(name, path, kind)
        digest = _digest(hf_model.state_dict())
        bridge = _bridge(name, path, hf_model, tokenizer, where, kind)
    return LanguageModel(name, bridge, tokenizer, digest, where, kind)


def _load_pretrained(name: str, path: str, dtype: torch.dtype) -> tuple[Any, Any]:
    from huggingface_hub.errors import HfHubHTTPError
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    local = Path(path).is_dir()
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        # eager attention: the only one whose inner values hooks can reach
        model, report = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, attn_implementation="eager", output_loading_info=True
        )  # pyright: ignore[reportGeneralTypeIssues]
    except SafetensorError as error:
        raise ModelError(
            f"The weights of {name} cannot be read ({error}): the file is damaged or incomplete."
            " Copy or download the model again."
        ) from error
    except (OSError, ValueError, RuntimeError, KeyError, HfHubHTTPError) as error:
        raise ModelError(unloadable(name, local, error)) from error
    absent = sorted(report["missing_keys"]) + sorted(k[0] for k in report["mismatched_keys"])
    if absent:
        raise ModelError(
            f"The weights of {name} lack {len(absent)} tensors that its config.json asks for"
            f" (first: {absent[0]}), and random numbers would stand in for them."
            " Expected a complete causal language model: save or download it again."
        )
    return model, tokenizer


def _bridge(
    name: str, path: str, hf_model: Any, tokenizer: Any, device: torch.device, dtype: torch.dtype
) -> "TransformerBridge":
    from transformer_lens.model_bridge import TransformerBridge

    hf_model.to(device).eval().requires_grad_(False)
    try:
        bridge = TransformerBridge.boot_transformers(
            path, hf_model=hf_model, tokenizer=tokenizer, device=device, dtype=dtype
        )
    except (ValueError, KeyError, AttributeError, NotImplementedError, RuntimeError) as error:
        kinds = ", ".join(getattr(hf_model.config, "architectures", None) or ["unknown"])
        raise ModelError(
            f"TransformerLens cannot bridge {name} (architecture {kinds}): {error}. Expected a"
            " decoder-only model that TransformerBridge supports, such as GPT-2, Llama or GPT-NeoX."
        ) from error
    return bridge.eval().requires_grad_(False)


def _digest(state: dict[str, Tensor]) -> str:
    """SHA-256 over the tensors in the order of their names; tied tensors count once."""
    digest = hashlib.sha256()
    seen: set[tuple[int, tuple[int, ...]]] = set()
    for name in sorted(state):
        tensor = state[name]
        key = (tensor.data_ptr(), tuple(tensor.shape))
        if key in seen:
            continue
        seen.add(key)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # bytes, since numpy has no bfloat16
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(raw.data)
    return digest.hexdigest()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the libraries' notices and progress bars off stdout, which may carry JSON Lines."""
    from transformers.utils import logging as hf_logging

    verbosity: Any = hf_logging.get_verbosity()
    bars = hf_logging.is_progress_bar_enabled()
    level = logging.root.manager.disable
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()
