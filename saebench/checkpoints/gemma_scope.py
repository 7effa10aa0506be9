"""Gemma Scope 1 (Lieberum et al. 2024, arXiv 2408.05147) and 2: SAEs and transcoders.

`codes = pre · [pre > threshold]`, `pre = relu(x W_enc + b_enc)`; `b_dec` is not subtracted first. A
transcoder reads the normalised input of an MLP and writes its output; with an affine connection it
adds `x W_skip` to what it writes. Version 1 is `params.npz` and says nothing about itself but its
path; version 2 is safetensors with names in lower case and a `config.json` beside it.
"""

from typing import Any, NamedTuple

from torch import Tensor

from saebench.checkpoints.base import Contents, Parts, Weights, only
from saebench.checkpoints.files import read_tensors
from saebench.checkpoints.origin import Origin
from saebench.checkpoints.settings import ignored, not_understood
from saebench.errors import CheckpointError
from saebench.site import hook_point

_NAMES = ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")
_SKIP = ("affine_skip_connection", "W_skip", "w_skip")
_PLACES = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}
_KINDS = {"resid_post": "hook_resid_post", "attn_out": "attn.hook_z", "mlp_out": "hook_mlp_out"}
# Both read the normalised MLP input: version 2 with the norm's gain in it, version 1 without.
_READS_1, _READS_2, _WRITES = "ln2.hook_normalized", "ln2.hook_out", "hook_mlp_out"
_UNDERSTOOD = {
    "architecture",
    "model_name",
    "hf_hook_point_in",
    "hf_hook_point_out",
    "affine_connection",
    "width",
    "l0",
    "layer",
    "type",
    "dtype",
}


class _Facts(NamedTuple):
    """What a config or a published path says."""

    hook: str | None = None
    reads: str | None = None
    transcodes: bool = False
    model: str | None = None
    l0: float | None = None
    embedding: bool = False
    known: bool = False
    """Whether anything says what kind of dictionary it is."""


def recognise(contents: Contents) -> bool:
    """An npz with the five arrays, or safetensors with `w_enc` and `w_dec` in lower case."""
    return bool(_weights(contents))


def describes(contents: Contents) -> bool:
    """A config that names Hugging Face's hook points."""
    return contents.config("hf_hook_point_in") is not None


def is_published(contents: Contents) -> bool:
    """Below a folder of a published name, which says whether it is an SAE or a transcoder, and of what."""
    return any(_of_path(weights.origin).known for weights in _weights(contents))


def load(contents: Contents, architecture: str | None = None) -> Parts:
    """Settings and weights of a Gemma Scope SAE or transcoder.

    Raises:
        CheckpointError: for cross-layer transcoders, and where config and weights contradict each other.
    """
    weights = only(contents, _weights(contents))
    config = contents.config("hf_hook_point_in") or contents.config("architecture", "model_name")
    _refuse_layers(contents, weights)
    raw = {_upper(name): value for name, value in read_tensors(weights).items()}
    facts = _of_config(contents, config) if config else _of_path(weights.origin)
    skip = next((raw[name] for name in _SKIP if name in raw), None)
    _check_skip(contents, config, skip)
    transcodes = facts.transcodes or skip is not None or _widths_differ(raw)
    notes = not_understood(config, _UNDERSTOOD) if config else []
    if not facts.known and not transcodes:
        notes.append(
            "neither a config nor a published path says what it is: read as an SAE, not a transcoder"
        )
    folded = []
    d_in, d_sae = (int(n) for n in raw["W_enc"].shape) if raw["W_enc"].ndim == 2 else (0, 0)
    if facts.embedding:
        # trained on embeddings before Gemma multiplies them by √d_in
        raw["W_enc"], raw["W_dec"] = raw["W_enc"] / d_in**0.5, raw["W_dec"] * d_in**0.5
        folded.append("Gemma's embedding scale √d_in")
    state = {name: raw[name] for name in _NAMES}
    if skip is not None:
        # stored to multiply from the right
        state["W_skip"] = skip.T
    return Parts(
        {"architecture": "jumprelu", "d_in": d_in, "d_sae": d_sae, "apply_b_dec_to_input": False},
        state,
        hook=facts.hook,
        model_name=facts.model,
        training_architecture="jumprelu",
        metadata={"target_l0": facts.l0} if facts.l0 else {},
        folded=tuple(folded),
        warnings=(*notes, *ignored(raw.keys() - {*_NAMES, *_SKIP})),
        reads=facts.reads,
        transcodes=transcodes,
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


def _refuse_layers(contents: Contents, weights: Weights) -> None:
    """A decoder with an axis of layers writes to every layer behind the one it reads."""
    shape = next((weights.tensors[n].shape for n in ("w_dec", "W_dec") if n in weights.tensors), ())
    if len(shape) == 3:
        raise CheckpointError(
            f"{contents.path}: a cross-layer transcoder or crosscoder (its decoder has shape {list(shape)}: one"
            " for each layer). Every score here is taken at one place; score a dictionary that writes at one."
        )


def _check_skip(contents: Contents, config: dict[str, Any] | None, skip: Tensor | None) -> None:
    if config and config.get("affine_connection") is True and skip is None:
        raise CheckpointError(
            f"{contents.path}: its config says affine_connection true, and no {_SKIP[0]} is among the weights."
        )


def _widths_differ(raw: dict[str, Tensor]) -> bool:
    enc, dec = raw["W_enc"], raw["W_dec"]
    if raw["b_dec"].shape != dec.shape[1:]:
        return False
    return enc.ndim == dec.ndim == 2 and enc.shape[0] != dec.shape[1] and enc.shape[1] == dec.shape[0]


def _of_config(contents: Contents, config: dict[str, Any]) -> _Facts:
    """What version 2's config says; it wins over the path.

    Raises:
        CheckpointError: for another activation function.
    """
    if config.get("architecture") not in ("jump_relu", "jumprelu"):
        raise CheckpointError(
            f"{contents.path}: architecture {config.get('architecture')!r} in its config; Gemma Scope has jump_relu."
        )
    into, out = (_text(config.get(f"hf_hook_point_{end}")) for end in ("in", "out"))
    model = (_text(config.get("model_name")) or "").removeprefix("google/").replace("-v3", "-3")
    if "270m" in model:
        # the one size that the hub has without the suffix
        model = model.replace("-pt", "")
    l0 = config.get("l0")
    read, write = (hook_point(p) if p else None for p in (into, out))
    return _Facts(
        hook=write or read,
        reads=read if write not in (None, read) else None,
        transcodes=write not in (None, read),
        model=f"google/{model}" if model else None,
        l0=float(l0) if isinstance(l0, int | float) and not isinstance(l0, bool) else None,
        known=into is not None,
    )


def _of_path(origin: Origin) -> _Facts:
    """Hook point, model and mean L0, as the published folders spell them."""
    one = origin.published(r"gemma-scope-(?P<size>\d+b)-(?P<tuned>pt|it)-(?P<place>res|mlp|att|transcoders)")
    if one:
        layer, l0 = one.last(r"layer_(\d+)"), one.last(r"average_l0_(\d+)")
        place, embedding = one.repository["place"], one.last("embedding") is not None
        model = f"gemma-2-{one.repository['size']}" + ("-it" if one.repository["tuned"] == "it" else "")
        at = f"blocks.{layer[1]}." if layer else None
        found = _Facts(model=model, l0=float(l0[1]) if l0 else None, known=True)
        if place == "transcoders":
            reads, hook = (at and at + _READS_1), (at and at + _WRITES)
            return found._replace(hook=hook, reads=reads, transcodes=True)
        if embedding:
            return found._replace(hook="hook_embed", embedding=True)
        return found._replace(hook=at and at + _PLACES[place])
    two = origin.published(r"gemma-scope-2-(?P<size>\d+[bm])-(?P<tuned>pt|it)")
    kind = two and two.last(r"(?P<kind>resid_post|attn_out|mlp_out|transcoder|clt)(_all)?")
    layer = two and two.last(r"layer_(\d+)_width_.*")
    if not two or not kind or not layer:
        return _Facts()
    model = f"google/gemma-3-{two.repository['size']}-{two.repository['tuned']}".replace("270m-pt", "270m")
    at, transcodes = f"blocks.{layer[1]}.", kind["kind"] in ("transcoder", "clt")
    hook = at + (_WRITES if transcodes else _KINDS[kind["kind"]])
    return _Facts(hook, at + _READS_2 if transcodes else None, transcodes, model, known=True)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
