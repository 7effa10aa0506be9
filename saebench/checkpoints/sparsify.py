"""EleutherAI's sparsify (formerly `sae`): `cfg.json` and `sae.safetensors`.

`codes = topk(relu(W(x − b_dec) + b))`; configs of old versions may say `signed`, which ranks by
magnitude and keeps signs. `W_dec` is stored as rows, unlike `nn.Linear`.
"""

import re
from typing import Any

from saebench.checkpoints.base import Contents, Parts, Weights, only
from saebench.checkpoints.files import read_tensors
from saebench.checkpoints.origin import Origin
from saebench.checkpoints.settings import ignored, not_understood
from saebench.errors import CheckpointError
from saebench.site import hook_point

_UNDERSTOOD = {
    "activation",
    "d_in",
    "k",
    "num_latents",
    "expansion_factor",
    "signed",
    "skip_connection",
    "transcode",
    "multi_topk",
    "normalize_decoder",
    "matching_pursuit",
}
_KNOWN = {"encoder.weight", "encoder.bias", "W_dec", "b_dec", "W_skip"}


def describes(contents: Contents) -> bool:
    """A config with `d_in`, `k` and a size."""
    return _config(contents) is not None


def recognise(contents: Contents) -> bool:
    """A config with `d_in`, `k` and a size, beside an encoder and decoder rows."""
    return _config(contents) is not None and bool(_weights(contents))


def load(contents: Contents, architecture: str | None = None) -> Parts:
    """Settings and weights of a sparsify folder.

    Raises:
        CheckpointError: for activations that no SAE class has.
    """
    weights = only(contents, _weights(contents))
    config = _config(contents) or {}
    if config.get("activation", "topk") != "topk" or config.get("matching_pursuit"):
        raise CheckpointError(
            f"{contents.path}: activation {config.get('activation')!r} of sparsify has no"
            " counterpart in SAELens; only topk can be read. Wrap the object in Python instead."
        )
    raw = read_tensors(weights)
    state = {
        "W_enc": raw["encoder.weight"].T,
        "b_enc": raw["encoder.bias"],
        "W_dec": raw["W_dec"],
        "b_dec": raw["b_dec"],
    }
    hook = _hook(weights.origin)
    transcodes = config.get("transcode") is True
    if weights.has("W_skip"):
        state["W_skip"] = raw["W_skip"]
    elif config.get("skip_connection"):
        raise CheckpointError(
            f"{contents.path}: its config says skip_connection, and no W_skip is among the weights."
        )
    # a skip connection without transcoding reads where it writes
    reads = hook.replace("hook_mlp_out", "mlp.hook_in") if hook and transcodes else hook
    return Parts(
        {
            "architecture": "abstopk" if config.get("signed") is True else "topk",
            "d_in": config["d_in"],
            "d_sae": _width(contents, config),
            "k": config["k"],
            "apply_b_dec_to_input": not transcodes,
        },
        state,
        hook=hook,
        training_architecture="topk",
        metadata={"k": config["k"], "multi_topk": config.get("multi_topk")},
        warnings=(
            *([f"hook point {hook} is inferred from the folder's name"] if hook else []),
            *not_understood(config, _UNDERSTOOD),
            *ignored(raw.keys() - _KNOWN),
        ),
        reads=reads if transcodes or weights.has("W_skip") else None,
        transcodes=transcodes or weights.has("W_skip"),
    )


def _config(contents: Contents) -> dict[str, Any] | None:
    for config in contents.configs.values():
        if "d_in" in config and "k" in config and config.keys() & {"expansion_factor", "num_latents"}:
            return config
    return None


def _weights(contents: Contents) -> tuple[Weights, ...]:
    return contents.having("encoder.weight", "encoder.bias", "W_dec", "b_dec")


def _width(contents: Contents, config: dict[str, Any]) -> int:
    """`num_latents`, or `d_in · expansion_factor` where that is 0."""
    d_in, factor, latents = (config.get(k) for k in ("d_in", "expansion_factor", "num_latents"))
    if type(latents) is int and latents > 0:
        return latents
    if type(d_in) is int and type(factor) is int:
        return d_in * factor
    raise CheckpointError(
        f"{contents.path}: num_latents is {latents!r} and expansion_factor {factor!r}; expected"
        " whole numbers that give the number of latents."
    )


def _hook(origin: Origin) -> str | None:
    """`layers.5.mlp` is block 5's MLP output; a seed's folder may stand inside of it."""
    for part in reversed(origin.parts[:-1]):
        if part == "embed_tokens":
            return "hook_embed"
        point = hook_point(part)
        if point != part:
            return point
        if not re.fullmatch(r"seed[-_.]?\d+|best|checkpoints?|step[-_.]?\d+", part):
            return None
    return None
