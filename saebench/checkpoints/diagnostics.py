"""What can be said of a dictionary from its weights and some activations, without any task."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.dictionary import Dictionary

MAX_ROWS = 8192
"""Latents whose nearest neighbour is looked for; wider dictionaries are sampled, seeded."""
ROWS_PER_DIMENSION = 5
"""Activations per input dimension that a regression on them needs, training half alone."""


class Measured(NamedTuple):
    """A number, or the reason why there is none."""

    value: float | None
    reason: str | None = None


class Activity(NamedTuple):
    """What codes and reconstructions of given activations look like."""

    l0: float
    """Mean number of non-zero codes."""
    dead: float
    """Share of latents that are zero on every activation given; lower is better."""
    fvu: Measured
    """`Σ‖a − â‖² / Σ‖a − ā‖²`, 0 is best."""
    linear_error: Measured
    """Share of the error's variance that a linear map of the activation predicts (Engels et al.)."""
    linear_error_norm: Measured
    """The same for the error's squared norm."""
    norm_ratio: Measured
    """Median of `‖codes‖₂ / ‖a − b_dec‖₂`; 1 for quasi-orthogonal latents (Lee et al. 2025)."""


@torch.no_grad()
def activity(
    dictionary: Dictionary,
    acts: Float[Tensor, "n d_in"],
    read: Float[Tensor, "n d_read"] | None = None,
    block: int = 1024,
) -> Activity:
    """Measures codes, error and norms, in blocks of activations.

    Engels, Riggs and Tegmark 2024 (arXiv 2410.14670) regress the error vector and its squared norm
    on the activation: what a linear map can predict is not a matter of missing nonlinear features.
    Lee et al. 2025 (arXiv 2503.24277): for quasi-orthogonal unit rows, `‖codes‖₂ ≈ ‖a − b_dec‖₂`;
    rows of another length are counted into their codes. A transcoder encodes `read`.
    """
    active = torch.zeros(dictionary.d_sae, dtype=torch.bool, device=acts.device)
    row_norms = dictionary.W_dec.norm(dim=1)
    errors, ratios, count = [], [], 0
    for part, into in zip(acts.split(block), (acts if read is None else read).split(block), strict=True):
        encoding = dictionary.encode(into)
        on = encoding.codes != 0
        active |= on.any(0)
        count += int(on.sum())
        errors.append(part - dictionary.decode(encoding))
        ratios.append((encoding.codes * row_norms).norm(dim=1) / (part - encoding.offset).norm(dim=1))
    error = torch.cat(errors).double()
    x = acts.double()
    spread = (x - x.mean(0)).square().sum()
    ratio = torch.cat(ratios)
    ratio = ratio[torch.isfinite(ratio)]
    return Activity(
        l0=count / len(acts),
        dead=1 - float(active.double().mean()),
        fvu=_ratio(error.square().sum(), spread, "the activations do not vary"),
        linear_error=predictable(x, error),
        linear_error_norm=predictable(x, error.square().sum(1, keepdim=True)),
        norm_ratio=Measured(float(ratio.median())) if len(ratio) else Measured(None, "no input"),
    )


def predictable(x: Float[Tensor, "n d_in"], y: Float[Tensor, "n m"], seed: int = 0) -> Measured:
    """Share of the variance of `y` that a linear map of `x` (with intercept) predicts, `R²`.

    Least squares on a random half, scored on the other half, so that chance fits nothing:
    `1 − Σ‖y − ŷ‖² / Σ‖y − ȳ‖²`, at most 1, below 0 if the fit is worse than the mean.
    """
    n, d_in = x.shape
    if n < 2 * ROWS_PER_DIMENSION * (d_in + 1):
        need = 2 * ROWS_PER_DIMENSION * (d_in + 1)
        return Measured(None, f"{n} activations; a regression in {d_in} dimensions takes {need}")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).to(x.device)
    fit, held = order[: n // 2], order[n // 2 :]
    mean_x, mean_y = x[fit].mean(0), y[fit].mean(0)
    # the pseudo-inverse, since residual streams can have directions that never vary
    weights = torch.linalg.pinv(x[fit] - mean_x) @ (y[fit] - mean_y)
    missed = (y[held] - mean_y - (x[held] - mean_x) @ weights).square().sum()
    spread = (y[held] - y[held].mean(0)).square().sum()
    share = _ratio(missed, spread, "there is no error to predict")
    return share if share.value is None else Measured(1 - share.value)


def nearest_neighbours(rows: Float[Tensor, "d_sae d_in"], block: int = 1024) -> Float[Tensor, "m"]:
    """`|cos|` of each decoder row with the row most like it, in [0, 1]; near 1 is a duplicate.

    Rows of norm 0 have no direction and are left out. Of more than `MAX_ROWS` rows a seeded sample
    is compared with all; never more than `block` × d_sae cosines exist at once.
    """
    norms = rows.norm(dim=1)
    unit = rows[norms > 0] / norms[norms > 0, None]
    if len(unit) < 2:
        return unit.new_empty(0)
    chosen = torch.arange(len(unit), device=rows.device)
    if len(unit) > MAX_ROWS:
        generator = torch.Generator().manual_seed(0)
        chosen = torch.randperm(len(unit), generator=generator)[:MAX_ROWS].sort().values
        chosen = chosen.to(rows.device)
    found = []
    for part in chosen.split(block):
        cosines = (unit[part] @ unit.T).abs()
        cosines[torch.arange(len(part), device=rows.device), part] = -1
        found.append(cosines.max(1).values.clamp(max=1))
    return torch.cat(found)


def _ratio(top: Float[Tensor, ""], bottom: Float[Tensor, ""], otherwise: str) -> Measured:
    # an error of rounding size has no variance worth explaining
    return Measured(float(top / bottom)) if float(bottom) > 1e-12 else Measured(None, otherwise)
