"""From settings and weights to a `Loaded`: shapes, numbers and settings are checked on the way."""

import warnings as python_warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saebench.checkpoints.base import Loaded, Parts, as_dtype, reading
from saebench.checkpoints.files import require_finite
from saebench.dictionaries.normalization import NORMALIZATIONS
from saebench.dictionaries.objects import ObjectDictionary
from saebench.dictionaries.sae import TEMPORAL, SaelensDictionary, build, digest, trained_centred
from saebench.dictionaries.transcoder import Transcoder, canonical_read
from saebench.errors import CheckpointError, unknown
from saebench.records.result import DictionaryInfo

# Vectors beside W_enc, W_dec and b_dec; `True` means one number per latent.
VECTORS = {
    "standard": ("b_enc",),
    "topk": ("b_enc",),
    "abstopk": ("b_enc",),
    "jumprelu": ("b_enc", "threshold"),
    "gated": ("b_gate", "b_mag", "r_mag"),
    "matching_pursuit": (),
}
"""The inference architectures that can be scored, each with its vectors of length d_sae."""
CENTRED = "each activation's mean: trained on a model with centred weights"
"""What is said of SAEs that see activations without their mean."""
_TIED = {"matching_pursuit"}
_LIMIT = 2**31


def assemble(parts: Parts, path: Path, name: str, source: str, kind: str) -> Loaded:
    """The checked dictionary with everything that is known about it.

    Raises:
        CheckpointError: for settings, shapes or numbers that cannot be a dictionary.
    """
    config, state = dict(parts.config), dict(parts.state)
    check_settings(config, path)
    state = check_shapes(config, state, path, parts.transcodes)
    require_finite(path, state)
    check_whitening(config, parts.whitening, path)
    dtypes = sorted({str(v.dtype).removeprefix("torch.") for v in state.values()})
    common = max((v.dtype for v in state.values()), key=lambda d: d.itemsize)
    with reading(path, "building it"), python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")
        if parts.transcodes:
            dictionary, folded = _transcoder(parts, config, state, common, name, path), list(parts.folded)
        else:
            dictionary, folded = _sae(parts, config, state, common, name)
    notes = [*parts.warnings, *_remarks(parts, dictionary, dtypes)]
    architecture = f"{dictionary.architecture}_transcoder" if parts.transcodes else dictionary.architecture
    info = DictionaryInfo(
        name=name,
        source=source,
        format=kind,
        architecture=architecture,
        training_architecture=parts.training_architecture,
        d_in=dictionary.d_in,
        d_sae=dictionary.d_sae,
        sha256=dictionary.digest() if isinstance(dictionary, Transcoder) else digest(dictionary),
    )
    return Loaded(
        dictionary,
        info,
        parts.hook,
        parts.model_name,
        {**parts.metadata, "dtype": dtypes, "config": config},
        tuple(notes),
        tuple(folded),
        "none" if isinstance(dictionary, Transcoder) else dictionary.normalization,
        dictionary.reads,
    )


def _sae(
    parts: Parts, config: dict[str, Any], state: dict[str, Tensor], dtype: torch.dtype, name: str
) -> tuple[SaelensDictionary, list[str]]:
    """The SAE, and what was folded into its weights."""
    folded = list(parts.folded)
    sae = build(config, as_dtype(state, dtype, "cpu"))
    if parts.whitening is not None:
        sae.fold_activation_whitening(*parts.whitening)
        folded.append("input whitening, into encoder and decoder")
    centred = trained_centred(parts.metadata, parts.hook)
    if centred:
        folded.append(CENTRED)
    return SaelensDictionary(sae, name, parts.factor, centred), folded


def _transcoder(
    parts: Parts, config: dict[str, Any], state: dict[str, Tensor], dtype: torch.dtype, name: str, path: Path
) -> Transcoder:
    """The transcoder.

    Raises:
        CheckpointError: if nothing says what it reads, or it needs what only SAEs have here.
    """
    if parts.reads is None:
        raise CheckpointError(
            f"{path}: a transcoder (it writes elsewhere than it reads), and nothing says which hook point it reads."
            " A config beside the weights or the published folder names would."
        )
    kinds = ("standard", "topk", "jumprelu")
    scaled = config.get("normalize_activations", "none")
    if config["architecture"] not in kinds or scaled != "none":
        raise CheckpointError(
            f"{path}: a {config['architecture']} transcoder with activation normalisation {scaled}; expected one"
            f" of {', '.join(kinds)} without."
        )
    architecture = config["architecture"] + ("_skip" if "W_skip" in state else "")
    subtracts = config.get("apply_b_dec_to_input", False)
    if subtracts and state["W_enc"].shape[0] != state["W_dec"].shape[1]:
        raise CheckpointError(
            f"{path}: apply_b_dec_to_input is true, and b_dec has the width of what is written"
            f" ({state['W_dec'].shape[1]}), not of what is read ({state['W_enc'].shape[0]}). Config and weights do not"
            " belong together."
        )
    reads = canonical_read(parts.reads)
    return Transcoder(as_dtype(state, dtype, "cpu"), name, architecture, reads, config.get("k"), subtracts)


def _remarks(parts: Parts, dictionary: SaelensDictionary | Transcoder, dtypes: list[str]) -> list[str]:
    """What a user should know of it before scoring."""
    notes = []
    if isinstance(dictionary, SaelensDictionary) and dictionary.needs_factor:
        notes.append(
            "scale not folded: the SAE expects activations times a constant that the checkpoint"
            " does not give; it is measured on the fit split"
        )
    if parts.hook is None:
        notes.append("hook_name missing: --site is needed")
    if len(dtypes) > 1 or dtypes[0] not in ("float32", "float64"):
        notes.append(f"stored as {', '.join(dtypes)}")
    return notes


def cast(loaded: Loaded, device: str, dtype: torch.dtype) -> SaelensDictionary | Transcoder:
    """The dictionary of a checkpoint with weights of one dtype on one device."""
    old = loaded.dictionary
    if isinstance(old, Transcoder):
        return old.to(device, dtype)
    assert isinstance(old, SaelensDictionary)
    if old.W_dec.dtype == dtype and str(old.W_dec.device) == device:
        return old
    state = as_dtype(old.sae.state_dict(), dtype, device)
    config = {**old.sae.cfg.to_dict(), "metadata": {}}
    return SaelensDictionary(build(config, state), old.name, old.factor, old.centred)


def placed(loaded: Loaded, device: str) -> Loaded:
    """The same with codes, rows and offsets on a device."""
    if isinstance(loaded.dictionary, ObjectDictionary):
        return replace(loaded, dictionary=loaded.dictionary.on(device))
    if str(loaded.dictionary.W_dec.device) == device:
        return loaded
    return replace(loaded, dictionary=cast(loaded, device, torch.float32))


def check_settings(config: dict[str, Any], path: Path) -> None:
    """Types and ranges of every setting that reaches an SAE class; whole numbers become integers.

    Raises:
        CheckpointError: naming the setting, its value and what is allowed.
    """
    architecture = config.get("architecture")
    for key in ("d_in", "d_sae", "k", "max_iterations"):
        # JSON of other languages writes whole numbers as 8.0
        if isinstance(config.get(key), float) and config[key].is_integer():
            config[key] = int(config[key])
    if architecture == "temporal":
        raise CheckpointError(f"{path}: {TEMPORAL}")
    if architecture not in VECTORS:
        raise CheckpointError(f"{path}: {unknown('architecture', str(architecture), VECTORS)}")
    d_in, d_sae = (_whole(config, key, path, _LIMIT) for key in ("d_in", "d_sae"))
    if architecture in ("topk", "abstopk"):
        _whole(config, "k", path, d_sae)
    if config.get("max_iterations") is not None:
        _whole(config, "max_iterations", path, 16 * d_in)
    for key in (
        "apply_b_dec_to_input",
        "rescale_acts_by_decoder_norm",
        "tied_weights",
        "stop_on_duplicate_support",
    ):
        if not isinstance(config.get(key, True), bool):
            raise CheckpointError(f"{path}: {key} is {config[key]!r}; expected true or false.")
    for key in ("residual_threshold", "activation_normalization_factor"):
        value = config.get(key, 1.0)
        if not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise CheckpointError(f"{path}: {key} is {value!r}; expected a positive number.")
    normalization = config.get("normalize_activations", "none")
    if normalization not in (*NORMALIZATIONS, "covariance_whitening"):
        raise CheckpointError(
            f"{path}: {unknown('activation normalisation', str(normalization), NORMALIZATIONS)}"
        )


def check_shapes(
    config: Mapping[str, Any], state: Mapping[str, Tensor], path: Path, transcodes: bool = False
) -> dict[str, Tensor]:
    """The weights, every one in the shape that the settings give it.

    Vectors may be stored with axes of length 1, a threshold as one number for all latents.

    Raises:
        CheckpointError: naming tensor, shape seen and shape expected.
    """
    d_in, d_sae, architecture = config["d_in"], config["d_sae"], config["architecture"]
    d_out = _width_of(state.get("W_dec"), d_in) if transcodes else d_in
    wanted: dict[str, tuple[int, ...]] = {"W_dec": (d_sae, d_out), "b_dec": (d_out,)}
    if architecture not in _TIED or not config.get("tied_weights", True):
        wanted["W_enc"] = (d_in, d_sae)
    wanted |= {name: (d_sae,) for name in VECTORS[architecture]}
    if "W_skip" in state:
        wanted["W_skip"] = (d_out, d_in)
    missing = sorted(wanted.keys() - state.keys())
    if missing:
        raise CheckpointError(
            f"{path}: a {architecture} SAE needs {', '.join(wanted)}; {', '.join(missing)} is not"
            f" there (found: {', '.join(sorted(state)[:12]) or 'nothing'})."
        )
    state = {name: _flat(value, wanted.get(name), name) for name, value in state.items()}
    for name, shape in wanted.items():
        if tuple(state[name].shape) != shape:
            raise CheckpointError(_misfit(path, name, state[name], shape, d_in, d_sae))
    not_floating = [name for name, value in state.items() if not value.is_floating_point()]
    if not_floating:
        raise CheckpointError(
            f"{path}: {', '.join(not_floating)} holds {state[not_floating[0]].dtype}, expected"
            " floating point weights (quantised SAEs have to be dequantised first)."
        )
    return state


def _width_of(rows: Tensor | None, otherwise: int) -> int:
    return int(rows.shape[1]) if rows is not None and rows.ndim == 2 else otherwise


def _flat(value: Tensor, shape: tuple[int, ...] | None, name: str) -> Tensor:
    """A vector without axes of length 1; one threshold for all latents as one each."""
    if shape is None or len(shape) != 1 or value.shape == shape:
        return value
    if name == "threshold" and value.numel() == 1:
        return value.reshape(1).expand(shape).contiguous()
    return value.reshape(-1) if value.numel() == shape[0] else value


def _misfit(path: Path, name: str, value: Tensor, shape: tuple[int, ...], d_in: int, d_sae: int) -> str:
    if value.ndim == 3:
        return (
            f"{path}: {name} has shape {list(value.shape)}: a crosscoder or cross-layer transcoder, which reads or"
            " writes at several layers. Every score here is taken at one place."
        )
    return (
        f"{path}: {name} has shape {list(value.shape)}, but d_in {d_in} and d_sae"
        f" {d_sae} ask for {list(shape)}. Config and weights do not belong together."
    )


def check_whitening(
    config: Mapping[str, Any], whitening: tuple[Tensor, Tensor, Tensor] | None, path: Path
) -> None:
    """Whitening that is declared must be there, in the right shapes.

    Raises:
        CheckpointError: if it is not.
    """
    if config.get("normalize_activations") != "covariance_whitening":
        return
    n = config["d_in"]
    if whitening is None or [tuple(t.shape) for t in whitening] != [(n,), (n, n), (n, n)]:
        raise CheckpointError(
            f"{path}: the SAE expects whitened activations, and no whitening matrices of width {n}"
            " are beside it. Fold them with SAELens (`fold_activation_whitening`) and save it again."
        )
    require_finite(path, dict(zip(("mean", "matrix", "inverse_matrix"), whitening, strict=True)))


def _whole(config: Mapping[str, Any], key: str, path: Path, limit: int) -> int:
    value = config.get(key)
    if type(value) is not int or not 1 <= value <= limit:
        raise CheckpointError(f"{path}: {key} is {value!r}; expected a whole number from 1 to {limit}.")
    return value
