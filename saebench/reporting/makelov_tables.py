"""Figures of arXiv 2405.08366 that need more than results: from tables of `saebench.studies.makelov`."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saebench.errors import ResultError
from saebench.records.files import safe_name
from saebench.reporting.makelov import REFERENCES, ROWS, SIZED
from saebench.reporting.plots import COLOURS, MARKERS, encode, label, sizes, style
from saebench.scoring.axes import EVERY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Table = list[dict[str, str]]
REFERENCE = "reference"
_PALETTE = [colour for colour in COLOURS if colour != "#000000"]


def tables_in(folders: Sequence[Path]) -> list[Path]:
    """The tables of the study among some files and directly in some directories."""
    files = [path for given in folders for path in (sorted(given.iterdir()) if given.is_dir() else [given])]
    return [path for path in files if path.suffix == ".csv" and path.stem in TABLES]


def draw(paths: Sequence[Path]) -> dict[str, bytes]:
    """PNG files by name: of every table one for each model.

    Raises:
        ResultError: for a table that lacks what is drawn.
    """
    files: dict[str, bytes] = {}
    with style():
        for path in paths:
            name, figure = TABLES[path.stem]
            rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
            for model in dict.fromkeys(row.get("model", "") for row in rows):
                try:
                    made = figure([row for row in rows if row.get("model", "") == model])
                except (KeyError, ValueError) as error:
                    raise ResultError(
                        f"{path} cannot be drawn ({type(error).__name__}: {error}). Expected a table of"
                        f" `python -m saebench.studies.makelov {path.stem}`."
                    ) from error
                where = dict.fromkeys(row.get("site", "") for row in rows if row.get("model", "") == model)
                # of several sites each panel names its own
                title = (model, *where) if len(where) == 1 else (model,)
                made.suptitle(" · ".join(map(label, filter(None, title))), fontsize=9)
                files[f"{safe_name(model)}--{name}.png"] = encode(made)
    return files


def _marks(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Ceilings are black, controls grey, everything else has a colour."""
    found, others, greys = {}, 0, 0
    for name in dict.fromkeys(names):
        if name.startswith("control:supervised"):
            found[name] = {"color": "black", "marker": "s"}
        elif name.startswith(ROWS):
            found[name] = {"color": "#888888", "marker": MARKERS[greys % len(MARKERS)]}
            greys += 1
        else:
            colour, marker = _PALETTE[others % len(_PALETTE)], MARKERS[others % len(MARKERS)]
            # where colours begin again, marks are hollow
            hollow = {"markerfacecolor": "white"} if others >= len(_PALETTE) else {}
            found[name] = {"color": colour, "marker": marker, **hollow}
            others += 1
    return found


def _grid(n_rows: int, n_columns: int, width: float = 2.5, height: float = 2.5) -> "tuple[Figure, Any]":
    from matplotlib.figure import Figure

    size = (2.2 + width * n_columns, 0.8 + height * n_rows)
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(n_rows, n_columns, squeeze=False, sharey="row")


def _legend(figure: "Figure", marks: dict[str, dict[str, Any]]) -> None:
    """What marks and lines stand for, by name."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=label(name), **kwargs) for name, kwargs in marks.items()]
    figure.legend(handles=handles, loc="outside right upper", fontsize=7)


def _bars(rows: Table, name: str) -> tuple[list[float], list[list[float]]]:
    """Values, and the arms of their intervals; rows without a value are left out by the caller."""
    values = [float(row[name]) for row in rows]
    low = [max(0.0, v - float(row[f"{name}_low"])) for v, row in zip(values, rows, strict=True)]
    high = [max(0.0, float(row[f"{name}_high"]) - v) for v, row in zip(values, rows, strict=True)]
    return values, [low, high]


FOLLOWED = {"success": "share of edits that succeed", "ld_moved": "LD moved, 1: source patch"}


def joint_edits(rows: Table) -> "Figure":
    """Figure 3, size 6 included, and the same for several attributes at once; below it how far LD follows."""
    sets = list(dict.fromkeys(row["attributes"] for row in rows))
    marks = _marks([row["dictionary"] for row in rows if row["dictionary"] != REFERENCE])
    lines = [(score, edit) for score in FOLLOWED for edit in SIZED]
    figure, grid = _grid(len(lines), len(sets))
    for line, (score, edit) in zip(grid, lines, strict=True):
        for axes, attributes in zip(line, sets, strict=True):
            here = [row for row in rows if row["attributes"] == attributes and row[score]]
            for name, kwargs in marks.items():
                mine = [row for row in here if row["dictionary"] == name and row["edit"] == edit]
                mine.sort(key=lambda row: int(row["k"]))
                values, arms = _bars(mine, score)
                xs = [int(row["k"]) for row in mine]
                axes.errorbar(xs, values, yerr=arms, linewidth=1, markersize=4, **kwargs)
            _references(axes, here, score)
            sizes(axes)
            axes.set(title=f"{attributes}, {edit}")
            axes.set_xlabel("latents changed" if edit == "agnostic" else "size e of each attribute")
        line[0].set_ylabel(FOLLOWED[score])
        line[0].set_ylim((-0.05, 1.05) if score == "success" else (-1.1, 1.6))
    lines = {name: {"color": "black", "linestyle": dashes} for name, (_, dashes) in REFERENCES.items()}
    _legend(figure, marks | lines)
    return figure


def _references(axes: "Axes", here: Table, score: str) -> None:
    if not here:
        axes.text(0.5, 0.5, "the source does not move LD", ha="center", transform=axes.transAxes)
    for edit, dashes in REFERENCES.values():
        # how far LD moves is measured from no edit
        levels = [0.0] if (score, edit) == ("ld_moved", "none") else []
        mine = (row for row in here if (row["dictionary"], row["edit"]) == (REFERENCE, edit))
        for level in [*levels, *(float(row[score]) for row in mine)]:
            axes.axhline(level, color="black", linewidth=0.8, linestyle=dashes)


def interpretations(rows: Table) -> "Figure":
    """Figure 5: of the latents on at a site, the share that stands for each predicate."""
    sites = list(dict.fromkeys(row["site"] for row in rows))
    names = list(dict.fromkeys(row["dictionary"] for row in rows))[::-1]
    predicates = [p for p in dict.fromkeys(row["predicate"] for row in rows) if p != "none"]
    columns = min(2, len(sites))
    figure, grid = _grid(-(-len(sites) // columns), columns, 4.0, 0.6 + 0.3 * len(names))
    panels = list(grid.flat)
    for axes in panels[len(sites) :]:
        axes.set_axis_off()
    for axes, site in zip(panels, sites, strict=False):
        here = {(r["dictionary"], r["predicate"]): float(r["share"]) for r in rows if r["site"] == site}
        left = [0.0] * len(names)
        for number, predicate in enumerate(predicates):
            shares = [here.get((name, predicate), 0.0) for name in names]
            hatch = "//" if number >= len(_PALETTE) else None
            colour = _PALETTE[number % len(_PALETTE)]
            axes.barh(range(len(names)), shares, left=left, color=colour, hatch=hatch, label=predicate)
            left = [a + b for a, b in zip(left, shares, strict=True)]
        axes.set_yticks(range(len(names)), [label(name) for name in names], fontsize=7)
        axes.set(xlabel="share of active latents (rest: none)", xlim=(0, 1))
        axes.set_title(label(site), fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    further, more = panels[len(sites) - 1].get_legend_handles_labels()
    known = dict(zip(labels + more, handles + further, strict=True))
    figure.legend(known.values(), known.keys(), loc="outside right upper", fontsize=7)
    return figure


def thresholds(rows: Table) -> "Figure":
    """Figures 30 and 31 over the whole range of t."""
    marks = _marks([row["dictionary"] for row in rows])
    figure, grid = _grid(1, 2, 3.6, 3.0)
    for axes, (edit, title) in zip(grid[0], (("keep", "alone"), ("remove", "removed")), strict=True):
        for name, kwargs in marks.items():
            mine = [r for r in rows if r["dictionary"] == name and r["edit"] == edit and r["ld_recovered"]]
            at = [float(row["t"]) for row in mine]
            values, (low, high) = _bars(mine, "ld_recovered")
            axes.plot(at, values, linewidth=1, markersize=3, **kwargs)
            below = [v - a for v, a in zip(values, low, strict=True)]
            above = [v + a for v, a in zip(values, high, strict=True)]
            axes.fill_between(at, below, above, color=kwargs["color"], alpha=0.08, linewidth=0)
        _ends(axes)
        axes.set(title=f"latents with F1* ≥ t {title}", xlabel="t", ylim=(-0.6, 1.4))
    grid[0][0].set_ylabel("LD recovered")
    _legend(figure, marks)
    return figure


def _ends(axes: "Axes") -> None:
    for level in (0, 1):
        axes.axhline(level, color="black", linewidth=0.6)


def negative_weights(rows: Table) -> "Figure":
    """Share of active latents that write against the reconstruction, and what they write together."""
    names = [row["dictionary"] for row in rows]
    marks = _marks(names)
    figure, grid = _grid(1, 2, 3.0, 0.6 + 0.28 * len(rows))
    titles = (("share", "share of active latents"), ("sum", "their weights, summed"))
    for axes, (name, title) in zip(grid[0], titles, strict=True):
        for place, row in enumerate(rows[::-1]):
            (value,), arms = _bars([row], name)
            axes.errorbar([value], [place], xerr=arms, linestyle="none", **marks[row["dictionary"]])
        axes.axvline(0, color="black", linewidth=0.6)
        axes.locator_params(axis="x", nbins=4)
        axes.set_yticks(range(len(rows)), [label(n) for n in names[::-1]], fontsize=7)
        axes.set_title(title)
    return figure


def occlusion(rows: Table) -> "Figure":
    """Figure 6: latents of each attribute as a share of the stronger one is taken out; a line a seed."""
    attributes = list(dict.fromkeys(row["attribute"] for row in rows))
    scores = (("latents", "latents with F1* ≥ .8"), ("values_covered", "share of values that have one"))
    figure, grid = _grid(len(scores), len(attributes), 3.0)
    for line, (score, title) in zip(grid, scores, strict=True):
        for axes, attribute in zip(line, attributes, strict=True):
            for form, dashes, colour in (("retrained", "-", _PALETTE[0]), ("same", "--", _PALETTE[1])):
                for seed in dict.fromkeys(row["seed"] for row in rows):
                    mine = [r for r in rows if (r["attribute"], r["seed"]) == (attribute, seed)]
                    # both begin with the SAE of whole activations
                    kept = [r for r in mine if r["form"] == form or not float(r["share"])]
                    xs, ys = [float(r["share"]) for r in kept], [float(r[score]) for r in kept]
                    named = f"{form} SAE" if seed == rows[0]["seed"] else None
                    axes.plot(xs, ys, linestyle=dashes, color=colour, marker=".", label=named)
            axes.set(title=f"latents for {attribute}", xlabel=f"share of {rows[0]['taken_out']} taken out")
        line[0].set_ylabel(title)
    grid[0][0].legend(fontsize=7)
    return figure


SHOWN = ("fvu", "approximation", "control", "interpretability", "oversplitting")


def sublayers(rows: Table) -> "Figure":
    """Residual SAEs at a sublayer beside what was trained on it: the error, and the axes."""
    named = [f"{label(r['dictionary'])} {r['method']}".strip() for r in rows]
    figure, grid = _grid(1, len(SHOWN), 1.9, 0.6 + 0.28 * len(rows))
    for axes, score in zip(grid[0], SHOWN, strict=True):
        for place, row in enumerate(rows[::-1]):
            if row[score]:
                (value,), arms = _bars([row], score)
                own = row["trained_on"] == "sublayer"
                grey = row["dictionary"].startswith("control:")
                colour = "#888888" if grey else _PALETTE[0] if own else _PALETTE[1]
                filled = {} if row["method"] != "projection" else {"markerfacecolor": "white"}
                axes.errorbar([value], [place], xerr=arms, fmt="o", color=colour, markersize=5, **filled)
        axes.axvline(0, color="black", linewidth=0.6)
        axes.set_yticks(range(len(rows)), named[::-1], fontsize=7)
        axes.set_title(EVERY[score].title if score in EVERY else "variance missed", fontsize=9)
    point = {"linestyle": "none", "marker": "o"}
    hollow = {**point, "color": _PALETTE[1], "markerfacecolor": "white"}
    _legend(
        figure,
        {
            "trained there": {**point, "color": _PALETTE[0]},
            "control": {**point, "color": "#888888"},
            "residual stream, non-negative": {**point, "color": _PALETTE[1]},
            "residual stream, projection": hollow,
        },
    )
    return figure


TABLES: dict[str, tuple[str, Callable[[Table], "Figure"]]] = {
    "joint-edits": ("figure-3-joint", joint_edits),
    "interpretations": ("figure-5", interpretations),
    "interpretations-heads": ("figure-5-heads", interpretations),
    "occlusion": ("figure-6", occlusion),
    "thresholds": ("figure-30-31-whole-range", thresholds),
    "negative-weights": ("negative-weights", negative_weights),
    "sublayers": ("sublayers", sublayers),
}
"""By name of the table: the figure's name, and what draws it."""
