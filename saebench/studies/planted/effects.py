"""What each dial does to SAEs: changes against the dial's base, and a figure, from `scores.csv`.

`python -m saebench.studies.planted.effects` writes `changes.csv`, `by-variable.csv` and one figure a dial. The
same 24 recipes are trained on every model, so that levels are compared recipe by recipe.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from saebench.records.files import write_text
from saebench.reporting.plots import COLOURS, MARKERS, save, style
from saebench.studies.planted.saes import SPARSITIES
from saebench.studies.rows import Row, over_seeds

SCORES = {
    "approximation_normalized": "approximation",
    "control_normalized": "control",
    "interpretability_normalized": "interpretability",
    "occlusion_normalized": "occlusion",
    "oversplitting_normalized": "over-splitting",
    "subspace_overlap_normalized": "recovery: subspace overlap",
    "atom_cosine_normalized": "recovery: cosine of values' atoms",
    "atom_f1": "recovery: F1* of values' latents",
}
"""Columns of `scores.csv` and what they are called; 1 is the oracle, 0 a floor."""
RECOVERY = tuple(SCORES)[5:]


class Dial(NamedTuple):
    """Models that differ in one respect, the base first, and what each is called on the axis."""

    title: str
    levels: dict[str, str]


DIALS = {
    "dependence": Dial(
        "shape follows colour in so many entities",
        {
            "plain": "never",
            "dependence-half": "half",
            "dependence-most": ".9",
            "dependence-nested": "nested",
            "dependence-full": "always",
        },
    ),
    "superposition": Dial(
        "Σ ranks / d_model, two variables present at a time",
        {f"superposition-{n}": f"{int(n) / 100:g}" for n in ("050", "100", "150", "200")},
    ),
    "norm": Dial(
        "norm of colour, that of shape and size being 1",
        {"plain": "1", "norm-2": "2", "norm-4": "4", "norm-8": "8"},
    ),
    "rank": Dial("dimensions of a variable of eight values", {"rank-7": "7", "rank-4": "4", "rank-2": "2"}),
    "use": Dial("shape at the site", {"twin-used": "used", "twin-unused": "epiphenomenal"}),
    "kind": Dial(
        "beside the plain model",
        {"plain": "plain", "copies": "two copies", "conjunction": "conjunction", "circular": "circle"},
    ),
}


def read(folder: Path) -> Any:
    """`scores.csv`; a score that is missing for all models has an empty column."""
    frame: Any = pd.read_csv(folder / "scores.csv")
    return frame.reindex(columns=[*dict.fromkeys([*frame.columns, *SCORES])])


def changes(frame: Any) -> Iterator[Row]:
    """Every level of every dial less the dial's base: mean over recipes, 95 % t interval over the
    twelve pairs of architecture and sparsity."""
    saes = frame[frame.architecture != "control"]
    for name, dial in DIALS.items():
        there = [model for model in dial.levels if (saes.model == model).any()]
        for model in there[1:]:
            for column, label in SCORES.items():
                found = _change(saes, there[0], model, column)
                if found is not None:
                    yield {
                        "dial": name,
                        "from": dial.levels[there[0]],
                        "to": dial.levels[model],
                        "score": label,
                        **found,
                    }


def _change(saes: Any, base: str, model: str, column: str) -> Row | None:
    cell = ["architecture", "sparsity"]
    one, other = (saes[saes.model == m].set_index([*cell, "seed"])[column] for m in (base, model))
    paired = (other - one).dropna()
    one, other = one[paired.index], other[paired.index]
    by_cell = paired.groupby(level=cell).mean().to_numpy()
    found = over_seeds(by_cell)
    if found is None:
        return None
    numbers = {"change": found.mean, "low": found.low, "high": found.high}
    return {"before": float(one.mean()), "after": float(other.mean()), **numbers, "recipes": len(paired)}


def by_variable(folder: Path) -> pd.DataFrame:
    """Means over the SAEs of a model for each of its variables."""
    frame: Any = pd.read_csv(folder / "attributes.csv")
    saes = frame[frame.architecture != "control"]
    columns = [
        c for c in ("subspace_overlap", "atom_cosine", "atom_f1", "read_write", "written") if c in saes
    ]
    columns += [c for c in ("cause", "isolate", "disentangle", "attribute_reconstruction") if c in saes]
    return saes.groupby(["model", "attribute"])[columns].mean().reset_index()


def draw(name: str, frame: Any, folder: Path) -> Path | None:
    """One figure: a panel a score, a line an architecture, their mean with its interval, floor and oracle."""
    from matplotlib.figure import Figure

    dial = DIALS[name]
    models = [model for model in dial.levels if (frame.model == model).any()]
    if len(models) < 2:
        return None
    of: Any = frame[frame.model.isin(models)].groupby("dictionary").model.nunique()
    # levels are compared by what was scored at all of them
    frame = frame[frame.dictionary.isin(of.index[of == len(models)])]
    with style():
        figure = Figure(figsize=(17, 7.4))
        panels = figure.subplots(2, 4).flat
        for ax, (column, label) in zip(panels, SCORES.items(), strict=True):
            _panel(ax, frame, models, column)
            ax.set_xticks(range(len(models)), [dial.levels[model] for model in models])
            ax.set(title=label, ylim=(-0.12, 1.28), xlim=(-0.3, len(models) - 0.7))
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=len(labels), fontsize=9)
        figure.supxlabel(dial.title, y=0.055, fontsize=10)
        figure.tight_layout(rect=(0, 0.06, 1, 1))
        return save(figure, folder / f"{name}.png", dpi=80)


def _panel(ax: Any, frame: Any, models: list[str], column: str) -> None:
    for architecture, colour, marker in zip(SPARSITIES, COLOURS, MARKERS, strict=False):
        one = frame[frame.architecture == architecture]
        points = one.groupby("model")[column].mean().reindex(models)
        ax.plot(range(len(models)), points, marker, ls="-", color=colour, alpha=0.6, ms=5, label=architecture)
    means, low, high = np.array([_mean(frame, model, column) for model in models]).T
    error = (means - low, high - means)
    ax.errorbar(range(len(models)), means, error, color="#000000", lw=2.2, capsize=4, label="mean, 95 %")
    for control, line in (("oracle", "--"), ("random:8:256", ":")):
        row = frame[frame.dictionary == control].groupby("model")[column].first().reindex(models)
        shown = control.split(":")[0]
        ax.plot(range(len(models)), row, line, color="#4b5563", lw=1.4, label=f"{shown} latents")
    if np.isnan(means).all():
        ax.text(0.5, 0.5, "undefined on these models", ha="center", transform=ax.transAxes, color="#4b5563")


def _mean(frame: Any, model: str, column: str) -> tuple[float, float, float]:
    """Mean over the SAEs of a model, with its interval over pairs of architecture and sparsity."""
    saes = frame[(frame.model == model) & (frame.architecture != "control")].dropna(subset=[column])
    found = over_seeds(saes.groupby(["architecture", "sparsity"])[column].mean().to_numpy())
    return (found.mean, found.low, found.high) if found else (np.nan, np.nan, np.nan)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m saebench.studies.planted.effects")
    parser.add_argument("--out", type=Path, default=Path("results/planted"), help="where scores.csv is")
    folder = parser.parse_args().out
    frame = read(folder)
    tables = {"changes": pd.DataFrame(list(changes(frame))), "by-variable": by_variable(folder)}
    for name, table in tables.items():
        write_text(folder / f"{name}.csv", table.to_csv(index=False, float_format="%.4g"))
    for name in DIALS:
        print(draw(name, frame, folder) or f"{name}: fewer than two of its models are scored")


if __name__ == "__main__":
    main()
