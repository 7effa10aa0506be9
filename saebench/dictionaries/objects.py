"""Any object with `encode`, `decode` and `W_dec` as a `Dictionary`, after checks on data.

Edits change single latents, so a latent's share of the reconstruction must be its code times its
row of `W_dec`. Whether that holds cannot be read off an object; it is tried on activations.
"""

import hashlib
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.dictionaries.sae import (
    SaelensDictionary,
    digest,
    digest_state,
    flat,
    is_saelens,
    is_transcoder,
    refuse_transcoder,
)
from saebench.dictionaries.transcoder import Transcoder
from saebench.dictionary import Dictionary, Encoding
from saebench.errors import CheckpointError

_WRAPPERS = {"DataParallel", "DistributedDataParallel", "FullyShardedDataParallel"}
TOLERANCE = 1e-3
"""Largest relative error of `codes W_dec + offset` against `decode`; float16 objects reach it."""


@final
class ObjectDictionary(Dictionary):
    """An object whose decoder was found to be `codes W_dec + decode(0)`.

    The object computes on its own device and in its own dtype; codes, rows and offset are float32, on
    the device of the activations.
    """

    def __init__(self, obj: Any, name: str, W_dec: Tensor, offset: Tensor) -> None:
        self.object, self.name, self._rows, self._offset = obj, name, W_dec, offset.float()
        self.W_dec = W_dec.float()

    def on(self, device: torch.device | str) -> "ObjectDictionary":
        """The same with rows and offset on a device; the object stays where it is."""
        moved = ObjectDictionary(self.object, self.name, self._rows, self._offset.to(device))
        moved.W_dec = self.W_dec.to(device)
        return moved

    def encode(self, acts: Float[Tensor, "n *d_in"]) -> Encoding:
        with torch.set_grad_enabled(acts.requires_grad and torch.is_grad_enabled()):
            inner = flat(acts).to(self._rows.device, self._rows.dtype)
            return Encoding(_codes(self.object, inner).to(acts.device).float(), self._offset)

    def require_linear(self, acts: Float[Tensor, "n d_in"]) -> None:
        """Tries the decoder again on activations of the site it is scored at.

        Raises:
            CheckpointError: if it is not linear there.
        """
        with torch.no_grad():
            probes = flat(acts)[:256].to(self._rows.device, self._rows.dtype)
            _check(self.object, self.name, self._rows, probes)


def from_object(obj: Any, acts: Float[Tensor, "n d_in"] | None = None, name: str | None = None) -> Dictionary:
    """A `Dictionary` from an object in memory: a SAELens SAE, or anything with the three names.

    `acts` are activations of the site it is for; without them random ones of norm `√d_in` are used.

    Raises:
        CheckpointError: if a name is missing, shapes do not fit, codes are not one row a sample,
            the object is a transcoder, or its decoder is not linear in every code.
    """
    if isinstance(obj, Dictionary):
        return obj
    obj = unwrapped(obj)
    name = name or type(obj).__name__
    if is_transcoder(obj):
        return Transcoder.from_saelens(obj, name)
    if is_saelens(obj):
        return SaelensDictionary(obj, name)
    missing = [a for a in ("encode", "decode") if not hasattr(obj, a)]
    missing += ["W_dec"] if _rows(obj) is None else []
    if missing:
        raise CheckpointError(
            f"Cannot use a {type(obj).__name__} as a dictionary: it has no {', '.join(missing)}."
            " Needed are encode(acts [n, d_in]) → codes [n, d_sae], decode(codes) → [n, d_in] and"
            " W_dec [d_sae, d_in]."
        )
    refuse_transcoder(obj)
    rows = _rows(obj)
    assert rows is not None
    if rows.ndim != 2:
        raise CheckpointError(f"W_dec of {name} has shape {tuple(rows.shape)}, not [d_sae, d_in].")
    with torch.no_grad():
        probes = _probes(rows) if acts is None else flat(acts)[:256].to(rows.device, rows.dtype)
        offset = _check(obj, name, rows, probes)
    return ObjectDictionary(obj, name, rows, offset)


def unwrapped(obj: Any) -> Any:
    """What `torch.compile`, DataParallel, DistributedDataParallel or FSDP wrapped; the object itself otherwise."""
    while True:
        inner = getattr(obj, "_orig_mod", None)
        if inner is None and type(obj).__name__ in _WRAPPERS:
            inner = getattr(obj, "module", None)
        if inner is None:
            return obj
        obj = inner


def _rows(obj: Any) -> Tensor | None:
    """`W_dec`, or the weight of a linear `decoder`, which is stored transposed."""
    if getattr(obj, "W_dec", None) is not None:
        return torch.as_tensor(obj.W_dec).detach()
    decoder = getattr(obj, "decoder", None)
    return decoder.weight.detach().T if isinstance(decoder, torch.nn.Linear) else None


def object_digest(obj: Any) -> str:
    """sha256 of an object's state dict, else of its outputs on fixed inputs."""
    if isinstance(obj, SaelensDictionary):
        return digest(obj)
    if isinstance(obj, Transcoder):
        return obj.digest()
    if isinstance(obj, ObjectDictionary):
        return object_digest(obj.object)
    obj = unwrapped(obj)
    if is_saelens(obj):
        return digest(SaelensDictionary(obj, type(obj).__name__))
    state = obj.state_dict() if hasattr(obj, "state_dict") else {}
    tensors = {k: v for k, v in state.items() if isinstance(v, Tensor)}
    if tensors:
        return digest_state(tensors, {"class": type(obj).__name__})
    rows = _rows(obj)
    assert rows is not None
    with torch.no_grad():
        codes = obj.encode(_probes(rows))
        outputs = {"W_dec": rows, "codes": codes[0] if isinstance(codes, tuple) else codes}
    return digest_state(outputs, {"class": type(obj).__name__})


def _probes(rows: Float[Tensor, "d_sae d_in"], n: int = 64) -> Float[Tensor, "n d_in"]:
    seed = int.from_bytes(hashlib.sha256(b"saebench probes").digest()[:4], "big")
    noise = torch.randn(n, rows.shape[1], generator=torch.Generator().manual_seed(seed))
    return noise.to(rows.device, rows.dtype)


def _codes(obj: Any, acts: Float[Tensor, "n d_in"]) -> Tensor:
    # in training mode some choose latents over the batch, or drop some out
    training = isinstance(obj, torch.nn.Module) and obj.training
    if training:
        obj.eval()
    try:
        encode: Any = obj.encode
        codes = encode(acts)
    finally:
        if training:
            obj.train()
    if not isinstance(codes, Tensor):
        raise CheckpointError(
            f"encode of {type(obj).__name__} returned a {type(codes).__name__}; expected one tensor"
            " of codes [n, d_sae]. Wrap it so that it returns the codes alone."
        )
    return codes.to_dense() if codes.is_sparse else codes


def _check(obj: Any, name: str, rows: Tensor, probes: Tensor) -> Float[Tensor, "d_in"]:
    """`decode(0)`, once `decode` was seen to add `code · row` for every latent that was tried."""
    d_sae, d_in = rows.shape
    try:
        codes = _codes(obj, probes)
    except RuntimeError as error:
        raise CheckpointError(
            f"encode of {name} fails on activations [n, {probes.shape[1]}] (W_dec is [{d_sae},"
            f" {d_in}]): {str(error).splitlines()[0]}. If it reads one place and writes another it"
            " is a transcoder: save it in a format that says so (`saebench formats`)."
        ) from error
    if codes.shape != (len(probes), d_sae):
        raise CheckpointError(
            f"encode of {name} turned {tuple(probes.shape)} into {tuple(codes.shape)}; expected"
            f" [{len(probes)}, {d_sae}], one column for each of the {d_sae} rows of W_dec."
        )
    offset = obj.decode(torch.zeros_like(codes[:1]))
    if offset.shape != (1, probes.shape[1]):
        raise CheckpointError(
            f"decode of {name} gives {offset.shape[-1]} numbers for activations of"
            f" {probes.shape[1]}: a transcoder, or another site. Edits need one and the same place."
        )
    generator = torch.Generator().manual_seed(0)
    keep = (torch.rand(codes.shape, generator=generator) < 0.5).to(codes)
    spread = torch.randn(codes.shape, generator=generator).to(codes) * codes.abs().max()
    for tried in (codes, 0.5 * codes, 2 * codes, codes * keep, spread):
        seen, linear = obj.decode(tried), tried @ rows + offset
        error = (seen - linear).norm() / (seen - offset).norm().clamp(min=1e-12)
        # nothing was decoded and nothing expected: an SAE that is silent on these probes
        if (seen - linear).abs().max() > 1e-6 and not error <= TOLERANCE:
            raise CheckpointError(
                f"decode of {name} is not linear in its codes: on {len(probes)} activations it"
                f" differs from codes @ W_dec + decode(0) by {error:.2g} of its size (allowed"
                f" {TOLERANCE:g}). Edits change single latents and need that; if W_dec is scaled"
                " inside decode, or a scale is kept from encode, expose the rows that are used."
            )
    return offset[0].detach()
