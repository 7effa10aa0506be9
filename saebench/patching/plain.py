"""The plain way: every edit is a full forward pass with hooks. Slow, obvious, and the oracle."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.model import LanguageModel
from saebench.patching.capture import by_length
from saebench.patching.placement import Placement, writers


class PlainPass:
    """Patched forward passes of prompts `tokens`, as a TransformerLens user would write them."""

    def __init__(
        self,
        model: LanguageModel,
        tokens: Sequence[Sequence[int]],
        places: Sequence[Placement],
    ) -> None:
        self.model, self.tokens, self.places = model, tokens, places
        self.widths = [model.d_in(place.hook, place.head) for place in places]
        self.groups = list(by_length(tokens).values())

    def logits(
        self, edited: Float[Tensor, "b d_in"], rows: Int[Tensor, "b"]
    ) -> Float[Tensor, "b vocab"]:
        """Logits at the last token of prompts `rows`, all of one of `groups`."""
        batch = torch.tensor([self.tokens[i] for i in rows.tolist()], device=self.model.device)
        hooks = writers(self.places, rows, edited, self.widths)
        return self.model.bridge.run_with_hooks(batch, fwd_hooks=list(hooks))[:, -1]

    def token_logits(
        self,
        edited: Float[Tensor, "b d_in"],
        rows: Int[Tensor, "b"],
        wanted: Int[Tensor, "b k"],
    ) -> Float[Tensor, "b k"]:
        """The logits of a few tokens per row."""
        return self.logits(edited, rows).gather(1, wanted)

    def row_bytes(self, row: int, vocabulary: bool = True) -> int:
        """Roughly the working memory of one edit of prompt `row`."""
        cfg, length = self.model.bridge.cfg, len(self.tokens[row])
        token = 2 * (cfg.d_mlp or 4 * cfg.d_model) + 8 * cfg.d_model + 3 * cfg.n_heads * length
        # every position is unembedded, and the last one is then reduced to log-probabilities
        return 4 * (length * (token + 2 * self.model.d_vocab) + 3 * self.model.d_vocab)
