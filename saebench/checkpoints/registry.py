"""What SAELens' registry knows of a repository and that the repository itself does not say."""

from dataclasses import dataclass
from typing import Any

from saebench.checkpoints.base import Parts
from saebench.checkpoints.origin import Origin
from saebench.errors import CheckpointError, unknown


@dataclass(frozen=True)
class Entry:
    """One SAE of the registry."""

    release: str
    sae_id: str
    repository: str
    path: str
    """Folder or file inside the repository."""
    conversion: str | None
    """SAELens' name of the layout; None is its own."""
    model: str
    overrides: dict[str, Any]
    """Settings that take the place of the config's."""
    factor: float | None
    """The constant input scale."""


def named(spec: str) -> Entry:
    """The entry `release/sae_id`.

    Raises:
        CheckpointError: for an unknown release or id, with the nearest names.
    """
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    release, sae_id = spec.split("/", 1)
    directory = get_pretrained_saes_directory()
    if release not in directory:
        raise CheckpointError(
            f"{spec} is no path here and no SAE of SAELens' registry."
            f" {_shortened('release', release, list(directory))} A repository on the hub is written"
            " hf://owner/repo/path."
        )
    if sae_id not in directory[release].saes_map:
        known = list(directory[release].saes_map)
        raise CheckpointError(
            _shortened("sae_id", sae_id, known) + f" It is looked up in release {release!r}."
        )
    return _entry(directory[release], sae_id)


def of(origin: Origin) -> Entry | None:
    """The entry that a path in the hub's cache belongs to; None where the registry has none."""
    if origin.repository is None:
        return None
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    inside = "/".join(origin.parts)
    found = [
        (release, sae_id)
        for release in get_pretrained_saes_directory().values()
        if release.repo_id == origin.repository
        for sae_id, path in release.saes_map.items()
        if inside == path or inside.startswith(f"{path}/") or path in (".", "")
    ]
    return _entry(*found[0]) if found else None


def completed(parts: Parts, entry: Entry | None) -> Parts:
    """The same with what the registry alone knows: centring, input scale, hook point, model."""
    if entry is None:
        return parts
    metadata, config, said = dict(parts.metadata), dict(parts.config), []
    kwargs = entry.overrides.get("model_from_pretrained_kwargs")
    if kwargs and "model_from_pretrained_kwargs" not in metadata:
        metadata["model_from_pretrained_kwargs"] = kwargs
        said.append(f"model loaded with {', '.join(sorted(kwargs))}")
    normalization = entry.overrides.get("normalize_activations")
    if normalization and config.get("normalize_activations", "none") == "none":
        config["normalize_activations"] = normalization
        said.append(f"activations normalised ({normalization})")
    factor = parts.factor
    if factor is None and entry.factor and config.get("normalize_activations") == "expected_average_only_in":
        factor = entry.factor
        said.append(f"input scale {factor:g}")
    known = f"from SAELens' registry ({entry.release}): "
    return parts._replace(
        config=config,
        metadata=metadata,
        factor=factor,
        hook=parts.hook or entry.overrides.get("hook_name"),
        model_name=parts.model_name or entry.overrides.get("model_name") or entry.model,
        folded=(*parts.folded, *([known + ", ".join(said)] if said else [])),
    )


def _entry(release: Any, sae_id: str) -> Entry:
    return Entry(
        release.release,
        sae_id,
        release.repo_id,
        release.saes_map[sae_id],
        release.conversion_func,
        release.model,
        dict(release.config_overrides or {}),
        release.norm_scaling_factor.get(sae_id),
    )


def _shortened(what: str, seen: str, known: list[str]) -> str:
    """`unknown`, with the nearest matches and the number of names instead of hundreds of them."""
    text = unknown(what, seen, known)
    head, _, listed = text.partition(" Known: ")
    return text if len(listed) < 400 else f"{head} {len(known)} are known."
