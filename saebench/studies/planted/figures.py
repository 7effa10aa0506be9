"""One figure a dial, from `scores.csv`: five axes and what was recovered, against the dial.

`python -m saebench.studies.planted.figures` draws them beside the tables.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from saebench.studies.figures import INK, plotting, save
from saebench.studies.planted.saes import SPARSITIES

DIALS: dict[str, tuple[str, dict[str, float | str]]] = {
    "dependence": (
        "mutual information of colour and shape, share of the smaller entropy",
        {"plain": 0.0, "dependence-most": 0.9, "dependence-nested": "nested", "dependence-full": 1.0},
    ),
    "rank": ("dimensions for eight values", {"rank-2": 2, "rank-7": 7}),
    "norm": ("norm of colour ÷ norm of the others", {"plain": 1, "norm-4": 4, "norm-8": 8}),
    "superposition": (
        "Σ ranks / d_model",
        {"superposition-050": 0.5, "superposition-100": 1, "superposition-150": 1.5, "superposition-200": 2},
    ),
    "other": (
        "model",
        {
            name: name
            for name in (
                "plain",
                "twin-used",
                "twin-unused",
                "copies",
                "conjunction",
                "circular",
                "hidden-follower",
            )
        },
    ),
}
"""For each dial its label and the models along it."""
PANELS = (
    ("approximation", "headline", "normalized"),
    ("control", "headline", "normalized"),
    ("interpretability", "headline", "normalized"),
    ("occlusion", "headline", "normalized"),
    ("oversplitting", "headline", "normalized"),
    ("subspaces", "subspace_overlap", "value"),
    ("subspaces", "atom_cosine", "value"),
    ("subspaces", "atom_f1", "value"),
)
_DRAWS = 2000


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95 % bootstrap interval over SAEs."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (_DRAWS, len(values))).mean(1)
    return float(values.mean()), *map(float, np.percentile(means, [2.5, 97.5]))


def chosen(frame: pd.DataFrame, axis: str, score: str) -> pd.DataFrame:
    """Rows of a score over all attributes."""
    return frame[(frame.axis == axis) & (frame.score == score) & frame.attribute.isna()]


def draw(dial: str, frame: pd.DataFrame, out: Path) -> Path:
    """The figure of one dial."""
    label, models = DIALS[dial]
    names = [name for name in models if name in set(frame.model)]
    with plotting() as plt:
        figure, axes = plt.subplots(2, 4, figsize=(15, 7), squeeze=False)
        for ax, panel in zip(axes.flat, PANELS, strict=True):
            _panel(ax, frame, names, panel)
            ax.set_xticks(range(len(names)), [str(models[name]) for name in names], rotation=20)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="lower center", ncols=4, bbox_to_anchor=(0.5, -0.06), frameon=False
        )
        figure.supxlabel(label)
        figure.tight_layout()
        path = save(figure, out / f"{dial}.png")
        plt.close(figure)
    return path


def _panel(ax: Any, frame: pd.DataFrame, names: list[str], panel: tuple[str, str, str]) -> None:
    axis, score, column = panel
    rows = chosen(frame, axis, score)
    at = {name: i for i, name in enumerate(names)}
    saes = rows[(rows.architecture != "control") & rows.model.isin(names)].dropna(subset=[column])
    dense = saes.architecture.map({name: both[0] for name, both in SPARSITIES.items()})
    for shift, (label, part) in enumerate(
        (("denser SAEs", saes[saes.sparsity == dense]), ("sparser SAEs", saes[saes.sparsity != dense]))
    ):
        points = [(at[name], *interval(p[column].to_numpy())) for name, p in part.groupby("model")]
        if points:
            x, mean, low, high = np.array(sorted(points)).T
            error = (mean - low, high - mean)
            ax.errorbar(
                x + 0.08 * (2 * shift - 1), mean, error, marker="o", capsize=3, color=INK[shift], label=label
            )
    for control, style in (("oracle", "--"), ("random:8:256", ":")):
        part = rows[(rows.dictionary == control) & rows.model.isin(names)].dropna(subset=[column])
        points = sorted((at[name], value) for name, value in zip(part.model, part[column], strict=True))
        if points:
            ax.plot(*zip(*points, strict=True), style, marker=".", color="#4b5563", label=control)
    if axis == "subspaces":
        floor = saes.groupby("model").floor.mean()
        points = sorted((at[name], value) for name, value in floor.items())
        if points and score != "atom_f1":
            ax.plot(*zip(*points, strict=True), "-.", color="#b08900", label="random rows (floor)")
    ax.set_title(f"{axis}: {score}" if axis == "subspaces" else axis, fontsize=10)
    ax.set_ylim(-0.1, 1.1)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m saebench.studies.planted.figures")
    parser.add_argument("--out", type=Path, default=Path("results/planted"), help="where scores.csv is")
    options = parser.parse_args()
    frame = pd.read_csv(options.out / "scores.csv")
    for dial in DIALS:
        print(draw(dial, frame, options.out))


if __name__ == "__main__":
    main()
