"""How wide intervals of headlines are at a budget: what more prompts would buy."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import fmean

from saebench.records import store
from saebench.records.files import safe_name
from saebench.records.result import Result
from saebench.scoring.axes import AXES

COMMITTED = Path(__file__).parents[2] / "results"
"""Results that a checkout brings; a wheel has none."""


def widths(results: Iterable[Result]) -> dict[str, float]:
    """Mean width by axis over the SAEs among some results; axes that are undefined everywhere are left out."""
    found: dict[str, list[float]] = {}
    for result in results:
        for axis, score in result.axes.items():
            if score.ci is not None and result.dictionary.kind == "sae":
                found.setdefault(axis, []).append(score.ci[1] - score.ci[0])
    return {axis: fmean(found[axis]) for axis in AXES if axis in found}


def in_words(by_axis: Mapping[str, float]) -> str:
    """`approximation .021, control .083`."""
    return ", ".join(
        f"{AXES[axis].title} {width:.3f}".replace(" 0.", " .") for axis, width in by_axis.items()
    )


def of_task(task: str, sha256: str, results: Path = COMMITTED) -> Iterator[str]:
    """What budgets gave on a task, as it is now, in the results of a checkout: a line a model, site and budget."""
    boards: dict[tuple[str, str, int, str], list[Result]] = {}
    for path in store.find(results):
        if path.name.startswith(f"{safe_name(task)}--"):
            result = store.load(path).result
            if result.task.sha256 == sha256:
                key = (result.model.name, result.site, result.task.n.test, result.budget)
                boards.setdefault(key, []).append(result)
    for (model, site, n, budget), here in sorted(boards.items()):
        found = widths(here)
        if found:
            yield f"{in_words(found)} ({budget}, {n:,} test prompts, {model} at {site})"
