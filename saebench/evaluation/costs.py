"""What units took on this machine, kept so that the next plan can say how long it will take."""

from typing import NamedTuple

from saebench.evaluation.arena import Arena
from saebench.evaluation.units import Done
from saebench.records.memo import Memo
from saebench.reporting.widths import widths

_REMEMBERED = 20
"""Units that a mean goes back, about."""


class Rate(NamedTuple):
    """Seconds, bytes and megabytes for a task on a model at a budget."""

    shared: float
    """What a group takes before its first unit: clean runs, ceiling, references."""
    unit: float
    bytes: float
    memory_mb: float
    """Peak of the process."""
    units: int = 1
    widths: tuple[tuple[str, float], ...] = ()
    """Mean width of the intervals of SAEs' headlines, by axis."""


def _memo(arena: Arena) -> Memo:
    options, source = arena.options, arena.source
    return Memo(
        "rates",
        task=arena.task.sha256,
        model=source.facts.sha256,
        budget=options.budget,
        device=source.device,
        dtype=source.dtype,
    )


def rate(arena: Arena) -> Rate | None:
    """What units of this task, model and budget took before; None where there was none."""
    known = _memo(arena).recall()
    if not known:
        return None
    rate = Rate(*known)
    return rate._replace(widths=tuple((axis, width) for axis, width in rate.widths))


def note(done: Done, arena: Arena) -> None:
    """Remembers what a new result took."""
    if done.result is None or done.table is None:
        return
    before = rate(arena) or Rate(0.0, done.seconds, len(done.table), 0.0, 0)
    n = min(before.units + 1, _REMEMBERED)

    def mean(old: float, new: float) -> float:
        return old + (new - old) / n

    # a bench that was kept took nothing: what it takes to make one is what counts
    shared = mean(before.shared, done.shared_seconds) if done.shared_seconds > 0.01 else before.shared
    memory = max(before.memory_mb, done.result.provenance.peak_memory_mb)
    size = mean(before.bytes, len(done.table) + len(done.result.json_line()))
    old = dict(before.widths)
    new = {axis: mean(old.get(axis, width), width) for axis, width in widths([done.result]).items()}
    _memo(arena).keep(
        Rate(shared, mean(before.unit, done.seconds), size, memory, n, tuple((old | new).items()))
    )
