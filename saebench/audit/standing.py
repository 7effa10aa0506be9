"""Whether tables can carry a verdict: measured by the definitions of now, with nothing left out, as results say.

A board without its matched nulls fails nothing, and a table of an older version is judged as gladly as one
of now. What is wrong is said in sentences; an empty list is all right.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from saebench.audit.committed import definition, group_of
from saebench.audit.evidence import ABOUT, Evidence, read_about
from saebench.audit.rows import Row, Rows
from saebench.audit.thresholds import FALLS, UNMOVED
from saebench.errors import TaskError
from saebench.models.known import BUNDLED
from saebench.records import store
from saebench.records.files import safe_name, write_text
from saebench.records.provenance import identity
from saebench.records.result import Result
from saebench.scoring.axes import AXES, EVERY, versions
from saebench.spec import load_task

CHEATS = (
    "PCA and tiny detectors",
    "memorised prompts",
    "huge L0",
    "reconstruction in the bias",
    "atoms plus noise",
    "always-on latent",
    "duplicated latents",
)
"""What every board is to be tried with."""
SEARCH = "hill climb on the ordering"
"""What one board at least is to be tried with: it takes minutes."""
GROUPS = ("ceiling", "reference", *FALLS, *UNMOVED, "null-task")
"""What every board needs one of at least, beside its SAEs, their nulls and cheats."""
DRAWS = 5
"""Draws of prompts that every SAE is to be measured on, the first among them."""
SNAPSHOTS, TRAINING_SEEDS = 6, 3
"""Of the training runs that are followed."""
ALIKE = 2e-3
"""How far a number may lie from that of the committed result: machines round differently."""
SAES = ("trained", "undertrained")
MEASURED_BY = "measured_by"
"""In the note beside the tables: versions of the axes by table, for those that have no column for it."""
RODS = {"truth.csv": "recovery", "planted.csv": "subspaces"}
"""Tables of SAEs whose truth is known, and the further axis that recovery is measured by."""
UNSAID = "versions that it does not name"
WEIGHTS = "weights"
"""In the same note: the digest of the bundled weights, by the tables that are measured on them."""
_MODEL = f"{BUNDLED.name}/*.safetensors"
MEASURED_ON = {"boards.parquet": (_MODEL, "saes/*/*.safetensors"), "trajectory.parquet": (_MODEL,)}
"""Tables of what is bundled, and the weights that their numbers follow from."""


def wrong(evidence: Evidence, results: Path) -> list[str]:
    """What keeps tables of the definitions of now from carrying a verdict."""
    return [*outdated(evidence), *lacking(evidence), *contradicted(evidence, results)]


def outdated(evidence: Evidence) -> Iterator[str]:
    """Tables with rows of other versions of axes or task than those of now."""
    for name, rows in evidence.sources.items():
        old = {
            (row.definition or UNSAID, current_definition(row.board, row.axis))
            for row in rows
            if not current(row)
        }
        yield from (f"{name} has rows measured by {was}; now it is {now}" for was, now in sorted(old))
    noted = evidence.about.get(MEASURED_BY, {})
    for name, table in zip(RODS, (evidence.truth, evidence.planted), strict=True):
        was, now = noted.get(name, UNSAID), versions_of_now(RODS[name])
        if len(table) and was != now:
            yield f"{name} was measured by {was}; now it is {now}"
    for name in MEASURED_ON:
        if evidence.sources.get(name) and not of_these_weights(evidence.about, name):
            yield f"{name} was not measured on the weights that are bundled now"
    called, now = evidence.about.get("definitions", ""), versions_of_now()
    if called and now not in called:
        yield f"{ABOUT} calls its definitions {called!r}; now it is {now}"


def current(row: Row) -> bool:
    """Whether a row was measured by the versions of axis and task of now; of another's task that is not known."""
    return row.definition == (current_definition(row.board, row.axis) or row.definition)


def current_definition(board: str, axis: str) -> str:
    """What a row of this board and axis is to be measured by; empty for a task that is not one of ours."""
    return _definitions(board).get(axis, "")


def versions_of_now(*further: str) -> str:
    """The axes, and further ones, with their versions in words, as the note beside the tables keeps them."""
    axes = [*AXES.values(), *(EVERY[name] for name in further)]
    return ", ".join(f"{axis.title} {axis.version}" for axis in axes)


def weights(table: str) -> list[Path]:
    """The files of bundled weights that a table's numbers follow from, in order."""
    return sorted(path for pattern in MEASURED_ON[table] for path in BUNDLED.parent.glob(pattern))


@cache
def weights_of_now(table: str) -> str:
    """Eight characters of the digest of the bundled weights that a table is to be measured on."""
    return identity(weights=[sha256(path.read_bytes()).hexdigest() for path in weights(table)])[:8]


def of_these_weights(about: Mapping[str, Any], table: str) -> bool:
    """Whether the note beside the tables says that one of them was measured on the weights bundled now."""
    return about.get(WEIGHTS, {}).get(table) == weights_of_now(table)


def note(folder: Path, table: str) -> None:
    """Notes beside the tables that one of them was measured by the versions, or on the weights, of now."""
    about = read_about(folder)
    if table in RODS:
        about[MEASURED_BY] = about.get(MEASURED_BY, {}) | {table: versions_of_now(RODS[table])}
    else:
        about[WEIGHTS] = about.get(WEIGHTS, {}) | {table: weights_of_now(table)}
    write_text(folder / ABOUT, json.dumps(about, ensure_ascii=False, indent=1) + "\n")


@cache
def _definitions(board: str) -> dict[str, str]:
    name = _task(board)
    try:
        task = load_task(name)
    except TaskError:
        return {}
    known = versions(task.spec.further_axes)
    return {axis: definition(axis, known, name, task.sha256) for axis in AXES}


def _task(board: str) -> str:
    return board.split(" · ")[0]


def _learned(board: str) -> set[str]:
    """Axes that are learned for every dictionary, in minutes: measured on one draw of prompts only."""
    try:
        return {EVERY[name].heads for name in load_task(_task(board)).spec.further_axes}
    except TaskError:
        return set()


def lacking(evidence: Evidence) -> Iterator[str]:
    """What a board was not tried with: nulls, changes, cheats, draws of prompts."""
    boards = [b for b in evidence.boards if len(evidence.rows.where(board=b))]
    for board in boards:
        rows = evidence.rows.where(board=board)
        for what in (*_missing(rows.first, evidence.axes), *_repeats(rows, evidence.axes, _learned(board))):
            yield f"{board} lacks {what}"
    if boards and not len(evidence.rows.where(name=SEARCH)):
        yield f"no board was tried with a {SEARCH}"
    if boards:
        yield from _courses(evidence.rows.where(group="snapshot"), evidence.axes)


def _missing(rows: Rows, axes: tuple[str, ...]) -> Iterator[str]:
    saes = rows.where(lambda row: row.group in SAES).distinct("name")
    if not saes:
        yield "SAEs"
    with_null = rows.where(group="null").distinct("of")
    yield from (f"the matched null of {name}" for name in saes if name not in with_null)
    yield from (
        f"any dictionary of the group {group!r}" for group in GROUPS if not len(rows.where(group=group))
    )
    cheats = rows.where(group="cheat").distinct("name")
    yield from (f"the cheat {name!r}" for name in CHEATS if name not in cheats)
    for group, name in dict.fromkeys((row.group, row.name) for row in rows if row.group != "snapshot"):
        there = rows.where(group=group, name=name).distinct("axis")
        yield from (f"{axis} of {name}" for axis in axes if axis not in there)


def _courses(shots: Rows, axes: tuple[str, ...]) -> Iterator[str]:
    """One board at least is to be followed while SAEs train: every run at the same steps, on every axis."""
    runs, steps = shots.distinct("of"), shots.distinct("step")
    if len(shots.distinct("seed")) < TRAINING_SEEDS or len(steps) < SNAPSHOTS:
        yield f"no board was followed over {SNAPSHOTS} snapshots of runs of {TRAINING_SEEDS} seeds"
    found = {(row.of, row.step, row.axis) for row in shots}
    gone = [
        f"{axis} of {run} after {step} steps"
        for run in runs
        for step in steps
        for axis in axes
        if (run, step, axis) not in found
    ]
    if gone:
        yield f"snapshots lack {gone[0]} ({len(gone)} such)"


def _repeats(rows: Rows, axes: tuple[str, ...], learned: set[str]) -> Iterator[str]:
    """Every SAE is to be measured on the same draws of prompts, and on the full budget."""
    saes = rows.where(lambda row: row.group in SAES)
    asked = [axis for axis in axes if axis not in learned]
    draws = saes.where(budget="quick").distinct("task_seed")
    if saes and len(draws) < DRAWS:
        yield f"draws of prompts: it has {len(draws)}, of {DRAWS} at least"
    places = [("quick", seed) for seed in draws if seed != 0] + [("full", 0)]
    for budget, seed in places:
        found = {(row.name, row.axis) for row in saes.where(budget=budget, task_seed=seed)}
        gone = [f"{axis} of {n}" for n in saes.distinct("name") for axis in asked if (n, axis) not in found]
        if gone:
            yield f"{gone[0]} at budget {budget} and draw {seed} ({len(gone)} such)"


def contradicted(evidence: Evidence, results: Path) -> Iterator[str]:
    """Boards that say something else of a dictionary than its committed result does, or leave out an SAE."""
    for board in evidence.boards:
        rows = evidence.rows.first.where(board=board)
        known = {(row.group, row.name, row.axis): row for row in rows}
        for result in _committed(board, results):
            group, name = group_of(result), result.dictionary.name
            if not any((group, name, axis) in known for axis in evidence.axes):
                if group in SAES:
                    yield f"{board} leaves out {name}, of which there is a result"
                continue
            for axis in evidence.axes:
                row = known.get((str(group), name, axis))
                if row is not None and not _alike(row, result):
                    yield (
                        f"{board} has {_shown(row.value)} for {axis} of {name}, its result"
                        f" {_shown(result.axes[axis].normalized)}"
                    )


def _committed(board: str, results: Path) -> list[Result]:
    """Results of this board as the audit measures it: quick budget, first draw of prompts."""
    task, model, site = (*board.split(" · "), "", "")[:3]
    files = [path for path in store.find(results) if path.parts[-3] == safe_name(model)]
    found = [store.load(path).result for path in files if path.name.startswith(f"{safe_name(task)}--")]
    wanted = (task, model, site, "quick", 0)
    return [r for r in found if (r.task.name, r.model.name, r.site, r.budget, r.seed) == wanted]


def _alike(row: Row, result: Result) -> bool:
    score = result.axes.get(row.axis)
    other = None if score is None else score.normalized
    if row.value is None or other is None:
        return row.value is None and other is None
    return abs(row.value - other) <= ALIKE


def _shown(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.4f}"
