"""Weights without a config: the user says what they are.

`--architecture standard`, `topk:32`, `jumprelu`, … with `,b-dec` or `,no-b-dec` after it to
say whether `b_dec` is subtracted from the input. Without a word it is for every architecture but
jumprelu, as published SAEs do it.
"""

from typing import Any

from torch import Tensor

from saebench.checkpoints.base import Contents, Parts, Weights, only
from saebench.checkpoints.building import VECTORS
from saebench.checkpoints.files import read_tensors
from saebench.errors import CheckpointError, unknown

_SAELENS = ("W_dec", "b_dec")
_LINEAR = ("encoder.weight", "decoder.weight")
_LINEAR_NAMES = {
    "encoder.weight": "W_enc",
    "decoder.weight": "W_dec",
    "encoder.bias": "b_enc",
    "decoder.bias": "b_dec",
    "bias": "b_dec",
}
_SUBTRACT = {"b-dec": True, "no-b-dec": False}


def recognise(contents: Contents) -> bool:
    """Any file with a decoder and its bias."""
    return bool(_weights(contents))


def _beside(contents: Contents) -> str:
    """What stands where a config should."""
    found = [f"{name} (keys {', '.join(sorted(config)[:12])})" for name, config in contents.configs.items()]
    if not found:
        return "without a config"
    return f"beside {'; '.join(found[:3])}, which lacks what any format here is known by"


def load(contents: Contents, architecture: str | None = None) -> Parts:
    """Weights alone, read as the architecture that was given.

    Raises:
        CheckpointError: without `--architecture`, or with one that the weights do not bear out.
    """
    weights = only(contents, _weights(contents))
    if architecture is None:
        broken = f" Unreadable: {' '.join(contents.problems)}" if contents.problems else ""
        raise CheckpointError(
            f"{contents.path}: weights ({', '.join(sorted(weights.tensors)[:8])}) {_beside(contents)},"
            " so their activation function is unknown. Say what they are, for example"
            f" `--architecture topk:32`; known: {', '.join(sorted(VECTORS))}.{broken}"
        )
    config = parse(architecture)
    raw = {_LINEAR_NAMES.get(name, name): value for name, value in read_tensors(weights).items()}
    state = _oriented(raw, linear=weights.has(*_LINEAR))
    wanted = {"W_enc", "W_dec", "b_dec", *VECTORS[config["architecture"]]}
    if config["architecture"] == "matching_pursuit":
        wanted.discard("W_enc")
    rows = state["W_dec"].shape if state["W_dec"].ndim == 2 else (0, 0)
    config |= {"d_sae": int(rows[0]), "d_in": int(rows[1])}
    extra = sorted(state.keys() - wanted)
    said = "subtracted from" if config["apply_b_dec_to_input"] else "not subtracted from"
    notes = [f"as told: {architecture}, b_dec {said} the input"]
    notes += [f"ignored tensors: {', '.join(extra)}"] if extra else []
    return Parts(
        config,
        {name: value for name, value in state.items() if name in wanted},
        training_architecture=config["architecture"],
        warnings=tuple(notes),
    )


def parse(architecture: str) -> dict[str, Any]:
    """`topk:32,no-b-dec` as settings.

    Raises:
        CheckpointError: for unknown names, or a number that is missing or not one.
    """
    head, *flags = architecture.split(",")
    name, _, number = head.partition(":")
    if name not in VECTORS:
        raise CheckpointError(unknown("architecture", name, VECTORS))
    config: dict[str, Any] = {"architecture": name, "apply_b_dec_to_input": name != "jumprelu"}
    if name in ("topk", "abstopk"):
        if not (number.isascii() and number.isdigit()) or len(number) > 9:
            raise CheckpointError(
                f"--architecture {architecture}: {name} needs k, the number of active latents,"
                f" for example `{name}:32`."
            )
        config["k"] = int(number)
    for flag in flags:
        if flag not in _SUBTRACT:
            raise CheckpointError(unknown("flag of --architecture", flag, _SUBTRACT))
        config["apply_b_dec_to_input"] = _SUBTRACT[flag]
    return config


def _weights(contents: Contents) -> tuple[Weights, ...]:
    linear = contents.having(*_LINEAR, "encoder.bias")
    linear = tuple(w for w in linear if w.has("decoder.bias") or w.has("bias") or w.has("b_dec"))
    return contents.having(*_SAELENS) + tuple(w for w in linear if not w.has(*_SAELENS))


def _oriented(raw: dict[str, Tensor], linear: bool) -> dict[str, Tensor]:
    """Matrices as SAELens keeps them, told by the lengths of the biases where these differ."""
    state = dict(raw)
    if linear:
        state["W_enc"], state["W_dec"] = raw["W_enc"].T, raw["W_dec"].T
        return state
    d_in = raw["b_dec"].numel()
    if state["W_dec"].ndim == 2 and state["W_dec"].shape[1] != d_in == state["W_dec"].shape[0]:
        state["W_dec"] = state["W_dec"].T
    w_enc = state.get("W_enc")
    if w_enc is not None and w_enc.ndim == 2 and w_enc.shape[0] != d_in == w_enc.shape[1]:
        state["W_enc"] = w_enc.T
    return state
