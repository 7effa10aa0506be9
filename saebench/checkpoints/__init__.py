"""Any SAE a researcher has: recognised by content, checked, and loaded as a `Dictionary`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.checkpoints import dictionary_learning, gemma_scope, hub, plain, published, sae_lens, sparsify
from saebench.checkpoints.base import Contents, Format, Loaded, Parts
from saebench.checkpoints.building import CENTRED, assemble, cast
from saebench.checkpoints.files import survey
from saebench.errors import CheckpointError, unknown
from saebench.models.surroundings import undisturbed

FORMATS: dict[str, Format] = {
    "sae_lens": Format(
        sae_lens.recognise,
        sae_lens.load,
        "SAELens 4-6: cfg.json and sae_weights.safetensors, every inference architecture",
    ),
    "sparsify": Format(
        sparsify.recognise, sparsify.load, "EleutherAI sparsify: cfg.json and sae.safetensors (topk)"
    ),
    "dictionary_learning": Format(
        dictionary_learning.recognise,
        dictionary_learning.load,
        "dictionary_learning: ae.pt and config.json (standard, gated, topk, batchtopk, jumprelu, matryoshka)",
    ),
    "openai": Format(published.is_openai, published.load_openai, "OpenAI: one .pt state dict (relu, topk)"),
    "goodfire": Format(published.is_goodfire, published.load_goodfire, "Goodfire: one .pt state dict (relu)"),
    "gemma_scope": Format(
        gemma_scope.recognise, gemma_scope.load, "Gemma Scope 1 and 2: params.npz or .safetensors"
    ),
    "plain": Format(
        plain.recognise,
        plain.load,
        "W_enc, W_dec, b_enc, b_dec[, threshold] in safetensors, npz or .pt, with --architecture",
    ),
}
"""Every format that can be read; the first that fits wins. To add one: two functions, one line
here, one fixture."""

DEMO = Path(__file__).parents[1] / "demo" / "saes"


@undisturbed()
def load(
    spec: str | Path,
    *,
    architecture: str | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Loaded:
    """Loads `demo:NAME`, a path, SAELens' `release/sae_id`, or `hf://owner/repo/path`.

    `architecture` says what a file without a config is (see `saebench formats`).

    Raises:
        CheckpointError: one paragraph that names the file and what is wrong with it.
    """
    spec = str(spec)
    named = spec.startswith(("demo:", hub.PREFIX)) or Path(spec).exists()
    if not named and hub.is_registered(spec):
        loaded = hub.load_registered(spec)
        return replace(loaded, dictionary=cast(loaded, device, dtype))
    path, name = resolve(spec)
    contents = survey(path)
    kind = recognise(contents, architecture)
    parts = FORMATS[kind].load(contents, architecture)
    if architecture is not None and kind != "plain":
        note = f"--architecture {architecture} ignored: the {kind} file says what it is"
        parts = parts._replace(warnings=(*parts.warnings, note))
    loaded = assemble(parts, path, name, spec, kind)
    return replace(loaded, dictionary=cast(loaded, device, dtype))


def resolve(spec: str) -> tuple[Path, str]:
    """The path that a name stands for, and the name to show."""
    if spec.startswith("demo:"):
        name = spec.removeprefix("demo:")
        if name not in demo_names():
            raise CheckpointError(unknown("demo SAE", name, demo_names()))
        return DEMO / name, spec
    if spec.startswith(hub.PREFIX):
        return hub.fetch(spec), spec.removeprefix(hub.PREFIX)
    path = Path(spec)
    return path, path.name or path.resolve().name


def demo_names() -> list[str]:
    """The bundled SAEs, by folder."""
    return sorted(p.name for p in DEMO.iterdir() if p.is_dir()) if DEMO.is_dir() else []


def recognise(contents: Contents, architecture: str | None = None) -> str:
    """The name of the one format whose content this is.

    Raises:
        CheckpointError: if none is, with what was found.
    """
    if architecture is not None and not contents.configs and plain.recognise(contents):
        return "plain"
    for name, format in FORMATS.items():
        if format.recognise(contents):
            return name
    raise CheckpointError(_unrecognised(contents))


def _unrecognised(contents: Contents) -> str:
    found = [f"{name} (keys {', '.join(sorted(c)[:6])})" for name, c in contents.configs.items()]
    found += [f"{w.path.name} ({', '.join(sorted(w.tensors)[:6])})" for w in contents.weights]
    hint = ""
    if contents.weights and not contents.configs:
        hint = " There is no config (cfg.json or config.json) beside the weights."
    elif contents.configs and not contents.weights:
        hint = " There are no weights beside the config."
    broken = f" Unreadable: {' '.join(contents.problems)}" if contents.problems else ""
    seen = "; ".join(found[:6]) or "no config and no weights"
    return (
        f"{contents.path}: not an SAE that can be read. Found {seen}.{hint}{broken}"
        " `saebench formats` lists what can be read."
    )


def formats() -> list[tuple[str, str]]:
    """Name and description of every format, for `saebench formats`."""
    return [(name, format.description) for name, format in FORMATS.items()]


@undisturbed()
def load_object(obj: Any, acts: Float[Tensor, "n d_in"] | None = None, name: str | None = None) -> Loaded:
    """An object in memory as a `Loaded`: a SAELens SAE, or anything with encode, decode and W_dec.

    Raises:
        CheckpointError: if it cannot be scored (see `from_object`).
    """
    from saebench.dictionaries.objects import from_object, object_digest
    from saebench.dictionaries.sae import SaelensDictionary, hook_of
    from saebench.records.result import DictionaryInfo

    dictionary = from_object(obj, acts, name)
    own = isinstance(dictionary, SaelensDictionary)
    meta = getattr(getattr(obj, "cfg", None), "metadata", None)
    trained = getattr(meta, "training_architecture", None) if own else None
    info = DictionaryInfo(
        name=dictionary.name,
        source="memory",
        format="sae_lens" if own else "object",
        architecture=dictionary.architecture if own else type(obj).__name__,
        training_architecture=trained or (dictionary.architecture if own else None),
        d_in=dictionary.d_in,
        d_sae=dictionary.d_sae,
        sha256=object_digest(dictionary),
    )
    normalization = dictionary.normalization if own else "none"
    notes = ("scale not folded: it is measured on the fit split",) if own and dictionary.needs_factor else ()
    model = getattr(meta, "model_name", None) if own else None
    known = {key: getattr(meta, key, None) for key in ("saebench_task", "saebench_task_sha256")}
    metadata = {key: value for key, value in known.items() if value is not None}
    folded = (CENTRED,) if own and dictionary.centred else ()
    return Loaded(dictionary, info, hook_of(obj), model, metadata, notes, folded, normalization)


__all__ = ["FORMATS", "Contents", "Format", "Loaded", "Parts", "formats", "load", "load_object"]
