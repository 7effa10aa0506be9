"""The plain way: every edit is a full forward pass with hooks. Slow, obvious, and the oracle."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.models.language_model import LanguageModel
from saebench.models.memory import Cost, Scratch
from saebench.patching.placement import Placement, writers
from saebench.patching.sharing import full_pass


class PlainPass:
    """Patched forward passes of prompts `tokens`, as a TransformerLens user would write them."""

    def __init__(
        self, model: LanguageModel, tokens: Sequence[Sequence[int]], places: Sequence[Placement]
    ) -> None:
        self.model, self.tokens, self.places = model, tokens, places
        self.widths = [model.d_in(place.hook, place.head) for place in places]
        self._length = torch.tensor([len(prompt) for prompt in tokens])

    def logits(
        self, edited: Float[Tensor, "em d_in"], rows: Int[Tensor, "m"], scratch: Scratch | None = None
    ) -> Float[Tensor, "em vocab"]:
        """Logits at the last token of prompts `rows`, all of one of `parts`.

        `edited` holds any number of edits of all of them, one edit after the other.
        """
        rows = rows.repeat(len(edited) // len(rows))
        batch = torch.tensor([self.tokens[i] for i in rows.tolist()], device=self.model.device)
        hooks = writers(self.places, rows, edited, self.widths)
        return self.model.bridge.run_with_hooks(batch, fwd_hooks=list(hooks))[:, -1]

    def token_logits(
        self, edited: Float[Tensor, "em d_in"], rows: Int[Tensor, "m"], wanted: Int[Tensor, "em k"]
    ) -> Float[Tensor, "em k"]:
        """The logits of a few tokens per row."""
        return self.logits(edited, rows).gather(1, wanted)

    def parts(self, rows: Int[Tensor, "b"], edits: int = 1) -> Iterator[Int[Tensor, "k"]]:
        """Splits `rows` into prompts of equal length; yields indices into `rows`."""
        length = self._length[rows]
        for one in length.unique():
            yield (length == one).nonzero()[:, 0]

    def cost(self, rows: Int[Tensor, "m"]) -> Cost:
        """What one edit of one of the prompts takes; every token is unembedded."""
        length = int(self._length[rows].max())
        return full_pass(self.model, length, unembedded=length + 1)

    def forget(self) -> None:
        """Nothing is kept between calls."""
