"""SAELens folders: a config and safetensors, as versions 4 to 6 write them.

Configs from before 6.0 are brought to today's form by SAELens' own rules. Checkpoints of training
classes (batchtopk, matryoshka) become what SAELens would save for inference.
"""

import warnings
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from saebench.checkpoints.base import Contents, Parts, Weights, only, reading
from saebench.checkpoints.building import VECTORS
from saebench.checkpoints.files import read_tensors
from saebench.checkpoints.settings import ignored, not_understood
from saebench.errors import CheckpointError
from saebench.site import hook_point

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
_LEGACY = {
    "activation_fn",
    "activation_fn_str",
    "activation_fn_kwargs",
    "finetuning_scaling_factor",
    "hook_layer",
    "hook_head_index_out",
    "scaling_factor",
    "k",
}
# What TransformerLens can do to a model's weights that moves activations; centring is undone.
_PROCESSING = {"fold_value_biases", "refactor_factored_attn_matrices"}
_TRAINING_ONLY = {"batchtopk", "matryoshka_batchtopk"}


def describes(contents: Contents) -> bool:
    """A config with `d_in` and SAELens' own keys."""
    return _config(contents) is not None


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
    _refuse_activation(contents, raw)
    state = read_tensors(weights)
    with reading(contents.path, "reading its config"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = _defaulted(raw)
    metadata = config.pop("metadata", None) or {}
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{contents.path}: metadata is {metadata!r}; expected an object.")
    # SAELens takes a config without `sae_lens_version` for an old one and leaves its metadata behind
    known = {**(raw.get("metadata") or {}), **{k: v for k, v in metadata.items() if v is not None}}
    metadata = {k: v for k, v in known.items() if k in _METADATA}
    folded: list[str] = []
    understood = {*_fields(config.get("architecture")), *_METADATA, *_LEGACY}
    notes = not_understood(raw, understood) + _model_caveats(metadata)
    reads, writes = _hooks(metadata)
    transcoder = "transcoder" in str(config.get("architecture"))
    if transcoder:
        _to_activation(config)
    trained = metadata.get("training_architecture") or config.get("architecture")
    if config.get("architecture") in _TRAINING_ONLY:
        _to_inference(config, state, folded)
    _fold_finetuning(contents, raw, state, folded)
    if "log_threshold" in state:
        state["threshold"] = state.pop("log_threshold").exp()
    if config.get("architecture") in VECTORS:
        notes += _drop_unknown(config, state, {"W_skip"} if transcoder else set())
    return Parts(
        config,
        state,
        hook=writes,
        model_name=_text(metadata.get("model_name")),
        training_architecture=_text(trained),
        metadata=metadata,
        folded=tuple(folded),
        warnings=tuple(notes),
        factor=_factor(contents, config),
        whitening=_whitening(contents, config),
        reads=reads if reads != writes else None,
        transcodes=transcoder or reads != writes,
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
    # its own name of JumpReLU in configs of other tools
    named = {"architecture": "jumprelu"} if raw.get("architecture") == "jump_relu" else {}
    return dict(handle_config_defaulting({**raw, **named}))


def _fields(architecture: Any) -> set[str]:
    """The settings that SAELens' own class of that architecture takes."""
    from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY

    registries = (SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY)
    classes = [r[architecture][1] for r in registries if isinstance(architecture, str) and architecture in r]
    return {field.name for config in classes for field in fields(config)}


def _refuse_activation(contents: Contents, raw: dict[str, Any]) -> None:
    """Old configs name the activation function; another than these must not become a ReLU."""
    named = next((raw[k] for k in ("activation_fn_str", "activation_fn") if raw.get(k) is not None), "relu")
    if named not in ("relu", "topk"):
        raise CheckpointError(
            f"{contents.path}: activation function {named!r}; relu and topk can be read. Wrap the object in"
            " Python instead: anything with encode, decode and W_dec can be scored."
        )
    kwargs = raw.get("activation_fn_kwargs")
    if named == "topk" and isinstance(kwargs, dict) and (odd := {k for k, v in kwargs.items() if v} - {"k"}):
        raise CheckpointError(
            f"{contents.path}: activation function topk with {', '.join(sorted(odd))}, which is not understood."
        )
    if raw.get("architecture", "standard") in ("gated", "jumprelu") and named == "topk":
        raise CheckpointError(
            f"{contents.path}: a {raw['architecture']} SAE with a topk activation cannot be read."
        )


def _model_caveats(metadata: dict[str, Any]) -> list[str]:
    """How the model was loaded in training, where that changes its activations and is not undone here."""
    kwargs = metadata.get("model_from_pretrained_kwargs")
    odd = {k: v for k, v in kwargs.items() if v and k in _PROCESSING} if isinstance(kwargs, dict) else {}
    if not odd:
        return []
    return [f"the model was loaded with {', '.join(sorted(odd))} in training, which is not undone here"]


def _to_activation(config: dict[str, Any]) -> None:
    """A transcoder's architecture as that of its encoder."""
    config["architecture"] = "jumprelu" if "jumprelu" in config["architecture"] else "standard"
    config["apply_b_dec_to_input"] = False


def _hooks(metadata: dict[str, Any]) -> tuple[str | None, str | None]:
    """The hook points it reads and writes, in TransformerLens' terms; a head is part of the first."""
    hook, head = _text(metadata.get("hook_name")), metadata.get("hook_head_index")
    reads = hook_point(hook) if hook else None
    reads = f"{reads}[{head}]" if reads and type(head) is int else reads
    out = _text(metadata.get("hook_name_out"))
    return reads, hook_point(out) if out and out != hook else reads


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


def _fold_finetuning(
    contents: Contents, raw: dict[str, Any], state: dict[str, Tensor], folded: list[str]
) -> None:
    """Versions up to 5 could multiply codes by a trained factor before decoding."""
    if (
        raw.get("finetuning_scaling_factor") is True
        and not {"finetuning_scaling_factor", "scaling_factor"} & state.keys()
    ):
        raise CheckpointError(
            f"{contents.path}: its config says finetuning_scaling_factor true, and no such factor is among the weights."
        )
    for name in ("finetuning_scaling_factor", "scaling_factor"):
        factor = state.pop(name, None)
        if factor is not None and not torch.allclose(factor.float(), torch.ones(1)):
            state["W_dec"] = state["W_dec"] * factor[:, None]
            folded.append("finetuning scaling factor, into the decoder")


def _drop_unknown(config: dict[str, Any], state: dict[str, Tensor], more: set[str]) -> list[str]:
    """Takes tensors out that the architecture has no use for, and says so."""
    known = {"W_enc", "W_dec", "b_dec", *VECTORS[config["architecture"]], *more}
    extra = [k for k in state if k not in known]
    if config["architecture"] == "matching_pursuit" and "W_enc" in state:
        extra.append("W_enc")
    for name in extra:
        del state[name]
    return ignored(extra)


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
