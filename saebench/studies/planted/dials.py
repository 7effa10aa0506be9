"""Do the dials do what they say? Asked against measured, from `models.csv`, as one figure.

`python -m saebench.studies.planted.dials` draws `dials.png` beside it.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from saebench.reporting.plots import COLOURS, MARKERS, save, style

_FIGURES = ("behaviour", "interchange", "kept", "complement", "gradient_inside")


def draw(folder: Path) -> Path:
    """Asked and measured norm and rank, dependence, and the certificate of every model."""
    frame = pd.read_csv(folder / "models.csv")
    carried = frame[frame["rank"] > 0]
    taught = carried[carried.model != "untaught"]
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(18, 4.6))
        axes = figure.subplots(1, 4, width_ratios=(1, 1, 1.2, 3))
        for ax, column, label in ((axes[0], "norm", "norm of the atoms"), (axes[1], "rank", "rank")):
            _against(ax, taught[column], taught[f"measured_{column}"], label)
        pairs = frame.dropna(subset=["dependence"]).drop_duplicates("model").sort_values("dependence")
        axes[2].bar(pairs.model.str.removeprefix("dependence-"), pairs.dependence, color=COLOURS[0])
        axes[2].set(ylabel="mutual information ÷ smaller entropy", ylim=(0, 1.05))
        _slant(axes[2])
        _certificates(axes[3], frame)
        figure.tight_layout()
        return save(figure, folder / "dials.png")


def _against(ax: Any, asked: Any, measured: Any, label: str) -> None:
    top = 1.1 * max(asked.max(), measured.max())
    ax.plot([0, top], [0, top], ":", color="#4b5563")
    ax.plot(asked, measured, "o", color=COLOURS[0], alpha=0.5)
    ax.set(xlabel=f"{label}, asked", ylabel=f"{label}, measured", xlim=(0, top), ylim=(0, top))


def _certificates(ax: Any, frame: pd.DataFrame) -> None:
    """The worst variable of each model."""
    worst: Any = frame.groupby("model")[[f"measured_{name}" for name in _FIGURES]].min()
    for name, colour, marker in zip(_FIGURES, COLOURS, MARKERS, strict=False):
        ax.plot(worst.index, worst[f"measured_{name}"], marker, color=colour, label=name.replace("_", " "))
    ax.axhline(0.98, color="#4b5563", linestyle=":")
    ax.set(ylabel="worst variable", ylim=(-0.03, 1.03))
    _slant(ax)
    ax.legend(frameon=False, fontsize=8, loc="lower left", ncols=3)


def _slant(ax: Any) -> None:
    for tick in ax.get_xticklabels():
        tick.set(rotation=45, ha="right", rotation_mode="anchor")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m saebench.studies.planted.dials")
    parser.add_argument("--out", type=Path, default=Path("results/planted"), help="where models.csv is")
    print(draw(parser.parse_args().out))


if __name__ == "__main__":
    main()
