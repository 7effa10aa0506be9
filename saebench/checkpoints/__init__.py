"""Any SAE a researcher has: recognised by content, checked, and loaded as a `Dictionary`."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from saebench import demo
from saebench.checkpoints import (
    circuit_tracer,
    dictionary_learning,
    gemma_scope,
    hub,
    laboratories,
    llama_scope,
    plain,
    published,
    registry,
    sae_lens,
    sparsify,
)
from saebench.checkpoints.base import Contents, Format, Loaded, Parts, reading
from saebench.checkpoints.building import CENTRED, assemble, cast
from saebench.checkpoints.files import survey
from saebench.checkpoints.naming import several
from saebench.checkpoints.origin import display_name
from saebench.checkpoints.remembering import known_of
from saebench.dictionaries.sae import SaelensDictionary
from saebench.dictionary import Dictionary
from saebench.errors import CheckpointError, unknown
from saebench.models.surroundings import undisturbed
from saebench.records.memo import Known
from saebench.records.result import DictionaryInfo

FORMATS: dict[str, Format] = {
    "sae_lens": Format(
        sae_lens.recognise,
        sae_lens.load,
        "SAELens 3-6: cfg.json and sae_weights.safetensors, every inference architecture and transcoders",
        sae_lens.describes,
    ),
    "sparsify": Format(
        sparsify.recognise,
        sparsify.load,
        "EleutherAI sparsify: cfg.json and sae.safetensors (topk, transcoders)",
        sparsify.describes,
    ),
    "dictionary_learning": Format(
        dictionary_learning.recognise,
        dictionary_learning.load,
        "dictionary_learning: ae.pt and config.json (standard, gated, topk, batchtopk, jumprelu, matryoshka)",
        dictionary_learning.describes,
    ),
    "llama_scope": Format(
        llama_scope.recognise,
        llama_scope.load,
        "Llama Scope and R1-Distill (lm-saes): hyperparams.json or config.json and safetensors",
        llama_scope.describes,
    ),
    "batch_topk": Format(
        laboratories.is_batch_topk,
        laboratories.load_batch_topk,
        "the BatchTopK repository: sae.pt and config.json (vanilla, topk, batchtopk, jumprelu)",
        laboratories.describes_batch_topk,
    ),
    "temporal": Format(
        laboratories.is_temporal,
        laboratories.load_temporal,
        "temporal SAEs: recognised and refused, since a code depends on the tokens before",
        laboratories.describes_temporal,
    ),
    "circuit_tracer": Format(
        circuit_tracer.recognise,
        circuit_tracer.load,
        "circuit-tracer: layer_N.safetensors and config.yaml (transcoders of one layer)",
        circuit_tracer.describes,
    ),
    "openai": Format(published.is_openai, published.load_openai, "OpenAI: one .pt state dict (relu, topk)"),
    "goodfire": Format(published.is_goodfire, published.load_goodfire, "Goodfire: one .pt state dict (relu)"),
    "e2e_sae": Format(laboratories.is_e2e, laboratories.load_e2e, "e2e_sae: one .pt state dict (relu)"),
    "gemma_scope": Format(
        gemma_scope.recognise,
        gemma_scope.load,
        "Gemma Scope 1 and 2: params.npz or .safetensors with config.json (SAEs and transcoders)",
        gemma_scope.describes,
        gemma_scope.is_published,
    ),
    "qwen_scope": Format(
        laboratories.is_qwen,
        laboratories.load_qwen,
        "Qwen Scope: layerN.sae.pt in a repository of its name (topk)",
        published=laboratories.is_qwen,
    ),
    "plain": Format(
        plain.recognise,
        plain.load,
        "W_enc, W_dec, b_enc, b_dec[, threshold] in safetensors, npz or .pt, with --architecture",
    ),
}
"""Every format that can be read; the first that fits wins. To add one: two functions, one line
here, one fixture."""

MAX_FOLDERS = 200
DEMO = demo.SAES


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
    place = resolve(spec)
    if place.path is None:
        loaded = hub.load_registered(spec)
    else:
        parts, kind, path = read(place, architecture)
        loaded = assemble(parts, path, place.name, spec, kind)
    return replace(loaded, dictionary=cast(loaded, device, dtype))


class Place(NamedTuple):
    """What a name stands for."""

    path: Path | None
    """None for layouts that SAELens' own converters read."""
    name: str
    """What to show."""
    entry: registry.Entry | None = None
    """What SAELens' registry knows of it."""


def read(place: Place, architecture: str | None = None) -> tuple[Parts, str, Path]:
    """Settings and weights of what lies at a place, the format's name, and where exactly it lay.

    Raises:
        CheckpointError: if it is not an SAE that can be read.
    """
    assert place.path is not None
    contents = lifted(descended(survey(place.path)))
    kind = recognise(contents, architecture)
    parts = FORMATS[kind].load(contents, architecture)
    notes = [f"tensors' names begin with {w.prefix!r}: taken off" for w in contents.weights if w.prefix]
    if contents.path != place.path:
        notes.append(f"found one level down, in {contents.path.name}")
    if architecture is not None and kind != "plain":
        notes.append(f"--architecture {architecture} ignored: the {kind} file says what it is")
    entry = place.entry or (registry.of(contents.origin) if kind == "sae_lens" else None)
    parts = registry.completed(parts, entry)
    return parts._replace(warnings=(*parts.warnings, *notes)), kind, contents.path


def descended(contents: Contents) -> Contents:
    """The one SAE below a folder that holds none itself (`checkpoints/`), or the folder as it is.

    Raises:
        CheckpointError: if there are several, naming them.
    """
    if contents.weights or not contents.path.is_dir():
        return contents
    with reading(contents.path, "looking at its folders"):
        folders = sorted(p for p in contents.path.iterdir() if p.is_dir())[:MAX_FOLDERS]
    below = [found for found in map(survey, folders) if found.weights]
    if len(below) > 1:
        names = ", ".join(f.path.name for f in below[:8])
        raise CheckpointError(
            f"{contents.path}: a folder of {len(below)} SAEs ({names}{', …' if len(below) > 8 else ''}), and one is"
            " needed. Give the path of one, or of several one after the other."
        )
    return below[0] if below else contents


def lifted(contents: Contents) -> Contents:
    """With the configs of the folder above, where none beside the weights describes them and one there does."""
    if not contents.weights or any(f.describes(contents) for f in FORMATS.values()):
        return contents
    higher = replace(contents, configs=contents.above)
    fits = any(f.describes(higher) and f.recognise(higher) for f in FORMATS.values())
    return higher if fits else contents


def resolve(spec: str) -> Place:
    """What a name stands for; a path that exists comes before a name of the registry."""
    if spec.startswith("demo:"):
        name = spec.removeprefix("demo:")
        known = [*demo_names(), *(f"mlp-{p.name}" for p in sorted(demo.MLP.iterdir()))]
        if name not in known:
            raise CheckpointError(unknown("demo SAE", name, known))
        return Place(DEMO / name if name in demo_names() else demo.folder(name), spec)
    if spec.startswith(hub.PREFIX):
        return Place(hub.fetch(spec), spec.removeprefix(hub.PREFIX))
    path = Path(spec).expanduser()
    if not path.exists() and hub.is_registered(spec):
        entry = registry.named(spec)
        if entry.conversion in hub.CONVERTED:
            return Place(None, spec, entry)
        return Place(hub.fetch_registered(spec, entry), spec, entry)
    return Place(path, display_name(path))


def demo_names() -> list[str]:
    """The bundled SAEs of one residual stream, by folder."""
    return sorted(p.name for p in DEMO.iterdir() if p.is_dir()) if DEMO.is_dir() else []


def recognise(contents: Contents, architecture: str | None = None) -> str:
    """The name of the one format whose content this is.

    Raises:
        CheckpointError: if none is, with what was found.
    """
    for name, format in FORMATS.items():
        # what was published under a name that says what it is needs no word of the user's
        if format.published(contents) and format.recognise(contents):
            return name
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
    elif contents.configs and not contents.weights and not contents.problems:
        hint = " There are no weights beside the config."
    elif below := _saes_below(contents.path):
        hint = f" There are SAEs further down: {', '.join(below)}. Give the path of one."
    for weights in contents.weights:
        if names := several(weights):
            hint = (
                f" {weights.path.name} holds {len(names)} SAEs side by side ({', '.join(names[:6])}); save each to a"
                " file of its own."
            )
    broken = f" Unreadable: {' '.join(contents.problems)}" if contents.problems else ""
    seen = "; ".join(found[:6]) or "no config and no weights"
    return (
        f"{contents.path}: not an SAE that can be read. Found {seen}.{hint}{broken}"
        " `saebench formats` lists what can be read."
    )


def _saes_below(folder: Path) -> list[str]:
    """Up to eight folders that hold weights, as far as three levels down."""
    found: list[str] = []
    level = [folder] if folder.is_dir() else []
    for _ in range(3):
        with reading(folder, "looking at its folders"):
            level = [p for parent in level for p in sorted(parent.iterdir()) if p.is_dir()][:MAX_FOLDERS]
        found += [str(p) for p in level if survey(p).weights]
    return found[:8] + (["…"] if len(found) > 8 else [])


def formats() -> list[tuple[str, str]]:
    """Name and description of every format, for `saebench formats`."""
    return [(name, format.description) for name, format in FORMATS.items()]


@undisturbed()
def load_object(
    obj: Any,
    acts: Float[Tensor, "n d_in"] | None = None,
    name: str | None = None,
    device: str | torch.device | None = None,
) -> Loaded:
    """An object in memory as a `Loaded`: a SAELens SAE, or anything with encode, decode and W_dec.

    Wrappers of `torch.compile` and of data parallelism are taken off. Codes are float32, on `device`
    where one is given.

    Raises:
        CheckpointError: if it cannot be scored (see `from_object`).
    """
    from saebench.dictionaries.objects import ObjectDictionary, from_object, unwrapped
    from saebench.dictionaries.sae import fact, hook_of
    from saebench.dictionaries.transcoder import Transcoder, writes

    inner = unwrapped(obj)
    dictionary = from_object(inner, acts, name)
    own = isinstance(dictionary, SaelensDictionary)
    notes = ["scale not folded: it is measured on the fit split"] if own and dictionary.needs_factor else []
    if inner is not obj:
        notes.append(f"taken out of a {type(obj).__name__}")
    known = {
        key: fact(inner, key)
        for key in ("saebench_task", "saebench_task_sha256", "prepend_bos", "model_from_pretrained_kwargs")
    }
    model = fact(inner, "model_name")
    loaded = Loaded(
        dictionary,
        _info_of(inner, dictionary),
        hook_of(inner) if dictionary.reads is None else writes(inner),
        model if isinstance(model, str) else None,
        {key: value for key, value in known.items() if value is not None},
        tuple(notes),
        (CENTRED,) if own and dictionary.centred else (),
        dictionary.normalization if own else "none",
        dictionary.reads,
    )
    if isinstance(dictionary, ObjectDictionary):
        return replace(loaded, dictionary=dictionary.on(device)) if device is not None else loaded
    if isinstance(dictionary, SaelensDictionary | Transcoder):
        return replace(loaded, dictionary=cast(loaded, str(device or dictionary.W_dec.device), torch.float32))
    return loaded


def _info_of(obj: Any, dictionary: Dictionary) -> DictionaryInfo:
    """What a result says of an object in memory."""
    from saebench.dictionaries.objects import object_digest
    from saebench.dictionaries.transcoder import Transcoder

    kind, trained = type(obj).__name__, None
    theirs = isinstance(dictionary, SaelensDictionary | Transcoder)
    if theirs:
        kind = dictionary.architecture + ("_transcoder" if isinstance(dictionary, Transcoder) else "")
        meta = getattr(getattr(obj, "cfg", None), "metadata", None)
        trained = getattr(meta, "training_architecture", None) or kind
    return DictionaryInfo(
        name=dictionary.name,
        source="memory",
        format="sae_lens" if theirs else "object",
        architecture=kind,
        training_architecture=trained,
        d_in=dictionary.d_in,
        d_sae=dictionary.d_sae,
        sha256=object_digest(dictionary),
    )


__all__ = [
    "FORMATS",
    "Contents",
    "Format",
    "Known",
    "Loaded",
    "Parts",
    "formats",
    "known_of",
    "load",
    "load_object",
]
