"""Paired differences between ways to edit, on the same prompts and resamples (METHODS §3, §11)."""

from saebench.records.outcomes import Key
from saebench.scoring import disentangle as scores
from saebench.scoring.base import Context, Entry
from saebench.scoring.control import average
from saebench.scoring.estimates import Estimate

PAIRS = (
    ("mask", "random_live"),
    ("neurons_mask", "mask"),
    ("das", "mask"),
    ("das", "neurons_mask"),
    ("mse", "mean"),
)
"""First minus second. The names are kinds of edits; the edit of a score is `first-second`."""


def entries(ctx: Context) -> list[Entry]:
    """Differences of cause, isolate and disentangle, over the attributes mediated at the site."""
    here = scores.mediated(ctx)
    found = []
    for pair in PAIRS if here else ():
        sides = [_keys(ctx, edit, here) for edit in pair]
        if not all(sides):
            continue
        first, second = (_three(ctx, keys) for keys in sides)
        for name, value in first.items():
            found.append(
                Entry(
                    scores.AXIS,
                    f"{name}_difference",
                    value - second[name],
                    ctx.test.n,
                    None,
                    "-".join(pair),
                    direction="none",
                    note=f"over {', '.join(here)}, paired",
                )
            )
    return found


def _keys(ctx: Context, edit: str, attributes: list[str]) -> list[Key]:
    """The columns of a kind of edit, whether the task's or the dictionary's own; none if not made."""
    for axis in (scores.AXIS, "task"):
        keys = [Key(axis, "success", name, edit) for name in attributes]
        if all(key in ctx.outcomes for key in keys):
            return keys
    return []


def _three(ctx: Context, keys: list[Key]) -> dict[str, Estimate]:
    return {
        "cause": average([scores.cause(ctx, key) for key in keys]),
        "isolate": average([scores.isolate(ctx, key) for key in keys]),
        "disentangle": scores.disentangle(ctx, keys),
    }
