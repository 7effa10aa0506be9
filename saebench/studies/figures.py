"""Figures of the phenomenon curves, drawn from their CSV files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from saebench.reporting.plots import COLOURS, save, style

LINES = {"random": "-", "truth": "--"}
CAPTION = "means over SAE seeds, bars: their range; solid: from random directions, dashed: from the truth"


def draw(name: str, folder: Path) -> Path | None:
    """Draws `<folder>/<name>.png` from `<name>.csv`; None where a curve is a single point."""
    if name not in FIGURES:
        return None
    frame = pd.read_csv(folder / f"{name}.csv")
    with style():
        figure = FIGURES[name](frame)
        figure.text(0.5, -0.06, CAPTION, ha="center", fontsize=8, color="#555555")
        return save(figure, folder / f"{name}.png", bbox_inches="tight")


def _panels(n: int):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8 * n, 3.8))
    panels = figure.subplots(1, n, squeeze=False)[0]
    figure.subplots_adjust(wspace=0.3)
    return figure, panels


def lines(ax: Any, frame: pd.DataFrame, x: str, y: str, by: str, label: str = "{}") -> None:
    """One colour a value of `by`, one line style a start; mean and range over seeds."""
    for colour, (value, part) in zip(COLOURS, frame.groupby(by, sort=False), strict=False):
        for start, line in LINES.items():
            chosen = part.query("start == @start").dropna(subset=[y])
            if chosen.empty:
                continue
            found = chosen.groupby(x)[y].agg(["mean", "min", "max"])
            error = (found["mean"] - found["min"], found["max"] - found["mean"])
            shown = label.format(f"{value:g}" if isinstance(value, float) else value)
            ax.errorbar(
                found.index,
                found["mean"],
                yerr=error,
                fmt=f"o{line}",
                color=colour,
                label=shown if start == "random" else None,
                capsize=2,
                ms=4,
            )
    ax.legend(fontsize=8)


def _occlusion(frame: pd.DataFrame):
    figure, (ax,) = _panels(1)
    long = frame.melt(["ratio", "start", "seed"], ["strong", "weak"], "group", value_name="coverage")
    lines(ax, long, "ratio", "coverage", "group", "{} group")
    ax.set(
        xlabel="norm ratio strong / weak",
        ylabel="share of values with F1* ≥ 0.5",
        ylim=(0, 1.05),
        title="Weak group behind a strong one",
    )
    return figure


def _hedging(frame: pd.DataFrame):
    figure, (left, right) = _panels(2)
    lines(left, frame, "rho", "hedging", "k", "k = {}")
    left.set(xlabel="correlation ρ", ylabel="hedging (0 is best)", title="Lean towards correlated features")
    frame = frame.assign(gain=frame.explained_variance - frame.truth_explained_variance)
    lines(right, frame, "rho", "gain", "k", "k = {}")
    right.set(
        xlabel="correlation ρ",
        ylabel="explained variance, SAE − truth at k",
        title="What the objective prefers",
    )
    for ax in (left, right):
        ax.axhline(0, color="#999", lw=0.8)
    return figure


def _absorption(frame: pd.DataFrame):
    figure, (ax,) = _panels(1)
    lines(ax, frame, "child_given_parent", "absorption", "architecture")
    ax.set(
        xlabel="P(child | parent)",
        ylabel="absorption (0 is best)",
        title="Parents lost to children, at equal L0",
    )
    return figure


def _splitting(frame: pd.DataFrame):
    figure, (left, right) = _panels(2)
    lines(left, frame, "wanted_l0", "n90", "architecture")
    left.set(xlabel="L0", ylabel="n90 (1 is best)", xscale="log", title="Latents that one sign takes")
    lines(right, frame, "wanted_l0", "nearest_cosine", "architecture")
    right.set(
        xlabel="L0",
        ylabel="cosine of ±μ with the nearest latent",
        xscale="log",
        ylim=(0, 1.05),
        title="Is there a latent for the sign?",
    )
    for ax in (left, right):
        ax.set_xticks([1, 4, 16], ["1", "4", "16"])
    return figure


def _splitting_noise(frame: pd.DataFrame):
    figure, axes = _panels(2)
    sizes = zip(frame.architecture, frame.sparsity, strict=True)
    names = [f"topk, k = {v:g}" if name == "topk" else f"L1 = {v:g}" for name, v in sizes]
    frame = frame.assign(sae=names)
    labels = (
        ("n90", "n90 (1 is best)", "Latents that one sign takes"),
        ("detected", "share of the two signs detected", "Are they there?"),
    )
    for ax, (column, label, title) in zip(axes, labels, strict=True):
        lines(ax, frame, "noise", column, "sae")
        ax.set(
            xlabel="standard deviation of the noise per dimension (‖μ‖ = 2)",
            xscale="log",
            ylabel=label,
            title=title,
        )
        ax.set_xticks([0.1, 0.25, 0.5, 1], ["0.1", "0.25", "0.5", "1"])
        ax.minorticks_off()
    return figure


def _composition(frame: pd.DataFrame):
    figure, axes = _panels(3)
    sizes = zip(frame.width, frame.k, strict=True)
    frame = frame.assign(latents=[f"{w} latents, k = {k}" for w, k in sizes])
    labels = (
        ("composition", "composition of lone parts"),
        ("pair_composition", "pair composition (1 parts, ½ pairs)"),
        ("boosted_pair_cosine", "nearest latent to the boosted pair, cosine"),
    )
    for ax, (column, label) in zip(axes, labels, strict=True):
        lines(ax, frame, "boost", column, "latents")
        ax.set(xlabel="share of samples made the boosted pair", ylabel=label, ylim=(0, 1.05))
    return figure


FIGURES: dict[str, Callable] = {
    "occlusion": _occlusion,
    "hedging": _hedging,
    "absorption": _absorption,
    "splitting": _splitting,
    "splitting_noise": _splitting_noise,
    "composition": _composition,
}
