"""Llama Scope (He et al. 2024, arXiv 2410.20526) and what the same tool writes: SAEs of lm-saes.

`codes = pre · [pre · ‖w‖ > θ]`, `pre = s x W_enc + b_enc`, with `s = √d_model / average norm` of the
activations and ‖w‖ the norms of the decoder rows where `sparsity_include_decoder_norm` says so. The
thresholds of `hyperparams.json` are in units of activation, those of the newer `config.json`
(`log_jumprelu_threshold`) in those of the scaled input. `b_dec` is not subtracted first.
"""

import math
from typing import Any

import torch
from torch import Tensor

from saebench.checkpoints.base import Contents, Parts, Weights, only, reading
from saebench.checkpoints.files import read_tensors
from saebench.checkpoints.settings import ignored, not_understood
from saebench.errors import CheckpointError
from saebench.site import hook_point

_LINEAR = ("encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias")
_THRESHOLD = "log_jumprelu_threshold"
_UNDERSTOOD = {
    "act_fn",
    "d_model",
    "d_sae",
    "dataset_average_activation_norm",
    "hook_point_in",
    "hook_point_out",
    "jump_relu_threshold",
    "norm_activation",
    "sparsity_include_decoder_norm",
    "top_k",
    "use_decoder_bias",
    "apply_decoder_bias_to_pre_encoder",
    "use_glu_encoder",
    "expansion_factor",
    "sae_type",
    "norm_activation_scale",
}


def describes(contents: Contents) -> bool:
    """A config with `hook_point_in`, `hook_point_out` and `d_model`."""
    return _config(contents) is not None


def recognise(contents: Contents) -> bool:
    """Such a config beside two linear layers."""
    return describes(contents) and bool(_weights(contents))


def load(contents: Contents, architecture: str | None = None) -> Parts:
    """Settings and weights of a Llama Scope SAE or transcoder.

    Raises:
        CheckpointError: for settings that no dictionary here has, or an input scale that is missing.
    """
    config = _config(contents) or {}
    weights = only(contents, _weights(contents))
    raw = read_tensors(weights)
    _refuse(contents, config)
    read, write = (hook_point(str(config[f"hook_point_{end}"])) for end in ("in", "out"))
    kind = str(config.get("act_fn", "jumprelu")).lower()
    settings: dict[str, Any] = {"architecture": "standard" if kind == "relu" else kind}
    settings["apply_b_dec_to_input"] = config.get("apply_decoder_bias_to_pre_encoder") is True
    with reading(weights.path, "reading it as Llama Scope"):
        state = {
            "W_enc": raw["encoder.weight"].T,
            "W_dec": raw["decoder.weight"].T,
            "b_enc": raw["encoder.bias"],
            "b_dec": raw["decoder.bias"]
            if "decoder.bias" in raw
            else torch.zeros(len(raw["decoder.weight"])),
        }
        settings["d_sae"], settings["d_in"] = (int(n) for n in raw["encoder.weight"].shape)
        factor = _factor(contents, config)
        if settings["architecture"] == "jumprelu":
            state["threshold"] = _threshold(contents, config, raw, state["W_dec"], factor)
        if settings["architecture"] == "topk":
            settings["k"] = config.get("top_k")
        if read != write:
            _fold_scales(contents, config, state, factor)
            factor = None
    if read != write:
        settings["normalize_activations"] = "none"
    elif config.get("norm_activation", "dataset-wise") == "dataset-wise":
        settings["normalize_activations"] = "expected_average_only_in"
    elif config["norm_activation"] == "token-wise":
        settings["normalize_activations"] = "constant_norm_rescale"
    published = weights.origin.published(
        r"Llama3_1-8B-Base-L\d+\w+-\d+x|Llama3_1-8B-Base-LX\w+-\d+x|Llama-Scope-.*"
    )
    return Parts(
        settings,
        state,
        hook=write,
        model_name="meta-llama/Llama-3.1-8B" if published else None,
        training_architecture=settings["architecture"],
        metadata={"k": config.get("top_k")} if settings["architecture"] == "topk" else {},
        folded=("input and output scale, into encoder and decoder",) if read != write else (),
        warnings=(*not_understood(config, _UNDERSTOOD), *ignored(raw.keys() - {*_LINEAR, _THRESHOLD})),
        factor=factor,
        reads=read if read != write else None,
        transcodes=read != write,
    )


def _config(contents: Contents) -> dict[str, Any] | None:
    return contents.config("hook_point_in", "hook_point_out", "d_model")


def _weights(contents: Contents) -> tuple[Weights, ...]:
    return contents.having(*_LINEAR[:3])


def _refuse(contents: Contents, config: dict[str, Any]) -> None:
    """What changes the function and cannot be honoured."""
    reason = None
    if config.get("use_glu_encoder"):
        reason = "an encoder with a gate of its own (use_glu_encoder)"
    elif config.get("sae_type", "sae") not in ("sae", "transcoder"):
        reason = f"a {config['sae_type']}, which reads or writes at several places"
    elif config.get("norm_activation", "dataset-wise") == "batch-wise":
        reason = "activations scaled by their batch, so that codes depend on what else is encoded"
    elif str(config.get("act_fn", "jumprelu")).lower() not in ("relu", "jumprelu", "topk"):
        reason = f"activation {config['act_fn']!r}"
    elif config.get("act_fn") == "topk" and config.get("sparsity_include_decoder_norm"):
        reason = "topk by decoder norms, which is read for JumpReLU only"
    if reason:
        raise CheckpointError(f"{contents.path}: {reason} cannot be scored. relu, jumprelu and topk can.")


def _factor(contents: Contents, config: dict[str, Any]) -> float | None:
    """√d_model over the average norm that the config gives; None leaves it to be measured."""
    norms = config.get("dataset_average_activation_norm")
    if not isinstance(norms, dict) or config.get("norm_activation", "dataset-wise") != "dataset-wise":
        return None
    norm = norms.get("in", norms.get(config["hook_point_in"]))
    if not isinstance(norm, int | float) or not 0 < norm < math.inf or not isinstance(config["d_model"], int):
        raise CheckpointError(
            f"{contents.path}: dataset_average_activation_norm is {norms!r}; expected numbers > 0."
        )
    return config["d_model"] ** 0.5 / norm


def _fold_scales(
    contents: Contents, config: dict[str, Any], state: dict[str, Tensor], factor: float | None
) -> None:
    """A transcoder's two scales: √d_model over the average norms of what it reads and of what it writes."""
    norms = config.get("dataset_average_activation_norm")
    out = norms.get("out", norms.get(config["hook_point_out"])) if isinstance(norms, dict) else None
    if factor is None or not isinstance(out, int | float) or not 0 < out < math.inf:
        raise CheckpointError(
            f"{contents.path}: a transcoder whose average norms of input and output are {norms!r}; it needs both."
        )
    scale = out / config["d_model"] ** 0.5
    state["W_enc"] = state["W_enc"] * factor
    state["W_dec"], state["b_dec"] = state["W_dec"] * scale, state["b_dec"] * scale


def _threshold(
    contents: Contents, config: dict[str, Any], raw: dict[str, Tensor], rows: Tensor, factor: float | None
) -> Tensor:
    """What a latent's pre-activation has to exceed."""
    if _THRESHOLD in raw:
        threshold = raw[_THRESHOLD].exp()
    else:
        value = config.get("jump_relu_threshold")
        if not isinstance(value, int | float) or factor is None:
            raise CheckpointError(
                f"{contents.path}: jump_relu_threshold is {value!r} and the average norm of activations"
                f" {config.get('dataset_average_activation_norm')!r}; a threshold needs both."
            )
        threshold = torch.full((len(rows),), float(value) * factor)
    # [pre · ‖w‖ > θ] is [pre > θ / ‖w‖]
    return threshold / rows.norm(dim=1) if config.get("sparsity_include_decoder_norm") else threshold
