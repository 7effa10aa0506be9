"""Names of tensors as wrappers and shards leave them: prefixes that all share, files that belong together."""

import re
from dataclasses import replace
from pathlib import Path

from saebench.checkpoints.base import Weights
from saebench.errors import CheckpointError

_SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<total>\d{5})(?P<suffix>\.[a-z]+)")
# One of these stands in every SAE; a prefix counts only in front of it.
_DECODER = re.compile(
    r"(?P<prefix>.*\.)?(W_dec|w_dec|W_D|decoder(_linear)?\.weight|decoder\.linear\.weight|D)"
)


def without_prefix(weights: Weights) -> Weights:
    """The same without a prefix that all names share: `torch.compile`'s, DDP's, a parent module's."""
    found = [m["prefix"] for m in map(_DECODER.fullmatch, weights.tensors) if m and m["prefix"]]
    prefix = found[0] if len(set(found)) == 1 else ""
    if not prefix or not all(name.startswith(prefix) for name in weights.tensors):
        return weights
    tensors = {name.removeprefix(prefix): info for name, info in weights.tensors.items()}
    return replace(weights, tensors=tensors, prefix=prefix)


def several(weights: Weights) -> list[str]:
    """Names of the SAEs that one file holds side by side; empty where it holds one."""
    found = {m["prefix"] for m in map(_DECODER.fullmatch, weights.tensors) if m and m["prefix"]}
    return sorted(name.rstrip(".") for name in found) if len(found) > 1 else []


def joined(files: list[Weights]) -> list[Weights]:
    """The same with `…-00001-of-00003` and its sisters as one.

    Raises:
        CheckpointError: if one of them is not there.
    """
    whole: list[Weights] = []
    shards: dict[tuple[str, str, int], dict[int, Weights]] = {}
    for weights in files:
        match = _SHARD.fullmatch(weights.path.name)
        if match is None:
            whole.append(weights)
            continue
        key = (match["stem"], match["suffix"], int(match["total"]))
        shards.setdefault(key, {})[int(match["number"])] = weights
    return whole + [_join(*key, found) for key, found in shards.items()]


def _join(stem: str, suffix: str, total: int, found: dict[int, Weights]) -> Weights:
    first = next(iter(found.values()))
    missing = sorted(set(range(1, min(total, 10_000) + 1)) - found.keys())
    if missing and total > 1:
        raise CheckpointError(
            f"{first.path.parent}: {len(found)} of {total} shards of {stem}{suffix} are there; number"
            f" {missing[0]} is not. Fetch all of them."
        )
    ordered = tuple(found[number] for number in sorted(found))
    tensors = {name: info for shard in ordered for name, info in shard.tensors.items()}
    return Weights(Path(first.path.parent / f"{stem}{suffix}"), first.kind, tensors, shards=ordered)
