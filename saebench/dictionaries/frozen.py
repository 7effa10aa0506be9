"""Controls between random and trained: a part that stays as it was drawn, a part that learns.

*Sanity checks for SAEs* (arXiv 2602.14111) finds that such SAEs come close to fully trained ones, or match
them, on many metrics. What an SAE scores above its frozen controls, the part that they may not train has
learned.
"""

from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.cache.tensors import cached, digest
from saebench.dictionary import Dictionary, Encoding

STEPS, BATCH, LEARNING_RATE = 600, 512, 3e-3
SOFT = 0.8
"""How close (cosine) the rows of a soft-frozen decoder stay to where they started."""


class Freedom(NamedTuple):
    """What of a frozen control may be trained."""

    name: str
    encoder: bool
    decoder: bool
    cosine: float | None = None
    """Rows keep norm 1 and at least this cosine to where they started; without it they are free."""


FROZEN_DECODER = Freedom("frozen-decoder", encoder=True, decoder=False)
FROZEN_ENCODER = Freedom("frozen-encoder", encoder=False, decoder=True)


def soft_frozen(cosine: float = SOFT) -> Freedom:
    """A decoder that may turn a little: to `cosine` of its start, no further."""
    return Freedom("soft-frozen", encoder=True, decoder=True, cosine=cosine)


@final
class Frozen(Dictionary):
    """`codes = topk(relu((a − ā) W_enc + b_enc))` over rows that began as random unit vectors."""

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


def frozen(
    dictionary: Dictionary,
    acts: Float[Tensor, "n d_in"],
    freedom: Freedom = FROZEN_DECODER,
    seed: int = 0,
    steps: int = STEPS,
    l0: float | None = None,
) -> Frozen:
    """The control for one SAE: as wide, and as sparse on `acts`, which it is trained to reconstruct.

    `l0` is the SAE's own where `acts` are not what it encodes (a transcoder's).

    Rows start as random unit vectors, the encoder as their transpose; Adam, squared error, `steps`
    batches of 512; the offset, the mean, stays. Same seed, same control.
    """
    k = max(1, round(_l0(dictionary, acts) if l0 is None else l0))
    shape = (dictionary.d_sae, dictionary.d_in)

    def make() -> dict[str, Tensor]:
        return _trained(shape, acts, freedom, seed, steps, k)

    parts = [digest(acts), *shape, tuple(freedom), seed, steps, k]
    found = cached("controls", parts, make, acts.device)
    name = f"control:{freedom.name}:{dictionary.name}"
    return Frozen(name, found["rows"], found["encoder"], found["bias"], acts.mean(0), k)


def _trained(
    shape: tuple[int, int], acts: Float[Tensor, "n d_in"], freedom: Freedom, seed: int, steps: int, k: int
) -> dict[str, Tensor]:
    """Rows, encoder and bias of the control."""
    generator = torch.Generator().manual_seed(seed)
    start = _unit(torch.randn(*shape, generator=generator)).to(acts)
    mean = acts.mean(0)
    # one learning rate suits all sites once activations have norm √d_in
    scale = shape[1] ** 0.5 / (acts - mean).norm(dim=1).mean().clamp(min=1e-12)
    inner = (acts - mean) * scale
    encoder, bias, rows = start.T.clone(), start.new_zeros(len(start)), start.clone()
    trained = [encoder, bias] * freedom.encoder + [rows] * freedom.decoder
    for part in trained:
        part.requires_grad_()
    optimizer = torch.optim.Adam(trained, lr=LEARNING_RATE)
    for _ in range(steps):
        at = torch.randint(len(inner), (min(BATCH, len(inner)),), generator=generator)
        batch = inner[at.to(inner.device)]
        with torch.enable_grad():
            loss = (_topk(batch @ encoder + bias, k) @ rows - batch).square().sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        if freedom.cosine is not None:
            with torch.no_grad():
                rows.copy_(_towards(rows, start, freedom.cosine))
    return {"rows": rows.detach(), "encoder": encoder.detach(), "bias": bias.detach() / scale}


def _unit(rows: Float[Tensor, "d_sae d_in"]) -> Float[Tensor, "d_sae d_in"]:
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)


def _towards(
    rows: Float[Tensor, "d_sae d_in"], start: Float[Tensor, "d_sae d_in"], cosine: float
) -> Float[Tensor, "d_sae d_in"]:
    """Each row at norm 1, turned back towards its start as far as the cosine asks."""
    rows = _unit(rows)
    along = (rows * start).sum(1, keepdim=True)
    across = _unit(rows - along * start)
    edge = cosine * start + (1 - cosine**2) ** 0.5 * across
    return torch.where(along >= cosine, rows, edge)


def _topk(pre: Float[Tensor, "n d_sae"], k: int) -> Float[Tensor, "n d_sae"]:
    values, at = pre.topk(min(k, pre.shape[1]), dim=1)
    return torch.zeros_like(pre).scatter(1, at, values.relu())


@torch.no_grad()
def _l0(dictionary: Dictionary, acts: Float[Tensor, "n d_in"]) -> float:
    counts = [(dictionary.encode(part).codes != 0).sum() for part in acts.split(1024)]
    return float(torch.stack(counts).sum()) / len(acts)
