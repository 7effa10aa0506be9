"""Tables of cause and isolate by method, read from results (docs/methods.md §5)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from rich.table import Table

from saebench.records.result import Result, Score
from saebench.reporting.text import interval, number
from saebench.scoring.disentangle import FELL_BACK, NOT_MEDIATED, OWN
from saebench.site import Site

REFERENCES = {
    "none": "no edit",
    "source": "full source patch",
    "das": "DAS (cause and isolate)",
    "das_single": "DAS (cause alone)",
    "mse": "supervised mse",
    "mean": "supervised mean",
    "neurons_mask": "neurons + mask",
    "pca_mask": "PCA + mask",
}
VARIANTS = {
    "mask": "mask",
    "mask_no_error": "without error term",
    "random_live": "random live latents",
    "identity_swap": "identity swap",
    "full": "all latents",
}
LABELS = REFERENCES | VARIANTS
CONTRASTS = ("mask-random_live", "neurons_mask-mask", "das-mask")
CONTRAST_CAPTION = (
    "Same prompts, same resamples. An interval that excludes 0 is a credible difference, before any"
    " correction for their number."
)
PLANTED_CAPTION = (
    "Angles: principal angles, smallest first. Carried: share of the change in the planted subspace that"
    " the swap reproduces. Leaked: size of its change in the others', as a share of the whole source's."
)
SIZES = (1, 2, 4, 8, 16, 32)


class Method(NamedTuple):
    """One way to edit at one site, with its scores by (name, attribute); attribute None is the mean."""

    label: str
    family: str
    edit: str
    k: int | None
    scores: dict[tuple[str, str | None], Score]

    def get(self, name: str, attribute: str | None = None) -> Score | None:
        return self.scores.get((name, attribute))


def measured(result: Result) -> bool:
    """Whether the result holds cause and isolate at all."""
    return any(s.name == "isolate" and s.edit == "das" for s in result.scores)


def attributes(result: Result) -> list[str]:
    """Attributes of the task in order."""
    names = [s.attribute for s in result.scores if s.name == "cause" and s.edit == "source"]
    return [name for name in names if name]


def method(result: Result, edit: str, label: str, family: str, k: int | None = None) -> Method | None:
    """The scores of one kind of edit, or None if it was not made."""
    found = {
        (s.name, s.attribute): s
        for s in result.scores
        if s.axis == "control"
        and s.edit == edit
        and s.k == k
        and s.name in ("cause", "isolate", "disentangle", "mask_size", "das_rank")
    }
    return Method(label, family, edit, k, found) if ("disentangle", None) in found else None


def references(result: Result) -> list[Method]:
    """What every dictionary at the site is read against; the same in all its results."""
    found = (method(result, edit, label, "reference") for edit, label in REFERENCES.items())
    return [one for one in found if one is not None]


def own(result: Result) -> Method | None:
    """The edit that heads a result."""
    family = result.dictionary.kind
    found = (method(result, edit, result.dictionary.name, family) for edit in OWN)
    return next((one for one in found if one is not None), None)


def methods(results: Sequence[Result]) -> list[Method]:
    """References, then every SAE's and control's own edit.

    What only edits and what sees labels (DAS, supervised dictionaries) is among the references already.
    """
    already = ("intervention", "labelled")
    mine = (own(result) for result in results if result.dictionary.kind not in already)
    return references(results[0]) + [one for one in mine if one is not None]


def by_site(results: Iterable[Result]) -> dict[tuple[str, str, str, str, int], list[Result]]:
    """Results with cause and isolate, by model, task, site, budget and seed; sites as they are computed."""
    found: dict[tuple[str, str, str, str, int], list[Result]] = {}
    for r in results:
        if measured(r):
            found.setdefault((r.model.name, r.task.name, r.site, r.budget, r.seed), []).append(r)
    order = sorted(found, key=lambda key: (*key[:2], *key[3:], Site.parse(key[2]).sort_key()))
    return {key: found[key] for key in order}


def cell(score: Score | None) -> str:
    """Value and interval, or a dash."""
    if score is None or score.value is None:
        return "–"
    return f"{number(score.value)} {interval(score.ci)}".strip()


def tables(results: Iterable[Result]) -> Iterator[Table]:
    """Every method's cause, isolate and disentangle; then what changes each SAE's."""
    for group in by_site(results).values():
        yield method_table(group)
        yield from planted_table(group[0])
        variants = variant_table(group)
        if variants.row_count:
            yield variants
        contrasts = contrast_table(group)
        if contrasts.row_count:
            yield contrasts


def method_table(group: Sequence[Result]) -> Table:
    """One row a method: means over the mediated attributes, then `cause / isolate` of each."""
    first, names = group[0], attributes(group[0])
    table = Table(
        title=f"{first.task.name} · cause and isolate at {first.site}",
        title_justify="left",
        pad_edge=False,
        caption=_caption(first),
        caption_justify="left",
    )
    for column in ("method", "cause", "isolate", "disentangle", *names, "latents or rank"):
        table.add_column(column, overflow="fold")
    for one in methods(group):
        table.add_row(
            one.label,
            *(cell(one.get(n)) for n in ("cause", "isolate", "disentangle")),
            *(_pair(one, name) for name in names),
            _size(one, names),
        )
    return table


def _pair(one: Method, attribute: str) -> str:
    pair = (one.get("cause", attribute), one.get("isolate", attribute))
    shown = " / ".join("–" if s is None or s.value is None else number(s.value) for s in pair)
    marked = one.edit == "source" and pair[0] is not None and pair[0].note == NOT_MEDIATED
    return f"{shown} ({NOT_MEDIATED})" if marked else shown


def _size(one: Method, names: Sequence[str]) -> str:
    """Latents of each attribute's mask, or rank of its rotation; ∅ where the mask fell back."""
    shown = []
    for name in names:
        score = one.get("mask_size", name) or one.get("das_rank", name)
        if score is not None and score.value is not None:
            shown.append("∅" if score.note == FELL_BACK else f"{score.value:.0f}")
    return " · ".join(shown)


def _caption(result: Result) -> str:
    published = next((s for s in result.scores if s.name == "disentangle_published"), None)
    shares = [
        f"{s.attribute} {s.value:.1%}" for s in result.scores if s.name == "kept" and s.value is not None
    ]
    said = "Means over the attributes mediated here; per attribute cause / isolate. ∅: the empty mask."
    if published is not None:
        said += f" No edit under the published convention, pairs unfiltered: {cell(published)}."
    return said + (f" Prompts answered rightly: {', '.join(shares)}." if shares else "")


def planted_table(result: Result) -> Iterator[Table]:
    """DAS against the subspaces that are known to carry the attributes; no table where none is."""
    found = {(s.name, s.attribute, s.k): s for s in result.scores if s.name.startswith("das_")}
    names = [name for name in attributes(result) if ("das_overlap", name, None) in found]
    if not names:
        return
    table = Table(
        title="DAS against the planted subspaces",
        title_justify="left",
        pad_edge=False,
        caption=PLANTED_CAPTION,
        caption_justify="left",
    )
    for column in ("attribute", "rank", "overlap (by chance)", "carried", "leaked", "angles"):
        table.add_column(column, overflow="fold")
    for name in names:
        share, rank = found["das_overlap", name, None], found["das_rank", name, None]
        carried = found["das_carried", name, None]
        leaked = [
            f"{other} {found[key].value:.2f}"
            for other in attributes(result)
            if (key := ("das_leaked", f"{name}>{other}", None)) in found
        ]
        angles = [
            f"{s.value:.0f}°" for (score, a, _), s in found.items() if score == "das_angle" and a == name
        ]
        table.add_row(
            name,
            f"{rank.value:.0f}",
            f"{share.value:.2f} ({share.floor:.2f})",
            f"{carried.value:.2f}",
            ", ".join(leaked),
            " ".join(angles),
        )
    yield table


def variant_table(group: Sequence[Result]) -> Table:
    """One row an SAE or control: disentangle by variant, and by number of latents for aware edits."""
    table = Table(title="disentangle by choice of latents", title_justify="left", pad_edge=False)
    table.add_column("dictionary", overflow="fold", min_width=18)
    for column in (*VARIANTS.values(), *(f"aware {k}" for k in SIZES)):
        table.add_column(column, overflow="fold")
    for result in group:
        if method(result, "mask", "", "") is None:
            continue
        found = [
            method(result, edit, "", "", -1 if edit == "full" else None) or method(result, edit, "", "")
            for edit in VARIANTS
        ]
        curve = [method(result, "aware", "", "", k) for k in SIZES]
        shown = [cell(one.get("disentangle") if one else None).replace(" [", "\n[", 1) for one in found]
        short = [cell(one.get("disentangle") if one else None).split(" ")[0] for one in curve]
        table.add_row(result.dictionary.name, *shown, *short)
    return table


def contrast_table(group: Sequence[Result]) -> Table:
    """Paired differences: of the supervised dictionaries once, then of every SAE's or control's mask."""
    table = Table(
        title="paired differences, first − second",
        title_justify="left",
        pad_edge=False,
        caption=CONTRAST_CAPTION,
        caption_justify="left",
    )
    for column in ("dictionary", "first − second", "cause", "isolate", "disentangle"):
        table.add_column(column, overflow="fold", min_width=18 if column == "dictionary" else None)
    shared = ("mse-mean", "das-neurons_mask")
    for edit in shared:
        _contrast_row(table, group[0], "any (references)", edit)
    for result in group:
        for edit in CONTRASTS:
            _contrast_row(table, result, result.dictionary.name, edit)
    return table


def _contrast_row(table: Table, result: Result, name: str, edit: str) -> None:
    found = {
        s.name.removesuffix("_difference"): s
        for s in result.scores
        if s.edit == edit and s.name.endswith("_difference")
    }
    if found:
        first, _, second = edit.partition("-")
        both = " − ".join(LABELS.get(part, part) for part in (first, second))
        table.add_row(name, both, *(cell(found.get(n)) for n in ("cause", "isolate", "disentangle")))
