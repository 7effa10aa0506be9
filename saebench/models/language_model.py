"""The language model under study: its tokens, hook points and widths."""

import re
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from saebench.errors import SiteError, unknown
from saebench.models.memory import Budget

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

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


# Where a transcoder may read besides: inputs of an MLP, before and after the norm's gain.
READ_HOOKS = ("ln2.hook_normalized", "ln2.hook_out", "mlp.hook_in")


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A loaded model. `sha256` is the digest of its weights, whatever path they came from."""

    name: str
    bridge: "TransformerBridge" = field(repr=False)
    tokenizer: Any = field(repr=False)
    sha256: str
    device: torch.device
    dtype: torch.dtype
    memory_bytes: int | None = None
    """Memory for patched passes; without a figure a share of what is free."""

    @cached_property
    def budget(self) -> Budget:
        """One budget for everything that runs on the model: several splits, sites and tasks."""
        return Budget.of(self.device, self.memory_bytes, self.d_model)

    @cached_property
    def memo(self) -> dict[Hashable, Any]:
        """What was found out about the model once, by name."""
        return {}

    @property
    def made_from(self) -> list[str]:
        """What its activations follow from, beside the tokens."""
        return [self.sha256, str(self.dtype), self.device.type]

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

    def _of_the_block(self, hook: str) -> list[str]:
        """Hook points of the block that a name asks for, else of the first."""
        match = re.search(r"\d+", hook)
        layer = int(match[0]) if match and int(match[0]) < self.n_layers else 0
        return [name for name in self.hook_points() if name.startswith(f"blocks.{layer}.")]

    def _check(self, hook: str) -> None:
        if hook not in self.points or hook.split(".", 2)[-1] not in (*SITE_HOOKS, *READ_HOOKS):
            raise SiteError(
                unknown(
                    f"hook point of {self.name}",
                    hook,
                    self._of_the_block(hook),
                    f"The model has blocks 0 to {self.n_layers - 1}.",
                )
            )
