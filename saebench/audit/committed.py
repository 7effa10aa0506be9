"""Rows from a directory of results: what was scored there needs no measuring again, and no torch."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from saebench.audit.rows import N_DRAWS, Row
from saebench.records import store
from saebench.records.result import Result
from saebench.scoring import score
from saebench.scoring.axes import AXES, EVERY
from saebench.scoring.base import Headline
from saebench.scoring.estimates import Estimate

NULL = "control:random-like:"
"""Begins the name of an SAE's matched null."""
_UNDERTRAINED = "-undertrained"
_GROUPS = {"sae": "trained", "labelled": "ceiling", "control": "reference"}


def group_of(result: Result) -> str | None:
    """What a result is to the audit; None for what only edits."""
    name = result.dictionary.name
    if name.startswith(NULL):
        return "null"
    if result.dictionary.kind == "sae" and name.endswith(_UNDERTRAINED):
        return "undertrained"
    return _GROUPS.get(result.dictionary.kind)


def rows(results: Path, task: str) -> Iterator[Row]:
    """Every dictionary of a task, from its stored outcomes."""
    for path in store.find(results):
        stored = store.load(path)
        result, group = stored.result, group_of(stored.result)
        if result.task.name != task or group is None:
            continue
        name = result.dictionary.name
        board = f"{task} · {result.model.name} · {result.site}"
        base = Row(board, group, name, "", None, task_seed=result.seed, budget=result.budget)
        base = base._replace(of=name.removeprefix(NULL) if group == "null" else "")
        found = score(stored.outcomes, seed=result.seed).axes
        by = {axis: definition(axis, result.axis_versions, task, result.task.sha256) for axis in AXES}
        yield from (base._replace(axis=a, definition=by[a], **numbers(found[a])) for a in AXES)


def definition(axis: str, versions: Mapping[str, int], task: str, sha256: str) -> str:
    """What a row was measured by: its axis, a further one that heads it, their versions, the task's digest."""
    names = [axis, *(name for name in versions if name in EVERY and EVERY[name].heads == axis)]
    return f"{', '.join(f'{name} {versions[name]}' for name in names)} on {task} {sha256[:8]}"


def numbers(headline: Headline, draws: bool = True) -> dict:
    """The normalised headline as fields of a row; an undefined one keeps its reason."""
    shown = headline.normalized
    if not isinstance(shown, Estimate):
        return {"value": None, "reason": shown.reason}
    low, high = shown.interval()
    return {
        "value": float(shown),
        "low": low,
        "high": high,
        "draws": shown.draws[:N_DRAWS] if draws else None,
    }
