"""EleutherAI's sparsify (formerly `sae`): `cfg.json` and `sae.safetensors`.

`codes = topk(relu(W(x − b_dec) + b))`; configs of old versions may say `signed`, which ranks by
magnitude and keeps signs. `W_dec` is stored as rows, unlike `nn.Linear`.
"""

import re
from pathlib import Path
from typing import Any

from saebench.checkpoints.base import Contents, Parts, Weights, only
from saebench.checkpoints.files import read_tensors
from saebench.errors import CheckpointError

_MODULES = {
    "": "hook_resid_post",
    "mlp": "hook_mlp_out",
    "attention": "hook_attn_out",
    "attn": "hook_attn_out",
    "self_attn": "hook_attn_out",
}


def recognise(contents: Contents) -> bool:
    """A config with `d_in`, `k` and a size, beside an encoder and decoder rows."""
    return _config(contents) is not None and bool(_weights(contents))


def load(contents: Contents, architecture: str | None = None) -> Parts:
    """Settings and weights of a sparsify folder.

    Raises:
        CheckpointError: for transcoders, skip connections and activations that no SAE class has.
    """
    weights = only(contents, _weights(contents))
    config = _config(contents) or {}
    if config.get("transcode") or config.get("skip_connection") or weights.has("W_skip"):
        raise CheckpointError(
            f"{contents.path}: a transcoder or a skip connection (transcode"
            f" {config.get('transcode')!r}, skip_connection {config.get('skip_connection')!r})."
            " Edits need a reconstruction of the same activation from latents alone."
        )
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
    hook = _hook(weights.path)
    return Parts(
        {
            "architecture": "abstopk" if config.get("signed") is True else "topk",
            "d_in": config["d_in"],
            "d_sae": _width(contents, config),
            "k": config["k"],
            "apply_b_dec_to_input": True,
        },
        state,
        hook=hook,
        training_architecture="topk",
        metadata={"k": config["k"], "multi_topk": config.get("multi_topk")},
        warnings=(f"hook point {hook} is inferred from the folder's name",) if hook else (),
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


def _hook(path: Path) -> str | None:
    """`layers.5.mlp` in the path is block 5's MLP output; the module's own name says no more."""
    if path.parent.name == "embed_tokens":
        return "hook_embed"
    match = re.search(r"(?:layers|h)[._](\d+)(?:\.(\w+))?$", path.parent.name)
    point = _MODULES.get(match[2] or "") if match else None
    return f"blocks.{match[1]}.{point}" if match and point else None
