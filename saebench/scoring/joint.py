"""Scores of joint edits: those of control, of several attributes at once (docs/methods.md §5) [PE §4.2]."""

from saebench.scoring.base import Context, Entry
from saebench.scoring.control import attribute_entries
from saebench.scoring.settings import EDIT_SIZES

AXIS = "joint"
SIZES = tuple(sorted((*EDIT_SIZES, 6)))
"""Those of control, and the paper's largest."""


def score(ctx: Context) -> tuple[None, list[Entry]]:
    """Every set of attributes that was edited, under its name (`s+pos`); there is no headline."""
    names = dict.fromkeys(key.attribute for key in ctx.outcomes.find(AXIS, "success"))
    return None, [entry for name in names for entry in attribute_entries(ctx, AXIS, name)]
