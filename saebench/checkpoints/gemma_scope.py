"""Gemma Scope: `params.npz` (Lieberum et al. 2024, arXiv 2408.05147); version 2's safetensors.

`codes = pre · [pre > threshold]`, `pre = relu(x W_enc + b_enc)`; `b_dec` is not subtracted first.
"""

import re

from saebench.checkpoints.base import Contents, Parts, Weights, only
from saebench.checkpoints.files import read_tensors
from saebench.errors import CheckpointError

_NAMES = ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")
_PLACES = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}


def recognise(contents: Contents) -> bool:
    """An npz with the five arrays, or safetensors with `w_enc` and `w_dec` in lower case."""
    return bool(_weights(contents))


def load(contents: Contents, architecture: str | None = None) -> Parts:
    """Settings and weights of a Gemma Scope SAE.

    Raises:
        CheckpointError: for transcoders.
    """
    weights = only(contents, _weights(contents))
    raw = {_upper(name): value for name, value in read_tensors(weights).items()}
    path = str(weights.path.resolve())
    if {"W_skip", "affine_skip_connection"} & raw.keys() or re.search(r"transcoder|clt", path):
        raise CheckpointError(
            f"{contents.path}: a transcoder (a skip connection, or its path says so). Edits need a"
            " reconstruction of the same activation."
        )
    d_in, d_sae = (int(n) for n in raw["W_enc"].shape) if raw["W_enc"].ndim == 2 else (0, 0)
    hook, model, l0 = _facts(path)
    folded = []
    if "gemma-scope" in path and "embedding" in path:
        # trained on embeddings before Gemma multiplies them by √d_in
        raw["W_enc"], raw["W_dec"] = raw["W_enc"] / d_in**0.5, raw["W_dec"] * d_in**0.5
        folded.append("Gemma's embedding scale √d_in")
    return Parts(
        {"architecture": "jumprelu", "d_in": d_in, "d_sae": d_sae, "apply_b_dec_to_input": False},
        {name: raw[name] for name in _NAMES},
        hook=hook,
        model_name=model,
        training_architecture="jumprelu",
        metadata={"target_l0": l0} if l0 else {},
        folded=tuple(folded),
    )


def _weights(contents: Contents) -> tuple[Weights, ...]:
    lower = tuple(_upper(name, back=True) for name in _NAMES)
    npz = (*contents.having(*_NAMES), *contents.having(*lower))
    npz = tuple(w for w in npz if w.kind == "npz")
    return npz + tuple(w for w in contents.having(*lower) if w.kind == "safetensors")


def _upper(name: str, back: bool = False) -> str:
    if name[:2] in ("w_", "W_"):
        return ("w_" if back else "W_") + name[2:]
    return name


def _facts(path: str) -> tuple[str | None, str | None, int | None]:
    """Hook point, model and mean L0, as the published folders spell them, else None."""
    layer = re.search(r"layer_(\d+)", path)
    place = re.search(r"gemma-scope-(\w+)-(pt|it)-(res|mlp|att)", path)
    l0 = re.search(r"average_l0_(\d+)", path)
    hook = f"blocks.{layer[1]}.{_PLACES[place[3]]}" if layer and place else None
    model = f"gemma-2-{place[1]}" + ("-it" if place[2] == "it" else "") if place else None
    return hook, model, int(l0[1]) if l0 else None
