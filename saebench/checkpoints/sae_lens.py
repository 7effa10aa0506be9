"""SAELens folders: a config and safetensors, as versions 4 to 6 write them.

Configs from before 6.0 are brought to today's form by SAELens' own rules. Checkpoints of training
classes (batchtopk, matryoshka) become what SAELens would save for inference.
"""

import warnings
from typing import Any

import torch
from torch import Tensor

from saebench.checkpoints.base import Contents, Parts, Weights, only, reading
from saebench.checkpoints.building import VECTORS
from saebench.checkpoints.files import read_tensors
from saebench.errors import CheckpointError

_METADATA = {
    "model_name",
    "hook_name",
    "hook_head_index",
    "hook_name_out",
    "prepend_bos",
    "context_size",
    "dataset_path",
    "sae_lens_version",
    "sae_lens_training_version",
    "training_architecture",
    "training_architecture_details",
    "neuronpedia_id",
    "model_class_name",
    "model_from_pretrained_kwargs",
    "seqpos_slice",
    "exclude_special_tokens",
    "l0",
    "saebench_task",
    "saebench_task_sha256",
}
# A config of SAELens has d_in and one of these; sparsify's has d_in and neither.
_OWN = ("d_sae", "architecture", "hook_name", "hook_point", "activation_fn_str")
_TRAINING_ONLY = {"batchtopk", "matryoshka_batchtopk"}


def recognise(contents: Contents) -> bool:
    """A config with `d_in` and SAELens' own keys, beside safetensors with `W_dec` and `b_dec`."""
    return _config(contents) is not None and bool(_weights(contents))


def load(contents: Contents, architecture: str | None = None) -> Parts:
    """Settings and weights of a SAELens folder.

    Raises:
        CheckpointError: if config and weights cannot be read together.
    """
    weights = only(contents, _weights(contents))
    raw = _config(contents) or {}
    state = read_tensors(weights)
    with reading(contents.path, "reading its config"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = _defaulted(raw)
    metadata = config.pop("metadata", None) or {}
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{contents.path}: metadata is {metadata!r}; expected an object.")
    metadata = {k: v for k, v in metadata.items() if k in _METADATA}
    _refuse_second_hook(contents, metadata)
    folded: list[str] = []
    notes: list[str] = []
    trained = metadata.get("training_architecture") or config.get("architecture")
    if config.get("architecture") in _TRAINING_ONLY:
        _to_inference(config, state, folded)
    _fold_finetuning(state, folded)
    if "log_threshold" in state:
        state["threshold"] = state.pop("log_threshold").exp()
    if config.get("architecture") in VECTORS:
        notes += _drop_unknown(config, state)
    return Parts(
        config,
        state,
        hook=_hook(metadata),
        model_name=_text(metadata.get("model_name")),
        training_architecture=_text(trained),
        metadata=metadata,
        folded=tuple(folded),
        warnings=tuple(notes),
        factor=_factor(contents, config),
        whitening=_whitening(contents, config),
    )


def _config(contents: Contents) -> dict[str, Any] | None:
    for config in contents.configs.values():
        if "d_in" in config and any(key in config for key in _OWN):
            return config
    return None


def _weights(contents: Contents) -> tuple[Weights, ...]:
    return tuple(w for w in contents.having("W_dec", "b_dec") if w.kind == "safetensors")


def _defaulted(raw: dict[str, Any]) -> dict[str, Any]:
    """The config in the form of 6.x."""
    from sae_lens.loading.pretrained_sae_loaders import handle_config_defaulting

    if not isinstance(raw.get("metadata", {}), dict):
        raise ValueError(f"metadata is {raw['metadata']!r}")
    if raw.get("architecture") in _TRAINING_ONLY or "transcoder" in str(raw.get("architecture")):
        return dict(raw)
    return dict(handle_config_defaulting(dict(raw)))


def _refuse_second_hook(contents: Contents, metadata: dict[str, Any]) -> None:
    out = metadata.get("hook_name_out")
    if out not in (None, "", metadata.get("hook_name")):
        raise CheckpointError(
            f"{contents.path}: it reads {metadata.get('hook_name')} and writes {out}: a transcoder."
            " Edits here replace an activation by a reconstruction of the same activation."
        )


def _hook(metadata: dict[str, Any]) -> str | None:
    hook, head = _text(metadata.get("hook_name")), metadata.get("hook_head_index")
    return f"{hook}[{head}]" if hook and type(head) is int else hook


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _to_inference(config: dict[str, Any], state: dict[str, Tensor], folded: list[str]) -> None:
    """A batchtopk training checkpoint as the JumpReLU SAE that SAELens saves for inference."""
    if "topk_threshold" not in state:
        raise ValueError("a training checkpoint without topk_threshold")
    threshold = float(state.pop("topk_threshold"))
    if config.get("rescale_acts_by_decoder_norm", True):
        norm = state["W_dec"].norm(dim=-1).clamp(min=1e-8)
        state["W_enc"] = state["W_enc"] * norm
        state["b_enc"] = state["b_enc"] * norm
        state["W_dec"] = state["W_dec"] / norm[:, None]
        folded.append("decoder norms, into the encoder")
    state["threshold"] = torch.full_like(state["b_enc"], threshold)
    config["architecture"] = "jumprelu"


def _fold_finetuning(state: dict[str, Tensor], folded: list[str]) -> None:
    """Versions up to 5 could multiply codes by a trained factor before decoding."""
    for name in ("finetuning_scaling_factor", "scaling_factor"):
        factor = state.pop(name, None)
        if factor is not None and not torch.allclose(factor.float(), torch.ones(1)):
            state["W_dec"] = state["W_dec"] * factor[:, None]
            folded.append("finetuning scaling factor, into the decoder")


def _drop_unknown(config: dict[str, Any], state: dict[str, Tensor]) -> list[str]:
    """Takes tensors out that the architecture has no use for, and says so."""
    known = {"W_enc", "W_dec", "b_dec", *VECTORS[config["architecture"]]}
    temporal = config["architecture"] == "temporal"
    extra = [k for k in state if k not in known and not (temporal and k.startswith("attn_layers"))]
    if config["architecture"] == "matching_pursuit" and "W_enc" in state:
        extra.append("W_enc")
    for name in extra:
        del state[name]
    return [f"ignored tensors: {', '.join(sorted(extra))}"] if extra else []


def _whitening(contents: Contents, config: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor] | None:
    """The whitening that a SAELens trainer writes beside its checkpoints, where it is wanted."""
    names = ("mean", "matrix", "inverse_matrix")
    beside = contents.having(*names)
    if config.get("normalize_activations") != "covariance_whitening" or len(beside) != 1:
        return None
    tensors = read_tensors(beside[0])
    return tensors["mean"], tensors["matrix"], tensors["inverse_matrix"]


def _factor(contents: Contents, config: dict[str, Any]) -> float | None:
    """The input scale that a SAELens trainer writes beside its checkpoints."""
    beside = contents.config("scaling_factor")
    value = beside and beside["scaling_factor"]
    if config.get("normalize_activations") != "expected_average_only_in" or value is None:
        return None
    if not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise CheckpointError(f"{contents.path}: scaling_factor is {value!r}; expected a number > 0.")
    return float(value)
