"""Folders of circuit-tracer: one transcoder of every layer, `layer_N.safetensors` and `config.yaml`.

`codes = relu(x W_encᵀ + b_enc)`, or JumpReLU with `activation_function.threshold`; writes
`codes W_dec + b_dec`, plus `x W_skipᵀ` where there is a skip connection.
"""

import re
from typing import Any

from saebench.checkpoints.base import Contents, Parts, Weights, only, reading
from saebench.checkpoints.files import read_tensors
from saebench.checkpoints.settings import ignored, not_understood
from saebench.errors import CheckpointError
from saebench.site import hook_point

_FOUR = ("W_enc", "b_enc", "W_dec", "b_dec")
_THRESHOLD = "activation_function.threshold"
_UNDERSTOOD = {"model_name", "model_kind", "feature_input_hook", "feature_output_hook", "scan", "transcoders"}


def describes(contents: Contents) -> bool:
    """A config that names where features are read and written."""
    return contents.config("feature_input_hook", "feature_output_hook") is not None


def recognise(contents: Contents) -> bool:
    """Such a config beside weights, or one of a cross-layer transcoder, which is refused."""
    config = contents.config("feature_input_hook", "feature_output_hook") or {}
    return bool(config) and (bool(_weights(contents)) or _crosses(config, contents))


def load(contents: Contents, architecture: str | None = None) -> Parts:
    """Settings and weights of one layer's transcoder.

    Raises:
        CheckpointError: for cross-layer transcoders, several layers at once, or a layer that nothing names.
    """
    config = contents.config("feature_input_hook", "feature_output_hook") or {}
    if _crosses(config, contents):
        raise CheckpointError(
            f"{contents.path}: a cross-layer transcoder: it writes into every layer behind the one it reads."
            " Every score here is taken at one place; score a transcoder of one layer."
        )
    weights = only(contents, _weights(contents))
    layer = re.search(r"(\d+)(?!.*\d)", weights.path.stem)
    if layer is None:
        raise CheckpointError(f"{weights.path}: its name holds no layer's number, as in layer_5.safetensors.")
    raw = read_tensors(weights)
    state = {name: raw[name] for name in _FOUR}
    with reading(weights.path, "reading it as circuit-tracer's"):
        d_sae, d_in = (int(n) for n in raw["W_enc"].shape)
        state["W_enc"] = raw["W_enc"].T
    if _THRESHOLD in raw:
        state["threshold"] = raw[_THRESHOLD]
    if "W_skip" in raw:
        state["W_skip"] = raw["W_skip"]
    read, write = (_hook(config, end, int(layer[1])) for end in ("input", "output"))
    name = config.get("model_name")
    return Parts(
        {
            "architecture": "jumprelu" if _THRESHOLD in raw else "standard",
            "d_in": d_in,
            "d_sae": d_sae,
            "apply_b_dec_to_input": False,
        },
        state,
        hook=write,
        model_name=name if isinstance(name, str) else None,
        training_architecture="transcoder",
        warnings=(
            *not_understood(config, _UNDERSTOOD),
            *ignored(raw.keys() - {*_FOUR, _THRESHOLD, "W_skip"}),
        ),
        reads=read,
        transcodes=True,
    )


def _weights(contents: Contents) -> tuple[Weights, ...]:
    return contents.having(*_FOUR)


def _crosses(config: dict[str, Any], contents: Contents) -> bool:
    return config.get("model_kind") == "cross_layer_transcoder" or any(
        len(info.shape) == 3 for w in contents.weights for info in w.tensors.values()
    )


def _hook(config: dict[str, Any], end: str, layer: int) -> str:
    """`mlp.hook_in` of the layer; a hook that names blocks already takes the layer's number."""
    name = str(config[f"feature_{end}_hook"])
    return hook_point(name.format(layer=layer) if "{layer}" in name else f"blocks.{layer}.{name}")
