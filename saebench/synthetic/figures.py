"""Figures of the phenomenon curves, drawn from their CSV files."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

_INK = ("#0b5fa5", "#c2410c", "#3f7d20", "#7a3e9d")


def draw(name: str, folder: Path) -> Path | None:
    """Draws `<folder>/<name>.png` from `<name>.csv`; None where a curve is a single row."""
    if name not in FIGURES:
        return None
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    frame = pd.read_csv(folder / f"{name}.csv")
    with plt.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = FIGURES[name](frame, plt)
        path = folder / f"{name}.png"
        # no date in the file: the same numbers give the same bytes
        figure.savefig(path, dpi=130, bbox_inches="tight", metadata={"Software": None})
        plt.close(figure)
    return path


def _panels(plt, n: int):
    figure, axes = plt.subplots(1, n, figsize=(4.6 * n, 3.6), squeeze=False)
    figure.subplots_adjust(wspace=0.3)
    return figure, axes[0]


def _occlusion(frame: pd.DataFrame, plt):
    figure, (ax,) = _panels(plt, 1)
    for start, style in (("random", "-"), ("truth", "--")):
        part = frame[frame.start == start]
        for colour, group in zip(_INK, ("strong", "weak"), strict=False):
            error = (part[group] - part[f"{group}_low"], part[f"{group}_high"] - part[group])
            ax.errorbar(part.ratio, part[group], yerr=error, fmt=f"o{style}", color=colour,
                        label=f"{group}, from {start}", capsize=2)  # fmt: skip
    ax.set(xlabel="norm ratio strong / weak", ylabel="share of values with F1* ≥ 0.5", ylim=(0, 1.05),
           title="Weak group behind a strong one")  # fmt: skip
    ax.legend(frameon=False, fontsize=8)
    return figure


def _by_seed(frame: pd.DataFrame, keys: list[str], value: str) -> pd.DataFrame:
    """Mean and range over seeds."""
    found = frame.groupby(keys)[value].agg(["mean", "min", "max"]).reset_index()
    return found.rename(columns={"min": "low", "max": "high"})


def _lines(ax, found: pd.DataFrame, x: str, by: str) -> None:
    for colour, (value, part) in zip(_INK, found.groupby(by), strict=False):
        error = (part["mean"] - part.low, part.high - part["mean"])
        label = value if isinstance(value, str) else f"{by} = {value:g}"
        ax.errorbar(
            part[x], part["mean"], yerr=error, fmt="o-", color=colour, label=label, capsize=2
        )
    ax.legend(frameon=False, fontsize=8)


def _hedging(frame: pd.DataFrame, plt):
    figure, (left, right) = _panels(plt, 2)
    _lines(left, _by_seed(frame, ["rho", "k"], "hedging"), "rho", "k")
    left.axhline(0, color="#999", lw=0.8)
    left.set(
        xlabel="correlation ρ",
        ylabel="hedging (0 is best)",
        title="Lean towards correlated features",
    )
    frame = frame.assign(gain=frame.explained_variance - frame.truth_explained_variance)
    _lines(right, _by_seed(frame, ["rho", "k"], "gain"), "rho", "k")
    right.axhline(0, color="#999", lw=0.8)
    right.set(xlabel="correlation ρ", ylabel="explained variance, SAE − truth at k",
              title="What the objective prefers")  # fmt: skip
    return figure


def _absorption(frame: pd.DataFrame, plt):
    figure, (ax,) = _panels(plt, 1)
    found = _by_seed(frame, ["child_given_parent", "architecture"], "absorption")
    _lines(ax, found, "child_given_parent", "architecture")
    ax.set(
        xlabel="P(child | parent)",
        ylabel="absorption (0 is best)",
        title="Parents lost to children",
    )
    return figure


def _splitting(frame: pd.DataFrame, plt):
    figure, (ax,) = _panels(plt, 1)
    for colour, (name, part) in zip(_INK, frame.groupby("architecture"), strict=False):
        ax.plot(part.l0, part.n90, "o-", color=colour, label=str(name))
    ax.set(xlabel="L0", ylabel="n90 (1 is best)", xscale="log", title="Latents that one sign takes")
    ax.legend(frameon=False, fontsize=8)
    return figure


def _composition(frame: pd.DataFrame, plt):
    figure, axes = _panels(plt, 2)
    frame = frame.assign(
        latents=[f"{w} latents, k = {k}" for w, k in zip(frame.width, frame.k, strict=True)]
    )
    labels = (("composition", "composition (1 parts, ½ pairs)"),
              ("boosted_pair_cosine", "nearest latent to the boosted pair, cosine"))  # fmt: skip
    for ax, (column, label) in zip(axes, labels, strict=True):
        _lines(ax, _by_seed(frame, ["boost", "latents"], column), "boost", "latents")
        ax.set(xlabel="share of samples made the boosted pair", ylabel=label, ylim=(0, 1.05))
    return figure


FIGURES: dict[str, Callable] = {
    "occlusion": _occlusion,
    "hedging": _hedging,
    "absorption": _absorption,
    "splitting": _splitting,
    "composition": _composition,
}
