"""The language model in two halves: up to the site, and behind it.

Both are the Hugging Face model's own modules, called in order; interventions need no hooks then.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from saebench.planting.spec import PlantSpec

CONTEXT = 32


def new_model(spec: PlantSpec, vocabulary: int) -> Any:
    """A GPT-2 or Llama of the spec's size, with random weights from its seed."""
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(spec.training.seed)
    size = spec.model
    if size.architecture == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=vocabulary,
                n_positions=CONTEXT,
                n_embd=size.d_model,
                n_layer=size.layers,
                n_head=size.heads,
                n_inner=size.mlp * size.d_model,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                bos_token_id=0,
                eos_token_id=0,
            )
        )
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=size.d_model,
            intermediate_size=size.mlp * size.d_model,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            max_position_embeddings=CONTEXT,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
            tie_word_embeddings=True,
        )
    )


class Halves(nn.Module):
    """`before(ids)` is the residual stream entering block `site`, `after(residual)` the logits.

    Prompts are padded on the right, so causal attention needs no further mask.
    """

    def __init__(self, model: Any, site: int) -> None:
        super().__init__()
        self.model, self.site = model, site
        self.gpt2 = hasattr(model, "transformer")

    @property
    def blocks(self) -> Any:
        return self.model.transformer.h if self.gpt2 else self.model.model.layers

    def _run(self, hidden: Float[Tensor, "b t d"], blocks: Any) -> Float[Tensor, "b t d"]:
        if self.gpt2:
            for block in blocks:
                hidden = block(hidden)
            return hidden
        steps = torch.arange(hidden.shape[1], device=hidden.device)[None]
        turn = self.model.model.rotary_emb(hidden, position_ids=steps)
        for block in blocks:
            hidden = block(hidden, position_embeddings=turn)
        return hidden

    def before(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        if self.gpt2:
            inner = self.model.transformer
            hidden = inner.wte(ids) + inner.wpe(torch.arange(ids.shape[1], device=ids.device))
        else:
            hidden = self.model.model.embed_tokens(ids)
        return self._run(hidden, self.blocks[: self.site])

    def after(
        self, hidden: Float[Tensor, "b t d"], at: Int[Tensor, "b"] | None = None
    ) -> Float[Tensor, "*b vocab"]:
        """Logits at every position, or at position `at[i]` of row i alone."""
        hidden = self._run(hidden, self.blocks[self.site :])
        if at is not None:
            hidden = hidden[torch.arange(len(hidden), device=hidden.device), at]
        norm = self.model.transformer.ln_f if self.gpt2 else self.model.model.norm
        return self.model.lm_head(norm(hidden))
