"""Figures of cause and isolate from results: methods at a site, sites of a model, sizes of an edit."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from saebench.errors import ResultError
from saebench.records.result import Result, Score
from saebench.reporting.disentangle import (
    REFERENCES,
    SIZES,
    Method,
    attributes,
    by_site,
    method,
    methods,
    references,
)
from saebench.reporting.plots import arms, encode, marks, style
from saebench.site import Site

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LAYERED = ("source", "das", "mse", "mean", "neurons_mask", "none")


def draw(results: Sequence[Result]) -> dict[str, bytes]:
    """PNG files by name: per site `cause-isolate` and `sizes`, per model and task `layers`.

    Raises:
        ResultError: if no result holds cause and isolate.
    """
    from matplotlib.figure import Figure

    groups, files = by_site(results), {}
    stems: dict[str, dict[str, list[Result]]] = {}
    if not groups:
        raise ResultError(
            "No result here holds cause and isolate. Expected some of `saebench evaluate … --task ravel`."
        )
    with style():
        for (model, task, site, budget, seed), group in groups.items():
            stem = f"{model}--{task}--{budget}--{seed}".replace("/", "--")
            stems.setdefault(stem, {})[site] = group
            if all(_value(one, "disentangle") is None for one in methods(group)):
                # nothing is mediated here: the layers say so, and there is no point to draw
                continue
            figure = Figure(figsize=(8.4, 5.2), layout="constrained")
            _cause_isolate(figure, group)
            files[f"{stem}--{site}--cause-isolate.png"] = encode(figure)
            if _sized(group):
                figure = Figure(figsize=(8.4, 4.2), layout="constrained")
                _sizes(figure, group)
                files[f"{stem}--{site}--sizes.png"] = encode(figure)
        for stem, sites in stems.items():
            figure = Figure(figsize=(8.4, 4.6), layout="constrained")
            _layers(figure, sites)
            files[f"{stem}--layers.png"] = encode(figure)
    return files


def write(results: Sequence[Result], folder: Path) -> list[Path]:
    """Writes the figures into a folder and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, content in draw(results).items():
        path = folder / name
        path.write_bytes(content)
        paths.append(path)
    return paths


def _value(one: Method, name: str) -> float | None:
    score = one.get(name)
    return score.value if score is not None else None


def _cause_isolate(figure: "Figure", group: Sequence[Result]) -> None:
    """One point a method; methods of equal disentangle lie on a line of slope −1."""
    ax = figure.subplots()
    for level in (0.5, 0.75, 1.0):
        ax.plot([2 * level - 1, 1], [1, 2 * level - 1], color="#bbbbbb", linewidth=1, zorder=0)
        ax.text(2 * level - 1, 1.02, f"{level:g}", color="#777777", fontsize=8)
    for i, one in enumerate(methods(group)):
        _point(ax, one, i)
    first = group[0]
    ax.set(
        xlabel="cause (edited fact takes the source's value)",
        xlim=(-0.05, 1.05),
        ylabel="isolate (other facts stay)",
        ylim=(-0.05, 1.08),
    )
    ax.set_title(f"{first.task.name} on {first.model.name} at {first.site}; grey: equal disentangle")
    figure.legend(loc="outside right upper", fontsize=8)


def _point(ax: "Axes", one: Method, i: int) -> None:
    x, y = one.get("cause"), one.get("isolate")
    if x is None or y is None or x.value is None or y.value is None:
        return
    mark = marks(i)
    ax.errorbar(
        x.value,
        y.value,
        xerr=_sides([x]),
        yerr=_sides([y]),
        markerfacecolor=mark["color"] if one.family == "sae" else "white",
        markersize=7,
        elinewidth=1,
        linestyle="",
        label=one.label,
        **mark,
    )


def _sides(scores: Sequence[Score]) -> list[tuple[float, ...]]:
    """Error bars as matplotlib takes them: all arms below, all above."""
    return list(zip(*(arms(score.value, score.ci) for score in scores), strict=True))


def _sized(group: Sequence[Result]) -> list[Result]:
    """SAEs and controls with aware edits; a dictionary that sees labels changes one atom, not k latents."""
    return [r for r in group if r.dictionary.kind != "labelled" and method(r, "aware", "", "", 1)]


def _sizes(figure: "Figure", group: Sequence[Result]) -> None:
    """Disentangle of aware edits against their size, with the skyline and no edit."""
    ax = figure.subplots()
    for i, result in enumerate(_sized(group)):
        found = [(k, m.get("disentangle")) for k in SIZES if (m := method(result, "aware", "", "", k))]
        points = [(k, s.value) for k, s in found if s is not None and s.value is not None]
        if points:
            sizes, values = zip(*points, strict=True)
            ax.plot(sizes, values, label=result.dictionary.name, **marks(i))
    for one in references(group[0]):
        score = one.get("disentangle")
        if one.edit in ("das", "none") and score is not None and score.value is not None:
            ax.axhline(score.value, color="#777777", linestyle="--", linewidth=1)
            ax.text(1, score.value + 0.008, one.label, color="#555555", fontsize=8)
    ax.set_xscale("log", base=2)
    ax.set_xticks(SIZES, [str(k) for k in SIZES])
    ax.set(xlabel="latents removed and added at most", ylabel="disentangle")
    ax.set_title(f"{group[0].task.name} at {group[0].site}: aware edits by size")
    figure.legend(loc="outside right upper", fontsize=8)


def _layers(figure: "Figure", sites: dict[str, list[Result]]) -> None:
    """Left, what the source patch causes at each site; right, disentangle of references and SAEs."""
    order = sorted(sites, key=lambda s: Site.parse(s).sort_key())
    reach, spread = figure.subplots(1, 2, sharex=True)
    for i, name in enumerate(attributes(sites[order[0]][0])):
        _line(reach, order, sites, "source", ("cause", name), i, name)
    for i, edit in enumerate(LAYERED):
        _line(spread, order, sites, edit, ("disentangle", None), i + 3, REFERENCES[edit])
    for x, site in enumerate(order):
        for one in methods(sites[site]):
            value = _value(one, "disentangle") if one.family == "sae" else None
            if value is not None:
                spread.plot(x, value, marker="x", color="#000000", markersize=5)
    titles = {reach: "cause of the full source patch", spread: "disentangle where mediated (× SAEs)"}
    for panel, title in titles.items():
        panel.set_xticks(range(len(order)), [_short(s) for s in order], rotation=60, ha="right")
        panel.set(title=title, ylim=(-0.05, 1.08))
        panel.legend(fontsize=7, loc="lower left" if panel is reach else "lower right")
    reach.axhline(0.5, color="#777777", linestyle="--", linewidth=1)


def _line(
    panel: "Axes",
    order: Sequence[str],
    sites: dict[str, list[Result]],
    edit: str,
    score: tuple[str, str | None],
    i: int,
    label: str,
) -> None:
    """One score of one reference over the sites at which it exists."""
    found = [
        (x, one)
        for x, site in enumerate(order)
        for m in references(sites[site][0])
        if m.edit == edit and (one := m.get(*score)) is not None and one.value is not None
    ]
    if found:
        panel.errorbar(
            [x for x, _ in found],
            [one.value or 0.0 for _, one in found],
            yerr=_sides([one for _, one in found]),
            elinewidth=1,
            markerfacecolor="white",
            label=label,
            **marks(i),
        )


def _short(site: str) -> str:
    """`1 resid_pre` of `blocks.1.hook_resid_pre@entity`."""
    parsed = Site.parse(site)
    return f"{parsed.layer} {parsed.hook.rsplit('.', 1)[-1].removeprefix('hook_')}"
