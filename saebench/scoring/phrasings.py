"""How much a headline depends on the phrasing of the prompts (docs/methods.md §2)."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Int
from scipy import stats as scipy_stats

from saebench.records.outcomes import Key, Outcomes
from saebench.scoring.base import Context, Entry, Headline
from saebench.scoring.estimates import LEVEL, Bootstrap, Estimate

NAME = "template_spread"


def phrasings(outcomes: Outcomes) -> Int[np.ndarray, "n"] | None:
    """Number of every test prompt's phrasing among those of the attributes that it asks for.

    Where each attribute is asked for in words of its own, the first phrasings of all of them go
    together, then the second ones. None with fewer than two.
    """
    template = outcomes.template.get("test")
    if template is None:
        return None
    place = np.zeros(len(template), dtype=int)
    for name in outcomes.attributes:
        asks = outcomes[Key("task", "asks", name)] > 0
        place[asks] = np.unique(template[asks], return_inverse=True)[1].reshape(-1)
    return place if place.max(initial=0) > 0 else None


def apart(ctx: Context) -> Context | None:
    """The same outcomes with one draw for every phrasing, over its prompts alone."""
    place = phrasings(ctx.outcomes)
    if place is None:
        return None
    n = int(place.max()) + 1
    boots = {
        split: Bootstrap.by_group(place if split == "test" else None, boot.n, n)
        for split, boot in ctx.bootstraps.items()
    }
    return Context(ctx.outcomes, boots)


def note_spread(
    headlines: Mapping[str, Headline], by_phrasing: Mapping[str, Headline]
) -> tuple[dict[str, Headline], list[Entry]]:
    """Standard deviation of every headline over the phrasings of `test`; one that depends is noted.

    `by_phrasing` holds the headlines that `apart` gives. With T phrasings a T-th of the prompts stands
    behind each, so √T standard errors are expected of equal phrasings; more than χ² allows is called
    dependence.
    """
    noted, entries = dict(headlines), []
    for axis, headline in headlines.items():
        value, parts = headline.value, by_phrasing[axis].value
        if isinstance(value, Estimate) and isinstance(parts, Estimate) and np.isfinite(parts.draws).all():
            note, depends = _describe(value, parts.draws)
            if depends:
                noted[axis] = replace(headline, note="; ".join(filter(None, (headline.note, note))))
            spread = value * 0.0 + float(parts.draws.std(ddof=1))
            exact = "a standard deviation over phrasings"
            entries.append(Entry(axis, NAME, spread, headline.n, direction="none", exact=exact, note=note))
    return noted, entries


def _describe(value: Estimate, parts: np.ndarray) -> tuple[str, bool]:
    """The range over phrasings in words, and whether it is more than prompts explain."""
    t, shown = len(parts), f"{parts.min():.3f} to {parts.max():.3f} over {len(parts)} phrasings"
    expected = np.sqrt(t) * value.standard_error
    limit = expected * np.sqrt(scipy_stats.chi2.ppf(LEVEL, t - 1) / (t - 1))
    if expected > 0 and parts.std(ddof=1) > limit:
        return f"depends on the phrasing: {shown}, where prompts alone spread by {expected:.3f}", True
    return shown, False
