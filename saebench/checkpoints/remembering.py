"""A checkpoint without its weights: what is remembered of it."""

from saebench.checkpoints.base import Loaded
from saebench.records.memo import Known


def known_of(loaded: Loaded) -> Known:
    """What is known of a loaded checkpoint; without a digest where it is still to be measured."""
    info = loaded.info.model_copy(update={"sha256": ""}) if loaded.needs_factor else loaded.info
    bos = loaded.metadata.get("prepend_bos")
    return Known(
        info,
        loaded.hook,
        loaded.reads,
        loaded.model_name,
        bos if isinstance(bos, bool) else None,
        loaded.metadata.get("saebench_task"),
        loaded.metadata.get("saebench_task_sha256"),
        loaded.warnings,
    )
