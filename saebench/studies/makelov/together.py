"""Edits of single attributes, of position and subject, and of all three, by the joint axis [PE §4.2]."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from saebench.axes import MEASURES
from saebench.dictionary import Scorable
from saebench.records.outcomes import Outcomes
from saebench.scoring import Context, joint
from saebench.scoring.base import Entry
from saebench.studies.makelov.stage import Stage, cells
from saebench.studies.rows import Row

SETS = ("io", "s", "pos", "s+pos", "io+s+pos")
"""What is changed together; single attributes for comparison, by the same source as in control."""
COLUMNS = {"edit_success": "success", "edit_effect": "ld_moved", "edit_fidelity": "fidelity"}
REFERENCES = ("none", "source", "supervised")
EDITS = ("agnostic", "aware", "permuted", "full")


def rows(stage: Stage, names: Sequence[str]) -> Iterator[Row]:
    """Every edit of every set: how often it succeeds, how far LD and the answers follow the source."""
    subjects = stage.subjects(names)
    for number, (row, subject) in enumerate(subjects):
        scored = score(stage, subject.dictionary)
        if not number:
            yield from _rows(stage.row("reference"), scored, REFERENCES)
        yield from _rows(row, scored, EDITS)


def score(stage: Stage, scorable: Scorable) -> list[Entry]:
    """The scores of a dictionary on the joint axis alone."""
    bench = replace(stage.bench, measures={joint.AXIS: MEASURES[joint.AXIS]})
    out: Outcomes = bench.measure(scorable, stage.arena.options.seed)
    return joint.score(Context.of(out, stage.arena.options.seed))[1]


def _rows(begun: Row, scored: Sequence[Entry], edits: Sequence[str]) -> Iterator[Row]:
    """One row an edit, of the three scores that it has."""
    found: dict[tuple[str | None, str | None, int | None], Row] = {}
    for entry in scored:
        if entry.edit in edits and entry.name in COLUMNS:
            key = (entry.attribute, entry.edit, entry.k)
            changed = "" if entry.n_changed is None else entry.n_changed
            named = {"attributes": entry.attribute, "edit": entry.edit, "k": entry.k or 0}
            blank = {f"{name}{end}": "" for name in COLUMNS.values() for end in ("", "_low", "_high")}
            row = found.setdefault(key, {**begun, **named, "n_changed": changed, **blank})
            row |= cells(COLUMNS[entry.name], entry.value)
    yield from found.values()
