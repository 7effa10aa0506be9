"""The axes over training: one curve an axis, from results of an SAE's snapshots."""

import io
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from saebench.records.files import safe_name, write_all
from saebench.records.result import Result
from saebench.scoring.axes import AXES

# `k8/step_1000`, `run/checkpoints/ae_300.pt`, SAELens' `k8/1024000`: a run and how far it had come.
_SNAPSHOT = re.compile(
    r"(?P<run>.*?)[-_/ .:]?\b(?:(?:step|checkpoint|ckpt|ae|samples|tokens|iter|batch)s?[-_ ]?(?P<named>\d+)"
    r"|(?P<bare>\d{3,}))(?:\.\w+)*"
)
LEAST = 3
"""Snapshots that make a curve."""


class Snapshot(NamedTuple):
    """A result at a step of a run."""

    step: int
    result: Result


def snapshots(results: Sequence[Result]) -> dict[tuple[str, ...], list[Snapshot]]:
    """Results by run, task, model, site and budget, each in the order of training; runs of at least three.

    A dictionary's name says run and step: `k8/step_1000`, `k8/1000`, `run/checkpoints/ae_1000.pt`.
    """
    runs: dict[tuple[str, ...], dict[int, Result]] = defaultdict(dict)
    for result in results:
        match = _SNAPSHOT.fullmatch(result.dictionary.name)
        if match and result.dictionary.kind == "sae":
            key = (match["run"] or "run", result.task.name, result.model.name, result.site, result.budget)
            runs[key][int(match["named"] or match["bare"])] = result
    curves = {key: [Snapshot(*pair) for pair in sorted(found.items())] for key, found in runs.items()}
    return {key: found for key, found in curves.items() if len(found) >= LEAST}


def draw(results: Sequence[Result]) -> dict[str, bytes]:
    """PNG files by name: every axis's normalised score with its interval, over the steps of each run."""
    import matplotlib
    from matplotlib.figure import Figure

    files = {}
    by_place: dict[tuple[str, ...], dict[str, list[Snapshot]]] = defaultdict(dict)
    for (run, *place), found in snapshots(results).items():
        by_place[tuple(place)][run] = found
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        for (task, model, site, budget), runs in by_place.items():
            figure = Figure(figsize=(3.1 * len(AXES), 2.9), layout="constrained")
            panels = figure.subplots(1, len(AXES), sharex=True, squeeze=False)[0]
            for panel, (name, axis) in zip(panels, AXES.items(), strict=True):
                panel.set_title(axis.title)
                panel.set_xlabel("step")
                for run, found in runs.items():
                    _curve(panel, run, name, found)
                panel.axhline(0, color="#bbbbbb", linewidth=0.8)
                panel.axhline(1, color="#bbbbbb", linewidth=0.8, linestyle=":")
            panels[0].set_ylabel("normalised score (0 floor, 1 ceiling)")
            panels[-1].legend(frameon=False)
            figure.suptitle(f"{task} · {model} at {site} · {budget}")
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
            files[f"{safe_name(model)}--{safe_name(task)}--{safe_name(site)}--training.png"] = (
                buffer.getvalue()
            )
    return files


def _curve(panel, run: str, axis: str, found: list[Snapshot]) -> None:
    """One run's scores on an axis; snapshots where it is undefined leave a gap."""
    scored = [(s.step, s.result.axes[axis]) for s in found if axis in s.result.axes]
    points = [(step, a.normalized, a.ci or (a.normalized, a.normalized)) for step, a in scored]
    points = [(step, value, ci) for step, value, ci in points if value is not None]
    if not points:
        return
    steps, values, intervals = zip(*points, strict=True)
    (line,) = panel.plot(steps, values, marker="o", markersize=3, label=run)
    low, high = zip(*intervals, strict=True)
    panel.fill_between(steps, low, high, color=line.get_color(), alpha=0.15, linewidth=0)


def write(results: Sequence[Result], out: Path) -> list[Path]:
    """Writes the figures; none where there are no snapshots."""
    files = {out / name: data for name, data in draw(results).items()}
    write_all(files, out)
    return list(files)
