"""The language model under study, loaded from the bundle, a local directory or the hub.

The model is a `TransformerBridge` without compatibility mode: its weights are Hugging Face's own,
neither folded nor centred, so activations are those that SAEs of that model were trained on.
"""

import contextlib
import hashlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from saebench.errors import ModelError, OptionError, SiteError, unknown

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

DEMO = Path(__file__).parent / "demo" / "model"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
# Where an activation can be read and replaced, in the order in which a block computes them.
SITE_HOOKS = (
    "hook_resid_pre",
    "attn.hook_q",
    "attn.hook_k",
    "attn.hook_v",
    "attn.hook_z",
    "hook_attn_out",
    "hook_resid_mid",
    "hook_mlp_out",
    "hook_resid_post",
)


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A loaded model. `sha256` is the digest of its weights, whatever path they came from."""

    name: str
    bridge: "TransformerBridge" = field(repr=False)
    tokenizer: Any = field(repr=False)
    sha256: str
    device: torch.device
    dtype: torch.dtype

    @property
    def n_layers(self) -> int:
        return self.bridge.cfg.n_layers

    @property
    def d_model(self) -> int:
        return self.bridge.cfg.d_model

    @property
    def d_vocab(self) -> int:
        return self.bridge.cfg.d_vocab

    @property
    def n_ctx(self) -> int:
        return self.bridge.cfg.n_ctx

    @property
    def prepends_bos(self) -> bool:
        """Whether prompts start with the BOS token (GPT-2, Llama: yes; Pythia: no)."""
        return bool(self.bridge.cfg.default_prepend_bos) and self.tokenizer.bos_token_id is not None

    def tokens(self, prompt: str) -> list[int]:
        """Token ids of a prompt, with BOS in front if the model uses one."""
        ids = self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        return [self.tokenizer.bos_token_id, *ids] if self.prepends_bos else list(ids)

    def single_token(self, text: str) -> int | None:
        """The one token that `text` becomes when it continues a prompt, or None.

        The text is encoded behind another word first: tokenizers of the SentencePiece family add
        a space of their own in front of a text that stands alone.
        """
        if text not in self._single_tokens:
            self._single_tokens[text] = self._find_single_token(text)
        return self._single_tokens[text]

    @cached_property
    def _single_tokens(self) -> dict[str, int | None]:
        """Those looked up so far: a task asks for the same few names thousands of times."""
        return {}

    def _find_single_token(self, text: str) -> int | None:
        for context in ("a", ""):
            before = self.tokenizer(context, add_special_tokens=False)["input_ids"]
            after = self.tokenizer(context + text, add_special_tokens=False)["input_ids"]
            new = after[len(before) :]
            known = len(new) == 1 and new[0] != self.tokenizer.unk_token_id
            if known and after[: len(before)] == before:
                return new[0]
        return None

    @cached_property
    def points(self) -> dict[str, Any]:
        """TransformerLens' hook point of every name, aliases included.

        Kept, since the bridge resolves all of its aliases on every look-up (milliseconds).
        """
        return dict(self.bridge.hook_dict)

    def hook_points(self) -> list[str]:
        """Every hook point of this model that can be a site, in the order of computation."""
        names = (f"blocks.{i}.{hook}" for i in range(self.n_layers) for hook in SITE_HOOKS)
        return [name for name in names if name in self.points]

    def heads(self, hook: str) -> int | None:
        """Number of heads at a per-head hook point (keys and values may have fewer), else None."""
        self._check(hook)
        name = hook.rsplit(".", 1)[-1]
        if name in ("hook_k", "hook_v"):
            return getattr(self.bridge.cfg, "n_key_value_heads", None) or self.bridge.cfg.n_heads
        return self.bridge.cfg.n_heads if name in ("hook_q", "hook_z") else None

    def d_in(self, hook: str, head: int | None = None) -> int:
        """Width of the activation at a hook point; of one head, if one is named.

        Raises:
            SiteError: if the model has no such hook point or no such head.
        """
        heads = self.heads(hook)
        if heads is None and head is not None:
            raise SiteError(
                f"{hook} has no heads, but head {head} was asked for. Only hook_q, hook_k, hook_v"
                " and hook_z take one: remove the bracket."
            )
        if heads is None:
            return self.d_model
        if head is not None and not 0 <= head < heads:
            raise SiteError(f"{hook} has heads 0 to {heads - 1}, but head {head} was asked for.")
        return self.bridge.cfg.d_head * (heads if head is None else 1)

    def _check(self, hook: str) -> None:
        if hook not in self.points or hook.split(".", 2)[-1] not in SITE_HOOKS:
            raise SiteError(
                unknown(
                    f"hook point of {self.name}",
                    hook,
                    (name for name in self.hook_points() if name.startswith("blocks.0.")),
                    f"The model has blocks 0 to {self.n_layers - 1}.",
                )
            )


def load_model(name: str, *, device: str = "auto", dtype: str = "float32") -> LanguageModel:
    """Loads `demo` (the bundled model), a Hugging Face directory, or a model from the hub.

    Raises:
        ModelError: if it is absent, damaged, unreachable or not a decoder-only language model.
        OptionError: for an unknown dtype or an absent device.
    """
    if dtype not in DTYPES:
        raise OptionError(unknown("dtype", dtype, DTYPES))
    where, kind = find_device(device), DTYPES[dtype]
    path = _source(name)
    with _quiet():
        hf_model, tokenizer = _load_pretrained(name, path, kind)
        digest = _digest(hf_model.state_dict())
        bridge = _bridge(name, path, hf_model, tokenizer, where, kind)
    return LanguageModel(name, bridge, tokenizer, digest, where, kind)


def find_device(device: str) -> torch.device:
    """The device of that name; `auto` is a GPU if there is one.

    Raises:
        OptionError: if it is unknown or absent.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        where = torch.device(device)
    except RuntimeError as error:
        raise OptionError(
            f"Unknown device {device!r}. Expected auto, cpu, cuda or cuda:N."
        ) from error
    if where.type == "cuda":
        if not torch.cuda.is_available():
            raise OptionError(
                f"Device {device!r} was asked for, but torch sees no CUDA GPU. Use --device cpu."
            )
        # a result must not depend on a default that trades digits for speed
        torch.backends.cuda.matmul.allow_tf32 = False
    return where


def _source(name: str) -> str:
    """The local directory of a model, or the hub name unchanged."""
    if name == "demo":
        path = DEMO
    elif Path(name).expanduser().is_dir():
        path = Path(name).expanduser()
    elif name.startswith((".", "/", "~")) or Path(name).exists():
        raise ModelError(
            f"{name} is not a directory. Expected 'demo', a Hugging Face model directory, or a"
            " model's name on the hub such as 'gpt2'."
        )
    else:
        _probe(name)
        return name
    if not (path / "config.json").is_file():
        raise ModelError(
            f"{path} holds no config.json, so it is not a Hugging Face model directory. Save one"
            " with model.save_pretrained(DIR) and tokenizer.save_pretrained(DIR)."
        )
    if not any((path / file).is_file() for file in TOKENIZER_FILES):
        # transformers would make up a tokenizer without words
        raise ModelError(
            f"{path} holds no tokenizer. Expected one of {', '.join(TOKENIZER_FILES)} beside"
            " config.json: save the model's tokenizer with tokenizer.save_pretrained(DIR)."
        )
    return str(path)


def _probe(name: str) -> None:
    """Asks the hub once about a model that is not cached; the loaders would retry for a minute."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        if not isinstance(try_to_load_from_cache(name, "config.json"), str):
            HfApi().model_info(name, timeout=10)
    except Exception as error:  # whatever the network stack raises, it is passed on
        raise ModelError(_unloadable(name, local=False, error=error)) from error


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
        raise ModelError(_unloadable(name, local, error)) from error
    absent = sorted(report["missing_keys"]) + sorted(k[0] for k in report["mismatched_keys"])
    if absent:
        raise ModelError(
            f"The weights of {name} lack {len(absent)} tensors that its config.json asks for"
            f" (first: {absent[0]}), and random numbers would stand in for them."
            " Expected a complete causal language model: save or download it again."
        )
    return model, tokenizer


def _unloadable(name: str, local: bool, error: Exception) -> str:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    if local:
        return (
            f"The model directory {name} cannot be loaded: {first}. Expected config.json, weights"
            " and tokenizer files of a causal language model, as save_pretrained writes them."
        )
    return (
        f"Model {name!r} is neither 'demo' nor a directory here, and the hub did not deliver it:"
        f" {first}. Check the spelling and the connection, log in if the model is gated, or pass"
        " a local directory."
    )


def _bridge(
    name: str,
    path: str,
    hf_model: Any,
    tokenizer: Any,
    device: torch.device,
    dtype: torch.dtype,
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
