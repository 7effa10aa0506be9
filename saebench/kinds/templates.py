"""Phrasings of a task as a facet of its noise: which are held out, which a model can do.

docs/methods.md §2. A score on one phrasing is a score of that phrasing. So `test` asks in other words than
`fit` and `select` do, every prompt keeps the number of its template, and templates on which a model
does not do the task are left out for that model, counted and named.
"""

from collections.abc import Sequence
from typing import NamedTuple

ABLE = 0.8
"""Share of a template's prompts that must be right, by LD > 0 and by arg-max over the vocabulary."""
FEWEST = 2
"""Templates that `fit` and `test` each need, unless the task itself lists fewer."""


class TemplateSkill(NamedTuple):
    """How well a model does on one phrasing, over prompts of name pairs that `select` uses."""

    text: str
    held_out: bool
    """Whether only `test` uses it."""
    accuracy: float
    """Share of prompts with LD > 0; chance is ½."""
    argmax: float
    """Share of prompts whose likeliest token, of the whole vocabulary, is the right answer."""
    n: int

    @property
    def able(self) -> bool:
        return min(self.accuracy, self.argmax) >= ABLE

    @property
    def figures(self) -> str:
        return f"{self.accuracy:.0%}/{self.argmax:.0%}"


def usable(skills: Sequence[TemplateSkill]) -> tuple[int, ...]:
    """Numbers of the templates that a model can do."""
    return tuple(i for i, skill in enumerate(skills) if skill.able)


def left_out(skills: Sequence[TemplateSkill]) -> str | None:
    """A note that counts and names the templates left out; None if there are none."""
    bad = [s for s in skills if not s.able]
    if not bad:
        return None
    named = "; ".join(f"“{s.text}” {s.figures}" for s in bad)
    return (
        f"{len(bad)} of {len(skills)} templates are left out: the right answer is ahead of the other, or"
        f" the likeliest of all tokens, on less than {ABLE:.0%} of their prompts ({named})"
    )


def too_few(skills: Sequence[TemplateSkill]) -> str | None:
    """Why the templates that a model can do are not enough to score on; None if they are."""
    for held_out, use in ((False, "to fit and choose on"), (True, "held out for `test`")):
        side = [s for s in skills if s.held_out == held_out]
        able = sum(s.able for s in side)
        needed = min(FEWEST, len(side))
        if able < needed:
            shares = ", ".join(s.figures for s in side)
            return (
                f"of {len(side)} templates {use} it does {able} (right answer ahead / likeliest of all"
                f" tokens on {shares} of their prompts). Expected at least {needed} with {ABLE:.0%} of both"
            )
    return None
