"""The published formulas of SAEs, example by example and latent by latent, without the loader."""

import torch
from sae_files import D_SAE
from torch import Tensor


def pre(x: Tensor, w: dict[str, Tensor], subtract: bool = True) -> Tensor:
    centred = x - w["b_dec"] if subtract else x
    return torch.stack([centred @ w["W_enc"][:, j] + w["b_enc"][j] for j in range(D_SAE)])


def relu(values: Tensor) -> Tensor:
    return torch.tensor([max(0.0, float(v)) for v in values])


def largest(values: Tensor, k: int, by_magnitude: bool = False) -> Tensor:
    keys = [abs(float(v)) if by_magnitude else float(v) for v in values]
    kept = sorted(range(len(keys)), key=lambda j: -keys[j])[:k]
    return torch.tensor([float(values[j]) if j in kept else 0.0 for j in range(len(keys))])


def standard(x: Tensor, w: dict[str, Tensor], subtract: bool = True) -> Tensor:
    return relu(pre(x, w, subtract))


def topk(x: Tensor, w: dict[str, Tensor], k: int, subtract: bool = True) -> Tensor:
    return relu(largest(pre(x, w, subtract), k))


def abstopk(x: Tensor, w: dict[str, Tensor], k: int) -> Tensor:
    return largest(pre(x, w), k, by_magnitude=True)


def jumprelu(x: Tensor, w: dict[str, Tensor], subtract: bool = False) -> Tensor:
    values = pre(x, w, subtract)
    on = [float(v) > float(t) for v, t in zip(values, w["threshold"], strict=True)]
    return relu(values) * torch.tensor(on).float()


def gated(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    raw = pre(x, {**w, "b_enc": torch.zeros(D_SAE)})
    on = (raw + w["b_gate"] > 0).float()
    return on * relu(w["r_mag"].exp() * raw + w["b_mag"])


def matching_pursuit(x: Tensor, w: dict[str, Tensor], steps: int) -> Tensor:
    """Mallat and Zhang 1993, non-negative: take the row that fits the rest best, subtract it."""
    rest, codes = x - w["b_dec"], torch.zeros(D_SAE)
    for _ in range(steps):
        fits = w["W_dec"] @ rest
        j = int(fits.argmax())
        step = max(0.0, float(fits[j]))
        codes[j] += step
        rest = rest - step * w["W_dec"][j]
    return codes


def decoded(codes: Tensor, w: dict[str, Tensor]) -> Tensor:
    total = w["b_dec"].clone()
    for j in range(D_SAE):
        total = total + codes[j] * w["W_dec"][j]
    return total
