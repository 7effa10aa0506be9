"""Figures of Makelov, Lange and Nanda 2024 (arXiv 2405.08366) from whatever was scored; docs/makelov.md is the map."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from saebench.errors import ResultError
from saebench.records.files import safe_name
from saebench.records.result import Result, Score
from saebench.reporting.plots import COLOURS, MARKERS, arms, encode, label, sizes, style
from saebench.scoring.joint import AXIS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS = ("control:pca", "control:random:", "control:identity")
"""Controls that are drawn beside SAEs and the supervised dictionary."""
SIZED = {"agnostic": "-", "aware": "--"}
REFERENCES = {"no edit": ("none", ":"), "supervised edit": ("supervised", "--")}
"""What edits are read against, and how it is drawn."""
_COLOURS = [colour for colour in COLOURS if colour != "#000000"]


class Drawn(NamedTuple):
    """A result with its place in the order of colours."""

    result: Result
    number: int
    """Among those of its kind."""

    @property
    def marks(self) -> dict[str, Any]:
        """Ceilings are black, controls grey; SAEs have colours, and hollow marks where those begin again."""
        kind = self.result.dictionary.kind
        if kind != "sae":
            colour = "black" if kind == "labelled" else "#888888"
            return {"color": colour, "marker": MARKERS[self.number % len(MARKERS)]}
        hollow = {"markerfacecolor": "white"} if self.number >= len(_COLOURS) else {}
        colour, marker = _COLOURS[self.number % len(_COLOURS)], MARKERS[self.number % len(MARKERS)]
        return {"color": colour, "marker": marker, **hollow}

    def scores(self, name: str, attribute: str | None = None, edit: str | None = None) -> list[Score]:
        """Those of a name that have a value, in order of k; where joint edits have more sizes, theirs."""
        found = [
            s
            for s in self.result.scores
            if (s.name, s.attribute, s.edit) == (name, attribute, edit) and s.value is not None
        ]
        joint = [s for s in found if s.axis == AXIS]
        return sorted(joint or found, key=lambda s: s.k or 0)

    def value(self, name: str, attribute: str, edit: str, k: int | None = None) -> float | None:
        return next((s.value for s in self.scores(name, attribute, edit) if s.k == k), None)


def draw(results: Sequence[Result]) -> dict[str, bytes]:
    """PNG files by name, one of every figure for each model, task, site, budget and seed that has its scores.

    Raises:
        ResultError: if nothing among the results can be drawn.
    """
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        key = (result.model.name, result.task.name, result.site, result.budget, str(result.seed))
        groups.setdefault(key, []).append(result)
    files: dict[str, bytes] = {}
    with style():
        for key, group in groups.items():
            group = sorted(group, key=lambda r: r.dictionary.name)
            kinds = (
                [r for r in group if r.dictionary.kind == "sae"],
                [r for r in group if r.dictionary.name.startswith(ROWS)],
                [r for r in group if r.dictionary.kind == "labelled"],
            )
            rows = [Drawn(r, i) for kind in kinds for i, r in enumerate(kind)]
            for name, figure in FIGURES.items():
                made = figure(rows)
                if made is not None:
                    made.suptitle(" · ".join(map(label, key[:3])), fontsize=9)
                    files[f"{safe_name('--'.join(key))}--{name}.png"] = encode(made)
    if not files:
        raise ResultError(
            "Nothing here can be drawn as in arXiv 2405.08366. Expected results of SAEs or controls of"
            " `saebench evaluate … --task ioi`."
        )
    return files


def _attributes(rows: Sequence[Drawn], name: str) -> list[str]:
    """Attributes of which any row has the score."""
    found = (s.attribute for row in rows for s in row.result.scores if s.name == name and s.value is not None)
    return list(dict.fromkeys(a for a in found if a))


def _panels(n_rows: int, n_columns: int) -> "tuple[Figure, Any]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.6 + 2.7 * n_columns, 0.9 + 2.6 * n_rows), layout="constrained")
    return figure, figure.subplots(n_rows, n_columns, squeeze=False, sharey=True)


def _legend(figure: "Figure", rows: Sequence[Drawn], lines: Mapping[str, str] = {}) -> None:
    """What marks stand for, and lines by what they are."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=label(row.result.dictionary.name), **row.marks) for row in rows]
    for name, dashes in lines.items():
        drawn: dict[str, Any] = {"color": "black", "linestyle": dashes}
        handles.append(Line2D([], [], label=name, **drawn))
    figure.legend(handles=handles, loc="outside right upper", fontsize=7)


def _line(axes: "Axes", row: Drawn, scores: Sequence[Score], times: float = 1) -> None:
    """Scores with their intervals over k, `times` so much."""
    known = [((s.k or 0) * times, s.value, s.ci) for s in scores if s.value is not None]
    xs, ys = [k for k, _, _ in known], [value for _, value, _ in known]
    bars = list(zip(*(arms(value, ci) for _, value, ci in known), strict=True))
    axes.errorbar(xs, ys, yerr=bars, linewidth=1, markersize=4, **row.marks)


def approximation(rows: Sequence[Drawn]) -> "Figure | None":
    """Figure 2 (and 15): sufficiency and necessity of every dictionary, and the paper's form of sufficiency."""
    kept = [row for row in rows if row.scores("sufficiency") or row.scores("necessity")]
    if not kept:
        return None
    figure, grid = _panels(1, 3)
    for axes, name in zip(grid[0], ("sufficiency", "necessity"), strict=False):
        for place, row in enumerate(kept):
            for score in row.scores(name):
                bars = [[arm] for arm in arms(score.value, score.ci)]
                axes.errorbar([place], [score.value], yerr=bars, linestyle="none", **row.marks)
        axes.set(title=name)
    for place, row in enumerate(kept):
        ratio = kept_share(row)
        if ratio is not None:
            grid[0][2].plot([place], [ratio], linestyle="none", **row.marks)
    grid[0][2].set(title="LD(reconstructed) / LD(clean)")
    for axes in grid[0]:
        axes.set(xticks=[])
        axes.axhline(1, color="black", linewidth=0.6)
        axes.axhline(0, color="black", linewidth=0.6)
    _legend(figure, kept)
    return figure


def kept_share(row: Drawn) -> float | None:
    """`LD(â) / LD(a)`, from sufficiency `(LD(â) − LD(ā)) / (LD(a) − LD(ā))` and what the task says of LD."""
    found = [
        next((s.value for s in row.scores(name)), None) for name in ("sufficiency", "spread", "clean_ld")
    ]
    sufficiency, spread, clean = found
    if sufficiency is None or spread is None or not clean:
        return None
    return 1 - (1 - sufficiency) * spread / clean


def accuracy(rows: Sequence[Drawn]) -> "Figure | None":
    """Figure 3: share of edits that succeed by size, for every attribute; agnostic above, aware below."""
    names = _attributes(rows, "edit_success")
    kept = [row for row in rows if any(row.scores("edit_success", a, e) for a in names for e in SIZED)]
    if not kept:
        return None
    figure, grid = _panels(len(SIZED), len(names))
    for line, edit in zip(grid, SIZED, strict=True):
        for axes, attribute in zip(line, names, strict=True):
            for row in kept:
                _line(axes, row, row.scores("edit_success", attribute, edit))
            for reference, dashes in REFERENCES.values():
                levels = (row.value("edit_success", attribute, reference) for row in kept)
                level = next((level for level in levels if level is not None), None)
                if level is not None:
                    axes.axhline(level, color="black", linewidth=0.8, linestyle=dashes)
            sizes(axes)
            axes.set(
                title=f"{attribute}, {edit}", xlabel="latents changed" if edit == "agnostic" else "size e"
            )
        line[0].set_ylabel("share of edits that succeed")
    _legend(figure, kept, {name: dashes for name, (_, dashes) in REFERENCES.items()})
    return figure


def magnitude(rows: Sequence[Drawn]) -> "Figure | None":
    """Figure 4: what an edit takes away against how often it succeeds.

    Above, the share of the reconstruction; below, the paper's scale: 0 is what the supervised dictionary's edit
    takes away, 1 everything. Linear between −1 and 1, logarithmic beyond.
    """
    names = _attributes(rows, "edit_magnitude")
    ceiling = next((row for row in rows if row.result.dictionary.kind == "labelled"), None)
    kept = [row for row in rows if any(row.scores("edit_magnitude", a, e) for a in names for e in SIZED)]
    if not kept:
        return None
    figure, grid = _panels(2, len(names))
    for (above, below), attribute in zip(grid.T, names, strict=True):
        least = ceiling.value("edit_magnitude", attribute, "aware", 1) if ceiling else None
        for row in kept:
            for edit, dashes in SIZED.items():
                points = _points(row, attribute, edit)
                xs, ys = [x for x, _ in points], [y for _, y in points]
                panels = {above: xs}
                if least is not None and least < 1:
                    panels[below] = [on_papers_scale(x, least) for x in xs]
                for axes, at in panels.items():
                    axes.plot(at, ys, linestyle=dashes, linewidth=1, markersize=4, **row.marks)
        above.set(title=attribute, xlabel="share taken away")
        if least is not None:
            above.axvline(least, color="black", linewidth=0.8, linestyle=":")
        _papers_scale(below, least)
    for axes in grid[:, 0]:
        axes.set_ylabel("share of edits that succeed")
    _legend(figure, kept, {**SIZED, "supervised weight": ":"})
    return figure


def on_papers_scale(weight: float, supervised: float) -> float:
    """What is taken away, 0 for what the supervised edit takes and 1 for everything."""
    return (weight - supervised) / (1 - supervised)


def _papers_scale(axes: "Axes", least: float | None) -> None:
    if least is None or least >= 1:
        why = "no supervised dictionary here" if least is None else "the supervised edit takes away all"
        axes.text(0.5, 0.5, why, ha="center", transform=axes.transAxes)
        return
    axes.set_xscale("symlog", linthresh=1)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("0: supervised weight, 1: everything")
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    axes.axvline(1, color="black", linewidth=0.8)


def _points(row: Drawn, attribute: str, edit: str) -> list[tuple[float, float]]:
    """(what is taken away, success) for every size that has both."""
    success = {s.k: s.value for s in row.scores("edit_success", attribute, edit)}
    found = []
    for score in row.scores("edit_magnitude", attribute, edit):
        reached = success.get(score.k)
        if score.value is not None and reached is not None:
            found.append((score.value, reached))
    return found


def interpretable(rows: Sequence[Drawn]) -> "Figure | None":
    """Figures 30 and 31: only the latents with F1 ≥ t kept, or exactly those removed, over t."""
    kept = [row for row in rows if row.scores("kept_ld", None, "keep")]
    if not kept:
        return None
    figure, grid = _panels(1, 2)
    for axes, (name, edit) in zip(grid[0], (("kept_ld", "keep"), ("removed_ld", "remove")), strict=True):
        for row in kept:
            _line(axes, row, row.scores(name, None, edit), 0.01)
        axes.axhline(1, color="black", linewidth=0.6)
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set(title=f"latents with F1* ≥ t {'alone' if edit == 'keep' else 'removed'}", xlabel="t")
    grid[0][0].set_ylabel("LD recovered")
    _legend(figure, kept)
    return figure


INTERCHANGED = {"matched": "latents with F1* ≥ t", "rest": "the rest"}


def interchange(rows: Sequence[Drawn]) -> "Figure | None":
    """Appendix A.13: the source's codes swapped into the latents with F1 ≥ t, or into the rest, over t."""
    names = _attributes(rows, "interchange_ld")
    kept = [row for row in rows if any(row.scores("interchange_ld", a, "matched") for a in names)]
    if not kept:
        return None
    figure, grid = _panels(2, len(names))
    for line, edit in zip(grid, INTERCHANGED, strict=True):
        for axes, attribute in zip(line, names, strict=True):
            for row in kept:
                _line(axes, row, row.scores("interchange_ld", attribute, edit), 0.01)
            axes.set(title=f"{attribute}: {INTERCHANGED[edit]}", xlabel="t")
        line[0].set_ylabel("LD moved, 1: source patch")
    _legend(figure, kept)
    return figure


FIGURES: dict[str, Callable[[Sequence[Drawn]], "Figure | None"]] = {
    "figure-2": approximation,
    "figure-3": accuracy,
    "figure-4": magnitude,
    "figure-30-31": interpretable,
    "appendix-a13": interchange,
}
