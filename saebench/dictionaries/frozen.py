"""A control between random and trained: a random decoder that stays as it is, an encoder that learns.

*Sanity checks for SAEs* (arXiv 2602.14111) finds that such SAEs come close to fully trained ones on
many metrics. What an SAE scores above this control, its decoder has learned.
"""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.dictionaries.base import Dictionary, Encoding

STEPS, BATCH, LEARNING_RATE = 600, 512, 3e-3


@final
class FrozenDecoder(Dictionary):
    """`codes = topk(relu((a − ā) W_enc + b_enc))` over random unit rows; W_enc and b_enc trained."""

    def __init__(
        self,
        name: str,
        rows: Float[Tensor, "d_sae d_in"],
        encoder: Float[Tensor, "d_in d_sae"],
        bias: Float[Tensor, "d_sae"],
        mean: Float[Tensor, "d_in"],
        k: int,
    ) -> None:
        self.name, self.W_dec, self.k = name, rows, k
        self._encoder, self._bias, self._mean = encoder, bias, mean

    def encode(self, acts: Float[Tensor, "n d_in"]) -> Encoding:
        pre = (acts - self._mean) @ self._encoder + self._bias
        return Encoding(_topk(pre, self.k), self._mean)


def frozen_decoder(
    dictionary: Dictionary, acts: Float[Tensor, "n d_in"], seed: int = 0, steps: int = STEPS
) -> FrozenDecoder:
    """The control for one SAE: as wide, as sparse on `acts` (the fit split), with random rows.

    The encoder is trained on `acts` to reconstruct them, from the transposed rows, with Adam and
    the squared error; the decoder and its offset, the mean, stay. Same seed, same control.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(dictionary.d_sae, dictionary.d_in, generator=generator)
    rows = (rows / rows.norm(dim=1, keepdim=True)).to(acts)
    mean = acts.mean(0)
    # one learning rate suits all sites once activations have norm √d_in
    scale = dictionary.d_in**0.5 / (acts - mean).norm(dim=1).mean().clamp(min=1e-12)
    inner = (acts - mean) * scale
    k = max(1, round(_l0(dictionary, acts)))
    encoder = rows.T.clone().requires_grad_()
    bias = rows.new_zeros(len(rows)).requires_grad_()
    optimizer = torch.optim.Adam([encoder, bias], lr=LEARNING_RATE)
    with torch.enable_grad():
        for _ in range(steps):
            at = torch.randint(len(inner), (min(BATCH, len(inner)),), generator=generator)
            batch = inner[at.to(inner.device)]
            loss = (_topk(batch @ encoder + bias, k) @ rows - batch).square().sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    name = f"control:frozen-decoder:{dictionary.name}"
    return FrozenDecoder(name, rows, encoder.detach(), bias.detach() / scale, mean, k)


def _topk(pre: Float[Tensor, "n d_sae"], k: int) -> Float[Tensor, "n d_sae"]:
    values, at = pre.topk(min(k, pre.shape[1]), dim=1)
    return torch.zeros_like(pre).scatter(1, at, values.relu())


@torch.no_grad()
def _l0(dictionary: Dictionary, acts: Float[Tensor, "n d_in"]) -> float:
    counts = [(dictionary.encode(part).codes != 0).sum() for part in acts.split(1024)]
    return float(torch.stack(counts).sum()) / len(acts)
