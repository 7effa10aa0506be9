"""What RAVEL and SAE-Ravel found of learned masks and rotations (arXiv 2402.17700, 2409.04478), on one board."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from saebench.scoring.estimates import Maybe, Undefined
from saebench.studies.real.statements import Row, Statement, above, below, difference, entry, mean, shown

SCORES = ("disentangle", "cause", "isolate")
EDITS = {
    "none": "no edit",
    "source": "the whole activation",
    "das": "DAS",
    "das_single": "DAS on cause alone",
    "mse": "supervised, mse",
    "mean": "supervised, mean",
    "neurons_mask": "mask of neurons",
    "pca_mask": "mask of principal components",
}

SAES, RANDOM = "SAEs", "as many random latents"


class Finding(NamedTuple):
    """What a paper found: one method disentangles better than another, or no better."""

    paper: str
    first: str
    second: str
    better: bool = True


FINDINGS = (
    Finding("DAS disentangles, over all facts", "DAS", "no edit"),
    Finding("DAS disentangles better than SAEs", "DAS", SAES),
    Finding("DAS disentangles better than neurons", "DAS", "mask of neurons"),
    Finding("DAS trained on cause and isolate beats DAS on cause alone", "DAS", "DAS on cause alone"),
    Finding(
        "A mask over an SAE's latents disentangles no better than one over neurons",
        SAES,
        "mask of neurons",
        False,
    ),
    Finding(
        "A mask over an SAE's latents disentangles no better than one over principal components",
        SAES,
        "mask of principal components",
        False,
    ),
    Finding("Masks over SAEs disentangle better than random ones", SAES, RANDOM),
    Finding("Masks over SAEs disentangle better than no edit", SAES, "no edit"),
)


def attributes(rows: Sequence[Row]) -> list[str]:
    """Facts that are asked for; none for tasks without cause and isolate."""
    named = [e.attribute for e in rows[0].scored.entries if (e.name, e.edit) == ("cause", "none")]
    return [name for name in named if name]


def methods(rows: Sequence[Row], score: str) -> dict[str, Maybe]:
    """A score of every method, over the attributes that the site holds; of SAEs their mean."""
    found = {told: entry(rows[0], "control", score, edit=edit) for edit, told in EDITS.items()}
    saes = [row for row in rows if row.result.dictionary.kind == "sae"]
    for told, edit in ((SAES, "mask"), (RANDOM, "random_live")):
        found[told] = mean(entry(row, "control", score, edit=edit) for row in saes)
    return found


def sae_ravel(rows: Sequence[Row]) -> Iterator[Statement]:
    """Findings of arXiv 2402.17700 and 2409.04478: learned masks against each other and against rotations."""
    measured = methods(rows, "disentangle")
    for paper, first, second, better in FINDINGS:
        value = difference(measured[first], measured[second])
        yield Statement(paper, f"disentangle, {first} − {second}", value, (above if better else below)(0.0))
    for name in attributes(rows):
        das, none = (entry(rows[0], "control", "disentangle", name, edit) for edit in ("das", "none"))
        value = difference(das, none)
        yield Statement(f"DAS disentangles {name}", "disentangle, DAS − no edit", value, above(0.0))


def differences_table(rows: Sequence[Row]) -> str:
    """What a difference in disentangle is made of: cause, and isolate; empty for tasks without them."""
    if not attributes(rows):
        return ""
    by_score = {score: methods(rows, score) for score in SCORES}
    lines = ["| paired difference | " + " | ".join(SCORES) + " |", "|---|" + "---|" * len(SCORES)]
    for _, first, second, _ in FINDINGS:
        values = [difference(by_score[score][first], by_score[score][second]) for score in SCORES]
        if not isinstance(values[0], Undefined):
            lines.append(f"| {first} − {second} | " + " | ".join(shown(v) for v in values) + " |")
    return "\n".join(lines)


def edits_table(rows: Sequence[Row]) -> str:
    """Cause and isolate of every method, which a board's one headline hides; empty for tasks without them."""
    listed = attributes(rows)
    if not listed:
        return ""
    lines = ["| edit | disentangle | cause | isolate | " + " | ".join(listed) + " |"]
    lines.append("|---|---|---|---|" + "---|" * len(listed))

    def add(told: str, row: Row, edit: str) -> None:
        over = [entry(row, "control", name, edit=edit) for name in SCORES]
        each = [entry(row, "control", "disentangle", name, edit) for name in listed]
        lines.append(f"| {told} | " + " | ".join(shown(v).split(":")[0] for v in over + each) + " |")

    for edit, told in EDITS.items():
        add(told, rows[0], edit)
    for row in (row for row in rows if row.result.dictionary.kind == "sae"):
        add(f"mask of `{row.name}`", row, "mask")
    return "\n".join(lines)
