"""From settings and weights to a `Loaded`: shapes, numbers and settings are checked on the way."""

import warnings as python_warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saebench.checkpoints.base import Loaded, Parts, as_dtype, reading
from saebench.checkpoints.files import require_finite
from saebench.dictionaries.normalization import NORMALIZATIONS
from saebench.dictionaries.sae import SaelensDictionary, build, digest, trained_centred
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
    "temporal": (),
}
"""The inference architectures that can be scored, each with its vectors of length d_sae."""
CENTRED = "each activation's mean: trained on a model with centred weights"
"""What is said of SAEs that see activations without their mean."""
_TIED = {"matching_pursuit", "temporal"}
_LIMIT = 2**31
_RANGES = {"n_heads": 1024, "n_attn_layers": 16, "bottleneck_factor": 65536}


def assemble(parts: Parts, path: Path, name: str, source: str, kind: str) -> Loaded:
    """The checked dictionary with everything that is known about it.

    Raises:
        CheckpointError: for settings, shapes or numbers that cannot be an SAE.
    """
    config, state = dict(parts.config), dict(parts.state)
    check_settings(config, path)
    check_shapes(config, state, path)
    require_finite(path, state)
    check_whitening(config, parts.whitening, path)
    dtypes = sorted({str(v.dtype).removeprefix("torch.") for v in state.values()})
    common = max((v.dtype for v in state.values()), key=lambda d: d.itemsize)
    with reading(path, "building the SAE"), python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")
        sae = build(config, as_dtype(state, common, "cpu"))
        if parts.whitening is not None:
            sae.fold_activation_whitening(*parts.whitening)
        centred = trained_centred(parts.metadata, parts.hook)
        dictionary = SaelensDictionary(sae, name, parts.factor, centred)
        sha = digest(dictionary)
    notes, folded = list(parts.warnings), list(parts.folded)
    if parts.whitening is not None:
        folded.append("input whitening, into encoder and decoder")
    if centred:
        folded.append(CENTRED)
    if dictionary.needs_factor:
        notes.append(
            "scale not folded: the SAE expects activations times a constant that the checkpoint"
            " does not give; it is measured on the fit split"
        )
    if parts.hook is None:
        notes.append("hook_name missing: --site is needed")
    if len(dtypes) > 1 or dtypes[0] not in ("float32", "float64"):
        notes.append(f"stored as {', '.join(dtypes)}")
    if dictionary.architecture == "temporal":
        notes.append("temporal: every activation is encoded without the context it came from")
    info = DictionaryInfo(
        name=name,
        source=source,
        format=kind,
        architecture=dictionary.architecture,
        training_architecture=parts.training_architecture,
        d_in=dictionary.d_in,
        d_sae=dictionary.d_sae,
        sha256=sha,
    )
    return Loaded(
        dictionary,
        info,
        parts.hook,
        parts.model_name,
        {**parts.metadata, "dtype": dtypes, "config": config},
        tuple(notes),
        tuple(folded),
        dictionary.normalization,
    )


def cast(loaded: Loaded, device: str, dtype: torch.dtype) -> SaelensDictionary:
    """The dictionary of a checkpoint with weights of one dtype on one device."""
    assert isinstance(loaded.dictionary, SaelensDictionary)
    old = loaded.dictionary
    state = as_dtype(old.sae.state_dict(), dtype, device)
    config = {**old.sae.cfg.to_dict(), "metadata": {}}
    return SaelensDictionary(build(config, state), old.name, old.factor, old.centred)


def check_settings(config: Mapping[str, Any], path: Path) -> None:
    """Types and ranges of every setting that reaches an SAE class.

    Raises:
        CheckpointError: naming the setting, its value and what is allowed.
    """
    architecture = config.get("architecture")
    if isinstance(architecture, str) and "transcoder" in architecture:
        raise CheckpointError(
            f"{path}: a {architecture}. It writes to another place than it reads from, and every"
            " edit here replaces an activation by a reconstruction of the same activation."
        )
    if architecture not in VECTORS:
        raise CheckpointError(f"{path}: {unknown('architecture', str(architecture), VECTORS)}")
    d_in, d_sae = (_whole(config, key, path, _LIMIT) for key in ("d_in", "d_sae"))
    if config.get("d_out") not in (None, d_in):
        raise CheckpointError(
            f"{path}: d_in is {d_in} and d_out {config['d_out']}: a transcoder, which cannot be"
            " scored, since edits need a reconstruction of the same activation."
        )
    if architecture in ("topk", "abstopk"):
        _whole(config, "k", path, d_sae)
    for key, limit in _RANGES.items():
        if key in config:
            _whole(config, key, path, limit)
    if config.get("max_iterations") is not None:
        _whole(config, "max_iterations", path, 16 * d_in)
    if config.get("kval_topk") is not None:
        _whole(config, "kval_topk", path, d_sae)
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


def check_shapes(config: Mapping[str, Any], state: dict[str, Tensor], path: Path) -> None:
    """Every tensor that the architecture needs, in the shape the settings give it.

    Raises:
        CheckpointError: naming tensor, shape seen and shape expected.
    """
    d_in, d_sae, architecture = config["d_in"], config["d_sae"], config["architecture"]
    wanted: dict[str, tuple[int, ...]] = {"W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    if architecture not in _TIED or not config.get("tied_weights", True):
        wanted["W_enc"] = (d_in, d_sae)
    wanted |= {name: (d_sae,) for name in VECTORS[architecture]}
    missing = sorted(wanted.keys() - state.keys())
    if missing:
        raise CheckpointError(
            f"{path}: a {architecture} SAE needs {', '.join(wanted)}; {', '.join(missing)} is not"
            f" there (found: {', '.join(sorted(state)[:12]) or 'nothing'})."
        )
    for name, shape in wanted.items():
        if tuple(state[name].shape) != shape:
            raise CheckpointError(
                f"{path}: {name} has shape {list(state[name].shape)}, but d_in {d_in} and d_sae"
                f" {d_sae} ask for {list(shape)}. Config and weights do not belong together."
            )
    not_floating = [name for name, value in state.items() if not value.is_floating_point()]
    if not_floating:
        raise CheckpointError(
            f"{path}: {', '.join(not_floating)} holds {state[not_floating[0]].dtype}, expected"
            " floating point weights (quantised SAEs have to be dequantised first)."
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
