"""Transcoders: dictionaries that read at one hook point and write at another."""

from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.dictionaries.sae import digest_state, fact, hook_of
from saebench.dictionary import Dictionary, Encoding
from saebench.errors import CheckpointError
from saebench.site import hook_point


def canonical_read(hook: str) -> str:
    """The hook point of a transcoder's input: before its norm, an MLP's is the residual stream in mid-block."""
    return hook.replace(".hook_mlp_in", ".hook_resid_mid")


def writes(obj: Any) -> str | None:
    """The hook point that an object says it writes, in TransformerLens' terms."""
    out = fact(obj, "hook_name_out")
    return hook_point(out) if isinstance(out, str) and out else None


@final
class Transcoder(Dictionary):
    """Codes of what is read, decoded to what is written (Dunefsky, Chlenski and Nanda 2024, arXiv 2406.11944).

    `pre = (x − b_in) W_enc + b_enc`, `codes = relu(pre)`, of which JumpReLU keeps those above
    `threshold` and topk the k largest; it writes `codes W_dec + b_dec + x W_skipᵀ`. What the skip
    connection writes belongs to no latent and stands in the offset.
    """

    def __init__(
        self,
        state: dict[str, Tensor],
        name: str,
        architecture: str,
        reads: str,
        k: int | None = None,
        subtracts: bool = False,
    ) -> None:
        """`state` holds W_enc [d_read, d_sae], b_enc, W_dec [d_sae, d_in], b_dec, and for some threshold
        [d_sae] or W_skip [d_in, d_read]; `subtracts` takes b_dec from the input, as SAEs do."""
        self.name, self.architecture, self.reads, self.k, self._subtracts = (
            name,
            architecture,
            reads,
            k,
            subtracts,
        )
        self.state = state
        self.W_dec = state["W_dec"]

    @property
    def d_read(self) -> int:
        """Width of the activations it encodes; `d_in` is that of what it writes."""
        return self.state["W_enc"].shape[0]

    def encode(self, acts: Float[Tensor, "n d_read"]) -> Encoding:
        with torch.set_grad_enabled(acts.requires_grad and torch.is_grad_enabled()):
            state = self.state
            inner = acts - state["b_dec"] if self._subtracts else acts
            pre = inner @ state["W_enc"] + state["b_enc"]
            codes = pre.relu()
            if "threshold" in state:
                codes = codes * (pre > state["threshold"])
            if self.k is not None:
                values, latents = codes.topk(self.k, dim=-1)
                codes = torch.zeros_like(codes).scatter(-1, latents, values)
            skip = acts @ state["W_skip"].T if "W_skip" in state else 0.0
            return Encoding(codes, state["b_dec"] + skip)

    def to(self, device: str, dtype: torch.dtype) -> "Transcoder":
        """The same with weights of one dtype on one device."""
        state = {
            name: value.to(device=device, dtype=dtype).contiguous() for name, value in self.state.items()
        }
        return Transcoder(state, self.name, self.architecture, self.reads or "", self.k, self._subtracts)

    def digest(self) -> str:
        """sha256 of the weights and of the settings that change a code."""
        facts = {"class": "Transcoder", "architecture": self.architecture, "k": self.k}
        facts |= {"reads": self.reads, "subtracts": self._subtracts}
        return digest_state(self.state, facts)

    @classmethod
    def from_saelens(cls, obj: Any, name: str) -> "Transcoder":
        """A SAELens transcoder in memory, as its folder would be read; the weights are its own.

        Raises:
            CheckpointError: if its metadata do not name what it reads and writes, or its input is scaled.
        """
        read, write = hook_of(obj), writes(obj)
        if read is None or write is None:
            raise CheckpointError(
                f"{name} is a transcoder, and its metadata name {read or 'nothing'} as what it reads and"
                f" {write or 'nothing'} as what it writes. Set cfg.metadata.hook_name and cfg.metadata.hook_name_out."
            )
        if obj.cfg.normalize_activations != "none":
            raise CheckpointError(
                f"{name} is a transcoder of activations scaled by {obj.cfg.normalize_activations}; expected none."
            )
        state = {key: value.detach() for key, value in obj.state_dict().items()}
        kind = "jumprelu" if "threshold" in state else "standard"
        skip = "_skip" if "W_skip" in state else ""
        return cls(state, name, kind + skip, canonical_read(read))
