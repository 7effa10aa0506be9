"""Scores of several sites: axes that read one site are scored at each, then averaged (docs/methods.md §2)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from saebench.scoring.axes import EVERY
from saebench.scoring.base import Entry, Headline, Scored
from saebench.scoring.estimates import Estimate, Maybe, Undefined

LISTED = 6
"""Sites whose own numbers are named in a note."""


def averaged(whole: Scored, parts: Mapping[str, Scored]) -> Scored:
    """The scores of the joint edit, with the means over the sites of what each is scored on by itself."""
    own = [name for name, axis in EVERY.items() if axis.per_site]
    axes = {
        name: _headline({site: part.axes[name] for site, part in parts.items()}) if name in own else headline
        for name, headline in whole.axes.items()
    }
    entries = [entry for entry in whole.entries if entry.axis not in own]
    same: dict[tuple, list[Entry]] = {}
    for part in parts.values():
        for entry in part.entries:
            if entry.axis in own:
                same.setdefault(entry.identity, []).append(entry)
    return Scored(axes, entries + [_entry(each, len(parts)) for each in same.values()])


def _headline(parts: Mapping[str, Headline]) -> Headline:
    """Mean of value, floor and ceiling over the sites at which the normalised number exists."""
    defined = {site: h for site, h in parts.items() if isinstance(h.normalized, Estimate)}
    if not defined:
        return next(iter(parts.values()))
    note = f"mean over {len(defined)} of {len(parts)} sites"
    if len(parts) <= LISTED:
        shown = (
            f"{float(h.value):.3f} at {site}" for site, h in defined.items() if isinstance(h.value, Estimate)
        )
        note += f": {', '.join(shown)}"
    each = list(defined.values())
    bounds = (mean([getattr(h, name) for h in each]) for name in ("value", "floor", "ceiling"))
    return Headline(*bounds, n=min(h.n for h in each), note=note)


def _entry(each: Sequence[Entry], n_sites: int) -> Entry:
    """Mean over the sites that have the score."""
    changed = [entry.n_changed for entry in each if entry.n_changed is not None]
    note = None if len(each) == n_sites else f"of {len(each)} of {n_sites} sites"
    return replace(
        each[0],
        value=mean([entry.value for entry in each]),
        floor=None if each[0].floor is None else mean([e.floor for e in each if e.floor is not None]),
        ceiling=None if each[0].ceiling is None else mean([e.ceiling for e in each if e.ceiling is not None]),
        n_changed=sum(changed) / len(changed) if changed else None,
        n=min(entry.n for entry in each),
        note=note or each[0].note,
    )


def mean(numbers: Sequence[Maybe]) -> Maybe:
    """Mean of those that are defined; the first reason if none is."""
    defined = [number for number in numbers if isinstance(number, Estimate)]
    if not defined:
        return next(number for number in numbers if isinstance(number, Undefined))
    total = defined[0]
    for number in defined[1:]:
        total = total + number
    # of one site it is that site's own number, with all it knows of itself
    return total if len(defined) == 1 else total / len(defined)
