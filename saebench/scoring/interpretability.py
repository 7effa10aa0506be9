"""Interpretability scores from outcomes (docs/methods.md §6) [ours; PE §5]."""

from saebench.records.outcomes import ACTIVE, Key
from saebench.scoring import control, read_write
from saebench.scoring.approximation import recovered
from saebench.scoring.base import Context, Entry, Headline
from saebench.scoring.causal import weighted_mean
from saebench.scoring.detection import Detection, detect, key_fact, null, null_spread, properties, scalar
from saebench.scoring.estimates import Estimate, Maybe, Undefined, constant_like
from saebench.scoring.read_write import CEILING, NULL, ReadWrite

AXIS = "interpretability"
EXPLAINED_AT = 0.8
MATCHED_AT = (0.4, 0.6, 0.8)
"""F1* from which a latent counts as matching, for the causal check."""
THRESHOLDS = (0.5, 0.8)


def score(ctx: Context) -> tuple[Headline, list[Entry]]:
    entries = _read_write(ctx)
    for name in properties(ctx):
        detection = detect(ctx, AXIS, name)
        if detection is not None:
            entries += _property_entries(ctx, name, detection)
    entries += [*_explained(ctx), *_causal_check(ctx), *_interchange(ctx)]
    return read_write.headline(ctx, lambda found: found.read_write), entries


def _read_write(ctx: Context) -> list[Entry]:
    """Every attribute's numbers, then the means of which one is the headline."""
    entries, above = [], {}
    for name in ctx.outcomes.attributes:
        own, null, best = (read_write.read(ctx, name, edit) for edit in ("", NULL, CEILING))
        if isinstance(own, Undefined):
            entries.append(Entry(AXIS, "read_write", own, ctx.test.n, name))
            continue
        assert isinstance(null, ReadWrite) and isinstance(best, ReadWrite)
        above[name] = read_write.above_null(own.purity, null.purity)
        entries += _entries(ctx, name, own, null, best, above[name])
    if read_write.scored(ctx):
        chosen = read_write.weighed(ctx)
        own, null, best = (read_write.means(ctx, chosen, edit) for edit in ("", NULL, CEILING))
        nothing = constant_like(own.written, 0.0)
        each = [found if isinstance(found := above.get(n), Estimate) else nothing for n in chosen]
        calibrated = weighted_mean(each, [one.weight for one in chosen.values()])
        entries += _entries(ctx, None, own, null, best, calibrated)
    return entries


def _entries(
    ctx: Context, name: str | None, own: ReadWrite, null: ReadWrite, best: ReadWrite, above: Maybe
) -> list[Entry]:
    n, note = ctx.test.n, _cut(ctx)

    def entry(score: str, value: Maybe, floor: Maybe, ceiling: Maybe) -> Entry:
        return Entry(AXIS, score, value, n, name, floor=floor, ceiling=ceiling, note=note)

    return [
        entry("read_write", own.read_write, null.read_write, best.read_write),
        entry("written", own.written, null.written, best.written),
        entry("purity", own.purity, null.purity, best.purity),
        Entry(AXIS, "purity_above_null", above, n, name, note=note),
        entry("specific", own.specific, null.specific, best.specific),
    ]


def _cut(ctx: Context) -> str | None:
    """Said wherever detectors have thresholds of their own."""
    count = key_fact(ctx, AXIS, "cut_latents") or 0
    return f"{count:.0f} latents detect at a threshold chosen on select" if count else None


def _property_entries(ctx: Context, name: str, found: Detection) -> list[Entry]:
    n = ctx.test.n
    star = found.mean(found.f1_star)
    dropped = key_fact(ctx, AXIS, "dropped_values", name)
    rare = f"{dropped:.0f} values too rare to score" if dropped else None
    note = "; ".join(filter(None, [found.note, rare, _cut(ctx)])) or None
    floor = ceiling = None
    if Key(AXIS, "null", name, k=0) in ctx.outcomes.facts:
        floor, ceiling = scalar(null(ctx, name), star), scalar(1.0, star)
    out = [
        Entry(AXIS, "f1_star", star, n, name, floor=floor, ceiling=ceiling, note=note),
        Entry(AXIS, "f1", found.mean(found.f1), n, name, note=note),
    ]
    for t in THRESHOLDS:
        out.append(Entry(AXIS, f"coverage@{t}", found.coverage(t), n, name, note=note))
    if floor is not None:
        spread = f"standard deviation over permutations {null_spread(ctx, name):.3g}"
        out.append(
            Entry(
                AXIS,
                "permuted_f1_star",
                floor,
                n,
                name,
                direction="none",
                exact=f"a mean over label permutations; {spread}",
            )
        )
    return out


def _explained(ctx: Context) -> list[Entry]:
    """Share of active latents that match something; the sample is the latents."""
    name, key = f"explained_latents@{EXPLAINED_AT}", Key(AXIS, "explained", split=ACTIVE)
    if key not in ctx.outcomes or not len(ctx.outcomes[key]):
        return [Entry(AXIS, name, Undefined("no latent is active on the task"), 0)]
    return [Entry(AXIS, name, ctx.mean(key), ctx.bootstraps[ACTIVE].n)]


def _causal_check(ctx: Context) -> list[Entry]:
    n, entries = ctx.test.n, []
    for threshold in MATCHED_AT:
        k = round(100 * threshold)
        matched = key_fact(ctx, AXIS, "matched_latents", k=k) or 0
        note = f"{matched:.0f} latents match a property at F1* ≥ {threshold}"
        keep, remove = (recovered(ctx, Key(AXIS, "ld", edit=edit, k=k)) for edit in ("keep", "remove"))
        entries += [
            Entry(AXIS, "kept_ld", keep, n, edit="keep", k=k, note=note),
            Entry(AXIS, "removed_ld", remove, n, edit="remove", k=k, direction="lower", note=note),
        ]
    return entries


def _interchange(ctx: Context) -> list[Entry]:
    """How far LD follows the source when the matching latents take its codes, and when all others do."""
    entries = []
    for key in ctx.outcomes.find(AXIS, "ld"):
        if key.attribute:
            better = "higher" if key.edit == "matched" else "lower"
            value = control.ld_effect(ctx, key)
            entries.append(
                Entry(
                    AXIS,
                    "interchange_ld",
                    value,
                    ctx.n(key.attribute),
                    key.attribute,
                    key.edit,
                    key.k,
                    direction=better,
                )
            )
    return entries
