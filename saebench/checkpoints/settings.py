"""The loader's rule for settings: what changes the function and is not understood is never dropped."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

# Parts of names of settings that change what an SAE computes, in the configs that tools write.
_FUNCTION = re.compile(
    r"(^|_)(k|top_?k|norm\w*|scal\w*|rescal\w*|factor|bias|act_?fn|activation\w*|nonlinearity|threshold\w*"
    r"|cent\w+|mean|std|whiten\w*|skip\w*|affine\w*|transcod\w*|tied|glu|temperature|groups?|subtract\w*)(_|$)"
)
# Settings with such names that only training, data or memory depend on.
_TRAINING = re.compile(
    r"^(l1|l0|lp|lr|mse|adam|aux|decoder|dead|dataset|log|wandb|train\w*|init\w*|sparsity|n|warm\w*|resample\w*"
    r"|eval|checkpoint\w*|context|buffer|batch|store|noise|target|feature|use|ghost|autocast|compile|b_dec_init"
    r"|jumprelu|threshold_(beta|start_step|window)|normalize_sae_decoder|normalize_decoder|scale_sparsity_penalty"
    r"|activation_store|multi)(_|$)|_(init|coefficient|penalty|method|bandwidth|window|lr|steps?|norm_loss|path"
    r"|dtype|device|dim|alpha|decay)($|_)|by_decoder_norm$"
)
_OFF: tuple[Any, ...] = (None, False, "", "none", "None", "null")


def not_understood(config: Mapping[str, Any], understood: Iterable[str]) -> list[str]:
    """A warning for settings that look as if they change the function and that no reader knows.

    Settings that are off (None, false, empty, "none"; a factor of 1) change nothing.
    """
    known = set(understood)
    odd = {
        key: value
        for key, value in config.items()
        if key not in known
        and _FUNCTION.search(key)
        and not _TRAINING.search(key)
        and not _is_off(key, value)
    }
    if not odd:
        return []
    shown = ", ".join(f"{key} {str(value)[:40]!r}" for key, value in sorted(odd.items()))
    return [f"settings not understood, which may change the function: {shown}"]


def _is_off(key: str, value: Any) -> bool:
    if isinstance(value, float | int) and not isinstance(value, bool) and re.search("scal|factor", key):
        return value == 1
    return value in _OFF if isinstance(value, str | bool | None) else value in ({}, [])


def ignored(names: Iterable[str]) -> list[str]:
    """A warning for tensors that a reader has no use for."""
    listed = sorted(names)
    return [f"ignored tensors: {', '.join(listed[:12])}"] if listed else []
