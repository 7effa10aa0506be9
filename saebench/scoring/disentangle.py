"""Cause, isolate and disentangle from outcomes (docs/methods.md §5) [RAVEL; SR; SB; MIB]."""

from dataclasses import asdict

from saebench.records.outcomes import Key
from saebench.scoring.base import Context, Direction, Entry, Headline
from saebench.scoring.control import average
from saebench.scoring.estimates import Estimate, Undefined
from saebench.scoring.settings import MASKS, PAIRS, ROTATIONS

AXIS = "disentangle"
UNDER = "control"
"""Its columns and scores stand under control, whose headline it is."""
SKYLINE = "das"
REFERENCES = ("none", "source", "das", "das_single", "mse", "mean", "neurons_mask", "pca_mask")
OWN = ("mask", "own", "intervention")
"""The edit that a row's headline is taken from: the first of these that it made."""
CONTRASTS = (
    ("mask", "random_live"),
    ("neurons_mask", "mask"),
    ("das", "mask"),
    ("das", "neurons_mask"),
    ("mse", "mean"),
)
"""First minus second. The names are kinds of edits; the edit of a score is `first-second`."""
MEDIATED = 0.5
"""Below this share of right answers under the full source patch an attribute is not edited."""
LEARNED = {"pairs": asdict(PAIRS), "mask": asdict(MASKS), "das": asdict(ROTATIONS), "mediated": MEDIATED}
"""Everything that masks and rotations are learned with."""
NOT_MEDIATED = "not mediated here"
FELL_BACK = "fell back to the empty mask: the trained one did worse than no edit on select"
TOOK_ALL = "all latents: no trained mask did better on select than swapping everything"
ORIGINS = {"fell_back": "none", "took_all": "all"}
"""Facts that say which candidate a mask is, where it is not a trained one."""
COUNT = "a count, without sampling error"
GEOMETRY = "of the rotation itself, against the planted subspace: not a mean over prompts"
PLANTED: dict[str, Direction] = {
    "das_overlap": "higher",
    "das_angle": "lower",
    "das_carried": "higher",
    "das_leaked": "lower",
}
"""Scores of DAS where the subspaces that carry the attributes are known."""
NO_ATTRIBUTE = "no attribute is mediated here: the full source patch reaches ½ for none"


def applies(ctx: Context) -> bool:
    """Whether a skyline for cause and isolate was measured at this site."""
    return all(Key("task", "success", a, SKYLINE) in ctx.outcomes for a in ctx.outcomes.attributes)


def cause(ctx: Context, key: Key) -> Estimate:
    """Edit A, right on the prompts that ask for A; in [0, 1], higher is better."""
    return _share(ctx, key, ctx.outcomes[Key("task", "asks", key.attribute)] > 0)


def isolate(ctx: Context, key: Key) -> Estimate:
    """Edit A, right on the prompts that ask for anything else; in [0, 1], higher is better."""
    return _share(ctx, key, ctx.outcomes[Key("task", "asks", key.attribute)] == 0)


def _share(ctx: Context, key: Key, where) -> Estimate:
    mean = ctx.test.mean(ctx.outcomes[key], where)
    assert isinstance(mean, Estimate), "an attribute nobody asks for is refused when it is built"
    return mean


def mediated(ctx: Context) -> list[str]:
    """Attributes whose full source patch gives the wanted answer on at least half of the prompts."""
    return [
        name
        for name in ctx.outcomes.attributes
        if float(cause(ctx, Key("task", "success", name, "source"))) >= MEDIATED
    ]


def disentangle(ctx: Context, keys: list[Key]) -> Estimate:
    """`½ (mean cause + mean isolate)` over attributes; no edit gets ½."""
    return (average([cause(ctx, k) for k in keys]) + average([isolate(ctx, k) for k in keys])) * 0.5


def score(ctx: Context) -> tuple[Headline | None, list[Entry]]:
    """Headline and scores, with paired differences; nothing where no skyline was measured."""
    if not applies(ctx):
        return None, []
    return headline(ctx), entries(ctx) + differences(ctx)


def entries(ctx: Context) -> list[Entry]:
    """Every edit's scores per attribute and over those mediated at the site, k by k."""
    found: list[Entry] = []
    for edit in REFERENCES:
        keys = [Key("task", "success", name, edit) for name in ctx.outcomes.attributes]
        if all(key in ctx.outcomes for key in keys):
            found += _edit(ctx, keys, pairs=True)
    # some edits exist only for attributes with a causal effect: the first one need not have them
    of_attribute: dict[Key, list[Key]] = {}
    for key in ctx.outcomes.find(UNDER, "success"):
        of_attribute.setdefault(key._replace(attribute=""), []).append(key)
    for keys in of_attribute.values():
        found += _edit(ctx, keys, pairs=keys[0].edit in OWN)
    return found + _published(ctx) + _counts(ctx)


def _edit(ctx: Context, keys: list[Key], pairs: bool) -> list[Entry]:
    """Cause and isolate of one kind of edit, per attribute, per pair, and over attributes."""
    here, n = mediated(ctx), ctx.test.n
    edit, k = keys[0].edit, keys[0].k if keys[0].k >= 0 else None
    found = []
    for key in keys:
        name = key.attribute
        note = None if name in here else NOT_MEDIATED
        both = (cause(ctx, key), isolate(ctx, key))
        asked = ctx.n(name)
        for score, value, of in zip(("cause", "isolate"), both, (asked, n - asked), strict=True):
            found.append(Entry(UNDER, score, value, of, name, edit, k, note=note))
        value = disentangle(ctx, [key])
        floor, top = (disentangle(ctx, [Key("task", "success", name, e)]) for e in ("none", SKYLINE))
        found.append(Entry(UNDER, "disentangle", value, n, name, edit, k, None, floor, top, note=note))
        for other in ctx.outcomes.attributes if pairs else ():
            if other != name:
                kept = _share(ctx, key, ctx.outcomes[Key("task", "asks", other)] > 0)
                of = ctx.n(other)
                found.append(Entry(UNDER, "isolate_pair", kept, of, f"{name}>{other}", edit, k))
    chosen = [key for key in keys if key.attribute in here]
    if not chosen:
        missing = Undefined(NO_ATTRIBUTE)
        return [*found, Entry(UNDER, "disentangle", missing, n, None, edit, k)]
    floor, top = (
        disentangle(ctx, [Key("task", "success", c.attribute, e) for c in chosen]) for e in ("none", SKYLINE)
    )
    over = f"over {', '.join(c.attribute for c in chosen)}"
    means = {
        "cause": average([cause(ctx, c) for c in chosen]),
        "isolate": average([isolate(ctx, c) for c in chosen]),
    }
    found += [Entry(UNDER, s, value, n, None, edit, k, note=over) for s, value in means.items()]
    value = disentangle(ctx, chosen)
    return [*found, Entry(UNDER, "disentangle", value, n, None, edit, k, None, floor, top, note=over)]


def _published(ctx: Context) -> list[Entry]:
    """No edit under the published convention, `(1 + P[same label]) / 2` over pairs as they come."""
    here = mediated(ctx)
    if not here:
        return []
    same = [_share(ctx, Key("task", "same_label", a), ctx.outcomes[Key("task", "asks", a)] > 0) for a in here]
    value = (average(same) + 1.0) * 0.5
    return [
        Entry(
            UNDER,
            "disentangle_published",
            value,
            ctx.test.n,
            None,
            "none",
            direction="none",
            note="pairs not filtered for different labels",
        )
    ]


def _counts(ctx: Context) -> list[Entry]:
    """Latents in each mask, whether it fell back; rank of each rotation, and its place if that is known."""
    found, n = [], ctx.test.n
    zero = ctx.mean(Key("task", "right", edit="clean")) * 0.0
    facts = ctx.outcomes.facts
    for key, value in facts.items():
        score, name, direction = key.score, key.attribute, PLANTED.get(key.score)
        if score == "mask_size":
            said = {"fell_back": FELL_BACK, "took_all": TOOK_ALL}
            note = next((text for f, text in said.items() if facts.get(key._replace(score=f), 0.0)), None)
            found.append(
                Entry(UNDER, score, zero + value, n, name, key.edit, direction="none", note=note, exact=COUNT)
            )
        elif score == "das_rank":
            found.append(Entry(UNDER, score, zero + value, n, name, SKYLINE, direction="none", exact=COUNT))
        elif direction is not None:
            chance = facts.get(key._replace(score=f"{score}_chance"))
            bounds = (None, None) if chance is None else (zero + chance, zero + 1.0)
            found.append(
                Entry(
                    UNDER,
                    score,
                    zero + value,
                    n,
                    name,
                    SKYLINE,
                    key.k if key.k >= 0 else None,
                    None,
                    *bounds,
                    direction=direction,
                    exact=GEOMETRY,
                )
            )
    return found


def headline(ctx: Context) -> Headline:
    """`disentangle` of the row's own edit, between no edit and DAS, over the mediated attributes."""
    n, here = ctx.test.n, mediated(ctx)
    if not here:
        missing = Undefined(NO_ATTRIBUTE)
        return Headline(missing, missing, missing, n)
    own = next((e for e in OWN if Key(UNDER, "success", here[0], e) in ctx.outcomes), None)
    assert own is not None, "every dictionary and intervention makes an edit of its own"
    value = disentangle(ctx, [Key(UNDER, "success", a, own) for a in here])
    floor, top = (disentangle(ctx, [Key("task", "success", a, e) for a in here]) for e in ("none", SKYLINE))
    return Headline(value, floor, top, n, f"disentangle over {', '.join(here)}, edit {own}")


def differences(ctx: Context) -> list[Entry]:
    """Differences of cause, isolate and disentangle, over the attributes mediated at the site."""
    here = mediated(ctx)
    found = []
    for pair in CONTRASTS if here else ():
        sides = [_keys(ctx, edit, here) for edit in pair]
        if not all(sides):
            continue
        first, second = (_three(ctx, keys) for keys in sides)
        for name, value in first.items():
            found.append(
                Entry(
                    UNDER,
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
    for axis in (UNDER, "task"):
        keys = [Key(axis, "success", name, edit) for name in attributes]
        if all(key in ctx.outcomes for key in keys):
            return keys
    return []


def _three(ctx: Context, keys: list[Key]) -> dict[str, Estimate]:
    return {
        "cause": average([cause(ctx, key) for key in keys]),
        "isolate": average([isolate(ctx, key) for key in keys]),
        "disentangle": disentangle(ctx, keys),
    }
