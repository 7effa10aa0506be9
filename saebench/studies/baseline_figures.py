"""Figures of the baselines, drawn from their CSV file: scores against L0, one figure a family."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from saebench.reporting.plots import COLOURS, save, style
from saebench.scoring.axes import AXES
from saebench.studies.rows import over_seeds

_SHARED = ("matched_cosine_calibrated", "feature_f1", "explained_variance", *AXES)
_OWN = {
    "hierarchical": "absorption",
    "correlated": "hedging",
    "composed": "pair_composition",
    "occlusion": "pair_composition",
}
_BEST = {"absorption": "0 is best", "hedging": "0 is best", "dead_latents": "0 is best"}
CAPTION = "dots: SAE seeds; lines and bars: their mean and its 95 % t interval; dotted: the true L0"


def curves(ax: Any, frame: pd.DataFrame, score: str) -> None:
    """One line an architecture: a score against L0, seeds as dots."""
    for colour, name in zip(COLOURS, sorted(set(frame.architecture)), strict=False):
        part = frame.query("architecture == @name").dropna(subset=[score])
        ax.plot(part.l0, part[score], ".", color=colour, ms=4, alpha=0.5)
        points = []
        for _, level in part.groupby("share_of_true_l0"):
            found = over_seeds(np.asarray(level[score]))
            half = (found.high - found.low) / 2 if found else 0.0
            points.append((np.mean(level.l0), np.mean(level[score]), half))
        if points:
            x, y, half = zip(*sorted(points), strict=True)
            ax.errorbar(x, y, yerr=half, fmt="-", color=colour, lw=1.4, elinewidth=0.8, capsize=2, label=name)
    if frame[score].dropna().empty:
        ax.text(0.5, 0.5, "undefined here", transform=ax.transAxes, ha="center", color="#888")
    ax.axvline(frame["true_l0"].to_list()[0], color="#999", lw=0.8, ls=":")
    # intervals of three seeds can be wider than the scale
    low = min([0.0, *frame[score].dropna()])
    ax.set(xscale="log", ylim=(low - 0.05, 1.1))
    ax.minorticks_off()
    ticks = sorted({float(f"{x:.2g}") for x in frame.share_of_true_l0 * frame.true_l0})
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])


def family(frame: pd.DataFrame, name: str, path: Path) -> Path:
    """Nine panels of one family: recovery, the five axes, and what the family is about."""
    scores = (*_SHARED, _OWN.get(name, "dead_latents"))
    with style():
        figure = Figure(figsize=(12, 9))
        axes = figure.subplots(3, 3, sharex=True)
        for ax, score in zip(axes.flat, scores, strict=True):
            curves(ax, frame, score)
            best = f" ({_BEST[score]})" if score in _BEST else ""
            ax.set_title(score.replace("_", " ") + best, fontsize=10)
        for ax in axes[-1]:
            ax.set_xlabel("L0")
        _finish(figure, axes.flat[0], f"synthetic/{name}")
        return save(figure, path)


def overview(frame: pd.DataFrame, path: Path) -> Path:
    """Calibrated matched cosine of every family."""
    names = list(dict.fromkeys(frame.family))
    with style():
        figure = Figure(figsize=(12, 6.6))
        axes = figure.subplots(2, 3, squeeze=False)
        for ax, name in zip(axes.flat, names, strict=False):
            curves(ax, frame.query("family == @name"), "matched_cosine_calibrated")
            ax.set_title(name, fontsize=10)
            ax.set_xlabel("L0")
        _finish(figure, axes.flat[0], "Matched cosine above chance (calibrated)")
        return save(figure, path)


def _finish(figure: Any, ax: Any, title: str) -> None:
    handles, labels = ax.get_legend_handles_labels()
    figure.suptitle(title, y=0.99)
    figure.legend(handles, labels, loc="upper center", ncol=6, bbox_to_anchor=(0.5, 0.965))
    figure.text(0.5, 0.012, CAPTION, ha="center", fontsize=8, color="#555555")
    figure.tight_layout(rect=(0, 0.03, 1, 0.95))


def draw(folder: Path) -> list[Path]:
    """Draws `baselines.png` and `baselines_<family>.png` from `baselines.csv`; returns their paths."""
    frame = pd.read_csv(folder / "baselines.csv")
    frame = frame.assign(family=frame.task.str.removeprefix("synthetic/"))
    found = [overview(frame, folder / "baselines.png")]
    for name, part in frame.groupby("family"):
        found.append(family(part, str(name), folder / f"baselines_{name}.png"))
    return found
