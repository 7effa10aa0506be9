"""A checkpoint without its weights: what has to be known before it is scored."""

from typing import Any

from saebench.checkpoints.base import Loaded, Parts
from saebench.records.known import Known
from saebench.records.result import DictionaryInfo


def known_of(loaded: Loaded) -> Known:
    """What is known of a loaded checkpoint; without a digest where it is still to be measured."""
    info = loaded.info.model_copy(update={"sha256": ""}) if loaded.needs_factor else loaded.info
    return _known(info, loaded.hook, loaded.reads, loaded.model_name, loaded.metadata, loaded.warnings)


def known_of_parts(parts: Parts, name: str, source: str, kind: str) -> Known:
    """What the settings and the shapes of a checkpoint say."""
    rows = parts.state.get("W_dec")
    d_sae, d_in = (int(n) for n in rows.shape) if rows is not None and rows.ndim == 2 else (0, 0)
    info = DictionaryInfo(
        name=name,
        source=source,
        format=kind,
        architecture=str(parts.config.get("architecture")),
        training_architecture=parts.training_architecture,
        d_in=d_in,
        d_sae=d_sae,
        sha256="",
    )
    return _known(info, parts.hook, parts.reads, parts.model_name, parts.metadata, parts.warnings)


def _known(info: DictionaryInfo, hook: Any, reads: Any, model: Any, metadata: Any, warnings: Any) -> Known:
    bos = metadata.get("prepend_bos")
    return Known(
        info,
        hook,
        reads,
        model,
        bos if isinstance(bos, bool) else None,
        metadata.get("saebench_task"),
        metadata.get("saebench_task_sha256"),
        tuple(warnings),
    )
