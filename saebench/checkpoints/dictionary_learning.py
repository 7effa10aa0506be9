"""The `dictionary_learning` library: `ae.pt` and `config.json`.

Formulas, with `x` the activation, `W` the encoder and `b` its bias (github.com/saprmarks/
dictionary_learning, `dictionary.py` and `trainers/`):

- AutoEncoder: `relu(W(x − bias) + b)`, decoded plus `bias`; AutoEncoderNew does not subtract.
- GatedAutoEncoder: `[W(x − b_dec) + b_gate > 0] · relu(exp(r_mag) · W(x − b_dec) + b_mag)`.
- AutoEncoderTopK: the k largest of `relu(W(x − b_dec) + b)` of every example.
- BatchTopKSAE, MatryoshkaBatchTopKSAE: `relu(W(x − b_dec) + b)` where it exceeds one threshold.
- JumpReluAutoEncoder: `relu(Wx + b)` where `Wx + b` exceeds the latent's threshold.
"""

import re
from typing import Any

from torch import Tensor

from saebench.checkpoints.base import Contents, Parts, Weights, only, reading
from saebench.checkpoints.files import read_tensors
from saebench.checkpoints.settings import ignored, not_understood
from saebench.errors import CheckpointError, unknown
from saebench.site import hook_point

# class → inference architecture, whether b_dec is subtracted first, name of b_dec, training name
CLASSES: dict[str, tuple[str, bool, str, str]] = {
    "AutoEncoder": ("standard", True, "bias", "standard"),
    "AutoEncoderNew": ("standard", False, "decoder.bias", "standard"),
    "GatedAutoEncoder": ("gated", True, "decoder_bias", "gated"),
    "AutoEncoderTopK": ("topk", True, "b_dec", "topk"),
    "BatchTopKSAE": ("jumprelu", True, "b_dec", "batchtopk"),
    "MatryoshkaBatchTopKSAE": ("jumprelu", True, "b_dec", "matryoshka_batchtopk"),
    "JumpReluAutoEncoder": ("jumprelu", False, "b_dec", "jumprelu"),
}
_RENAMED = {"mag_bias": "b_mag", "gate_bias": "b_gate", "encoder.bias": "b_enc"}
_SUBMODULE = {
    "resid_post": "hook_resid_post",
    "resid_pre": "hook_resid_pre",
    "mlp_out": "hook_mlp_out",
    "attention_out": "hook_attn_out",
    "attn_out": "hook_attn_out",
}


def describes(contents: Contents) -> bool:
    """A config whose `trainer` names a class."""
    return _trainer(contents) is not None


def recognise(contents: Contents) -> bool:
    """A config whose `trainer` names a class, or weights that only one of the classes has."""
    if not _weights(contents):
        return False
    return _trainer(contents) is not None or any(map(_told_apart, _weights(contents)))


def load(contents: Contents, architecture: str | None = None) -> Parts:
    """Settings and weights of a dictionary_learning folder or file.

    Raises:
        CheckpointError: for classes that write at several sites, or weights of another class.
    """
    weights = only(contents, _weights(contents))
    trainer = _trainer(contents) or {}
    kind = str(trainer.get("dict_class") or _told_apart(weights))
    if kind not in CLASSES:
        raise CheckpointError(
            f"{contents.path}: {unknown('dictionary_learning class', kind, CLASSES)} Crosscoders"
            " do not reconstruct one activation and cannot be scored."
        )
    inference, subtracts, b_dec, trained = CLASSES[kind]
    raw = read_tensors(weights)
    state = _renamed(raw, b_dec)
    notes: list[str] = []
    config: dict[str, Any] = {"architecture": inference, "apply_b_dec_to_input": subtracts}
    with reading(weights.path, f"reading it as {kind}"):
        config["d_sae"], config["d_in"] = (int(n) for n in state["W_dec"].shape)
        k = int(raw["k"]) if "k" in raw else trainer.get("k")
        if inference == "topk":
            config["k"] = k
        if inference == "jumprelu":
            state["threshold"] = _threshold(raw["threshold"], trained, notes)
    _check_config(contents, trainer, config)
    hook, said = _hook(contents, trainer)
    reads = _read_by(contents, hook)
    return Parts(
        config,
        state,
        hook=hook,
        model_name=trainer.get("lm_name") if isinstance(trainer.get("lm_name"), str) else None,
        training_architecture=trained,
        metadata={"k": k, "trainer": trainer.get("trainer_class"), "dict_class": kind},
        reads=reads,
        transcodes=_in_and_out(contents),
        warnings=(
            *notes,
            *said,
            *not_understood(trainer, _UNDERSTOOD),
            *ignored(raw.keys() - _KNOWN - {b_dec}),
        ),
    )


_UNDERSTOOD = {
    "k",
    "dict_class",
    "trainer_class",
    "submodule_name",
    "lm_name",
    "group_fractions",
    "group_weights",
}
_KNOWN = {
    *_RENAMED,
    "encoder.weight",
    "decoder.weight",
    "W_enc",
    "W_dec",
    "b_enc",
    "r_mag",
    "k",
    "threshold",
    "group_sizes",
}


def _weights(contents: Contents) -> tuple[Weights, ...]:
    linear = contents.having("encoder.weight", "decoder.weight")
    return linear + contents.having("W_enc", "W_dec", "b_enc", "b_dec")


def _trainer(contents: Contents) -> dict[str, Any] | None:
    config = contents.config("trainer")
    trainer = config and config["trainer"]
    return trainer if isinstance(trainer, dict) and "dict_class" in trainer else None


def _told_apart(weights: Weights) -> str | None:
    """The class that alone has such weights; several classes share the rest."""
    if weights.has("decoder_bias", "gate_bias", "r_mag"):
        return "GatedAutoEncoder"
    if weights.has("group_sizes", "threshold", "W_enc"):
        return "MatryoshkaBatchTopKSAE"
    if weights.has("bias", "encoder.bias", "encoder.weight"):
        return "AutoEncoder"
    return None


def _renamed(raw: dict[str, Tensor], b_dec: str) -> dict[str, Tensor]:
    """SAELens' names and orientation; `nn.Linear` stores its matrices transposed."""
    state = {}
    for name in ("W_enc", "b_enc", "W_dec", "r_mag"):
        if name in raw:
            state[name] = raw[name]
    for theirs, ours in (("encoder.weight", "W_enc"), ("decoder.weight", "W_dec")):
        if theirs in raw:
            state[ours] = raw[theirs].T
    state |= {ours: raw[theirs] for theirs, ours in _RENAMED.items() if theirs in raw}
    if b_dec in raw:
        state["b_dec"] = raw[b_dec]
    return state


def _threshold(value: Tensor, trained: str, notes: list[str]) -> Tensor:
    if value.numel() == 1 and float(value) < 0:
        notes.append(
            f"threshold {float(value):g}: training never set it, so every positive"
            f" pre-activation is active ({trained})"
        )
    return value


def _check_config(contents: Contents, trainer: dict[str, Any], config: dict[str, Any]) -> None:
    """The config's sizes must be those of the weights."""
    for theirs, ours in (("activation_dim", "d_in"), ("dict_size", "d_sae")):
        if trainer.get(theirs) not in (None, config[ours]):
            raise CheckpointError(
                f"{contents.path}: the config says {theirs} {trainer[theirs]!r}, the weights have"
                f" {config[ours]}. Config and weights do not belong together."
            )


def _in_and_out(contents: Contents) -> bool:
    """Whether it was trained from a module's input to its output."""
    buffer = (contents.config("trainer") or {}).get("buffer")
    return isinstance(buffer, dict) and buffer.get("io") == "in_and_out"


def _read_by(contents: Contents, hook: str | None) -> str | None:
    """What a transcoder of a module reads: the module's input."""
    if not _in_and_out(contents) or not hook or not hook.endswith("hook_mlp_out"):
        return None
    return hook.replace("hook_mlp_out", "mlp.hook_in")


def _hook(contents: Contents, trainer: dict[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    """The hook point, from `layer` and `submodule_name`; a guess is said."""
    layer, name = trainer.get("layer"), trainer.get("submodule_name")
    if type(layer) is not int or not 0 <= layer < 10_000:
        return None, ()
    if isinstance(name, str):
        stem = re.sub(r"_layer_?\d+$", "", name)
        point = _SUBMODULE.get(stem)
        if point:
            return f"blocks.{layer}.{point}", ()
        translated = hook_point(name)
        return (
            (translated, ()) if translated.startswith("blocks.") else (None, (f"submodule {name!r} unknown",))
        )
    guess = f"blocks.{layer}.hook_resid_post"
    return guess, (f"hook point {guess} is inferred: the config gives the layer only",)
