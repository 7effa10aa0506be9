"""Layouts of single laboratories that say what they are by a config or by the repository's name.

- Qwen Scope: `layerN.sae.pt` in a repository named `SAE-Res-MODEL-W32K-L0_50`; `topk` of
  `x W_encᵀ + b_enc`, `b_dec` is not subtracted.
- BatchTopK (Bussmann, Leask and Nanda 2024, arXiv 2412.06410): `sae.pt` and `config.json`;
  `b_dec` is subtracted, `input_unit_norm` is a layer norm of every activation.
- e2e_sae (Braun et al. 2024, arXiv 2405.12241): `HOOK.encoder.0.weight`; relu, nothing subtracted, decoder
  columns normalised whenever they are used.
- Temporal SAEs (Lubana et al. 2025): refused, since a code depends on the activations before it.
"""

import re
from typing import Any

from torch import Tensor

from saebench.checkpoints.base import Contents, Parts, only, reading
from saebench.checkpoints.files import read_tensors
from saebench.checkpoints.settings import ignored, not_understood
from saebench.dictionaries.sae import TEMPORAL
from saebench.errors import CheckpointError, unknown
from saebench.site import hook_point

_FOUR = ("W_enc", "b_enc", "W_dec", "b_dec")
_QWEN = r"SAE-Res-(?P<model>.+)-W(?P<width>\d+)K-L0_(?P<k>\d+)"
_E2E = ("encoder.0.weight", "encoder.0.bias", "decoder.weight", "decoder.bias")


def is_qwen(contents: Contents) -> bool:
    """Four matrices and vectors below a folder that has Qwen Scope's name."""
    return bool(contents.having(*_FOUR)) and not contents.configs and _qwen(contents) is not None


def load_qwen(contents: Contents, architecture: str | None = None) -> Parts:
    """Settings and weights of a Qwen Scope SAE.

    Raises:
        CheckpointError: if the weights are not of the width that the name gives.
    """
    weights = only(contents, contents.having(*_FOUR))
    name = _qwen(contents)
    assert name is not None
    raw = read_tensors(weights)
    with reading(weights.path, "reading it as Qwen Scope"):
        d_sae, d_in = (int(n) for n in raw["W_enc"].shape)
    layer = weights.origin.last(r"layer(\d+)\.sae\.pt")
    known = {"W_enc": raw["W_enc"].T, "W_dec": raw["W_dec"].T, "b_enc": raw["b_enc"], "b_dec": raw["b_dec"]}
    return Parts(
        {
            "architecture": "topk",
            "d_in": d_in,
            "d_sae": d_sae,
            "k": int(name["k"]),
            "apply_b_dec_to_input": False,
        },
        known,
        hook=f"blocks.{layer[1]}.hook_resid_post" if layer else None,
        model_name=f"Qwen/{name['model']}",
        training_architecture="topk",
        metadata={"k": int(name["k"])},
        warnings=("k and model are those of the repository's name", *ignored(raw.keys() - {*_FOUR})),
    )


def _qwen(contents: Contents) -> re.Match[str] | None:
    published = contents.origin.published(_QWEN)
    return published and published.repository


def describes_batch_topk(contents: Contents) -> bool:
    """A config with `sae_type`, `act_size` and `dict_size`."""
    return contents.config("sae_type", "act_size", "dict_size") is not None


def is_batch_topk(contents: Contents) -> bool:
    """Such a config beside the four."""
    return describes_batch_topk(contents) and bool(contents.having(*_FOUR))


_BATCH_TOPK = {"vanilla": "standard", "topk": "topk", "batchtopk": "batchtopk", "jumprelu": "jumprelu"}
_UNDERSTOOD = {
    "sae_type",
    "act_size",
    "dict_size",
    "top_k",
    "hook_point",
    "site",
    "layer",
    "input_unit_norm",
    "model_name",
    "top_k_aux",
    "bandwidth",
    "use_pre_enc_bias",
    "activation_dim",
}


def load_batch_topk(contents: Contents, architecture: str | None = None) -> Parts:
    """Settings and weights of an SAE of the BatchTopK repository.

    Raises:
        CheckpointError: for another kind, or a batch's selection without the threshold that replaces it.
    """
    config = contents.config("sae_type", "act_size", "dict_size") or {}
    weights = only(contents, contents.having(*_FOUR))
    kind = str(config["sae_type"])
    if kind not in _BATCH_TOPK:
        raise CheckpointError(f"{contents.path}: {unknown('sae_type', kind, _BATCH_TOPK)}")
    raw = read_tensors(weights)
    state: dict[str, Tensor] = {name: raw[name] for name in _FOUR}
    notes = not_understood(config, _UNDERSTOOD)
    inference = _BATCH_TOPK[kind]
    settings: dict[str, Any] = {
        "apply_b_dec_to_input": kind != "jumprelu" or config.get("use_pre_enc_bias") is True
    }
    if kind in ("topk", "batchtopk") and bool(raw["b_enc"].any()):
        notes.append("b_enc is not 0, and the tool does not add it for this kind: left out")
    if kind in ("topk", "batchtopk"):
        state["b_enc"] = raw["b_enc"] * 0
    if "input_unit_norm" not in config:
        notes.append("input_unit_norm is not in the config: taken as true, the tool's default")
    threshold = raw.get("threshold", raw.get("jumprelu.log_threshold"))
    if kind == "jumprelu" and "jumprelu.log_threshold" in raw:
        threshold = raw["jumprelu.log_threshold"].exp()
    if kind == "batchtopk" and threshold is None:
        inference = "topk"
        notes.append(
            f"batchtopk without a threshold in the file: read as topk of {config.get('top_k')!r} for every"
            " activation, where training chose among the batch's"
        )
    elif kind in ("batchtopk", "jumprelu"):
        inference, state["threshold"] = "jumprelu", threshold if threshold is not None else raw["threshold"]
    if inference == "topk":
        settings["k"] = config.get("top_k")
    with reading(weights.path, "reading it as the BatchTopK repository's"):
        settings["d_in"], settings["d_sae"] = (int(n) for n in raw["W_enc"].shape)
    if config.get("input_unit_norm", True):
        settings["normalize_activations"] = "layer_norm"
    hook = config.get("hook_point")
    return Parts(
        {"architecture": inference, **settings},
        state,
        hook=hook_point(hook) if isinstance(hook, str) and hook else None,
        model_name=config.get("model_name") if isinstance(config.get("model_name"), str) else None,
        training_architecture=kind,
        metadata={"k": config.get("top_k")},
        warnings=(
            *notes,
            *ignored(raw.keys() - {*_FOUR, "threshold", "num_batches_not_active", "jumprelu.log_threshold"}),
        ),
    )


def is_e2e(contents: Contents) -> bool:
    """A sequence of a linear layer and a relu as encoder."""
    return bool(contents.having(*_E2E))


def load_e2e(contents: Contents, architecture: str | None = None) -> Parts:
    """Settings and weights of one SAE that e2e_sae trained; its hook point is its tensors' prefix."""
    weights = only(contents, contents.having(*_E2E))
    raw = read_tensors(weights)
    with reading(weights.path, "reading it as e2e_sae's"):
        rows = raw["decoder.weight"].T
        norm = rows.norm(dim=1, keepdim=True)
        d_sae, d_in = (int(n) for n in raw["encoder.0.weight"].shape)
    named = re.search(r"blocks[-.]\d+[-.]\w+(?:[-.]\w+)*$", weights.prefix.rstrip("."))
    config = contents.config("saes") or {}
    model = config.get("tlens_model_name")
    return Parts(
        {"architecture": "standard", "d_in": d_in, "d_sae": d_sae, "apply_b_dec_to_input": False},
        {
            "W_enc": raw["encoder.0.weight"].T,
            "b_enc": raw["encoder.0.bias"],
            "W_dec": rows / norm.clamp(min=1e-12),
            "b_dec": raw["decoder.bias"],
        },
        hook=named[0].replace("-", ".") if named else None,
        model_name=model if isinstance(model, str) else None,
        training_architecture="standard",
        folded=("decoder rows brought to norm 1, as the tool does whenever it decodes",),
        warnings=tuple(ignored(raw.keys() - {*_E2E})),
    )


def describes_temporal(contents: Contents) -> bool:
    """A `conf.yaml` with the sections `llm` and `sae`."""
    config = contents.config("llm", "sae")
    return config is not None and isinstance(config["sae"], dict) and "n_attn_layers" in config["sae"]


def is_temporal(contents: Contents) -> bool:
    """Such a config, or attention layers beside a decoder `D`."""
    attends = any(any(name.startswith("attn_layers.") for name in w.tensors) for w in contents.weights)
    return describes_temporal(contents) or (attends and bool(contents.having("D", "b")))


def load_temporal(contents: Contents, architecture: str | None = None) -> Parts:
    """Never loads.

    Raises:
        CheckpointError: always, with the reason.
    """
    raise CheckpointError(f"{contents.path}: {TEMPORAL}")
