"""Figures of a board by matplotlib: L0 against every axis, and all intervals side by side.

SVG and PNG, without dates, ids or fonts that would change from run to run.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from saebench.records.result import AxisScore
from saebench.reporting.leaderboard.boards import AXES, KINDS, Row, Table
from saebench.reporting.plots import COLOURS, arms, encode, label, marks, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 30
CROWD = 60


def draw(table: Table) -> dict[str, bytes]:
    """Files by the end of their name: `pareto.svg`, `pareto.png`, `axes.svg`, `axes.png`."""
    from matplotlib.figure import Figure

    files = {}
    with style():
        drawers = {"pareto": _pareto, "axes": _intervals} if table.of_kind("sae") else {"axes": _intervals}
        for name, drawer in drawers.items():
            figure = Figure()
            drawer(figure, table)
            for suffix in ("svg", "png"):
                files[f"{name}.{suffix}"] = encode(figure, suffix, dpi=110)
    return files


def _panels(figure: "Figure", height: float, left: float, top: float, bottom: float) -> "Sequence[Axes]":
    """One panel an axis, side by side, with margins in inches."""
    width = 12.0
    figure.set_size_inches(width, height)
    return figure.subplots(
        1,
        len(AXES),
        sharex=True,
        sharey=True,
        gridspec_kw={
            "left": left / width,
            "right": 0.99,
            "bottom": bottom / height,
            "top": 1 - top / height,
            "wspace": 0.08,
        },
    )


def _title(figure: "Figure", table: Table) -> None:
    figure.text(
        0.5, 1 - 0.22 / figure.get_figheight(), label(table.board.title, 120), fontsize=11, ha="center"
    )


def _styles(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    names = sorted({row.result.dictionary.trained_as or "unknown" for row in rows})
    return {name: marks(i) for i, name in enumerate(names)}


def _pareto(figure: "Figure", table: Table) -> None:
    rows = [r for r in table.of_kind("sae") if r.result.dictionary.l0]
    styles = _styles(rows)
    # margins in inches; matplotlib's own layout takes longer than drawing
    panels = _panels(figure, height=3.4, left=0.55, top=0.62, bottom=0.85)
    for panel, (axis, title) in zip(panels, AXES.items(), strict=True):
        panel.set_title(title, fontsize=10)
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter("{x:g}")
        panel.set_xlabel("L0", labelpad=1)
        for level in (0, 1):
            panel.axhline(level, color="#888888", linewidth=1, linestyle="--")
        _points(panel, rows, axis, styles)
    panels[0].set_ylabel("normalised (0 floor, 1 ceiling)")
    handles = [
        panels[0].plot([], [], linestyle="", label=label(name), **mark)[0] for name, mark in styles.items()
    ]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles) or 1, frameon=False)
    _title(figure, table)


def _points(panel: "Axes", rows: Sequence[Row], axis: str, styles: dict[str, dict[str, Any]]) -> None:
    for name, mark in styles.items():
        xs, ys, errors = [], [], []
        for row in rows:
            score = row.result.axes.get(axis, AxisScore())
            if (row.result.dictionary.trained_as or "unknown") == name and score.normalized is not None:
                xs.append(row.result.dictionary.l0)
                ys.append(score.normalized)
                errors.append(arms(score.normalized, score.ci))
        if xs:
            # in a crowd the arms would hide the points
            yerr = tuple(zip(*errors, strict=True)) if len(rows) <= CROWD else None
            panel.errorbar(xs, ys, yerr=yerr, linestyle="", markersize=5, elinewidth=1, **mark)
    best = -math.inf
    edge = []
    for row in sorted(rows, key=lambda r: r.result.dictionary.l0 or 0):
        value = row.result.axes.get(axis, AxisScore()).normalized
        if value is not None and value > best:
            best = value
            edge.append((row.result.dictionary.l0, value))
    if edge:
        panel.plot(*zip(*edge, strict=True), color="#666666", linewidth=1, zorder=1)


def _intervals(figure: "Figure", table: Table) -> None:
    rows = [row for kind in KINDS for row in table.of_kind(kind)][:MOST_ROWS]
    height = 1.4 + 0.26 * len(rows)
    names = [label(row.result.dictionary.name, 44) for row in rows]
    # as much room as the longest name takes, at about .075 inches a character
    left = 0.3 + 0.075 * max(map(len, names), default=0)
    panels = _panels(figure, height=height, left=left, top=0.62, bottom=0.62)
    for panel, (axis, title) in zip(panels, AXES.items(), strict=True):
        panel.set_title(title, fontsize=10)
        for level in (0, 1):
            panel.axvline(level, color="#888888", linewidth=1, linestyle="--")
        scores = [row.result.axes.get(axis, AxisScore()) for row in rows]
        for contest, shape, colour in ((True, "o", COLOURS[0]), (False, "s", "#555555")):
            points = [
                (score.normalized, y, *arms(score.normalized, score.ci))
                for y, (row, score) in enumerate(zip(rows, scores, strict=True))
                if score.normalized is not None and (row.result.dictionary.kind == "sae") == contest
            ]
            if points:
                xs, ys, *xerr = zip(*points, strict=True)
                face = None if contest else "white"
                panel.errorbar(
                    xs,
                    ys,
                    xerr=xerr,
                    fmt=shape,
                    color=colour,
                    elinewidth=1.5,
                    markersize=4.5,
                    markerfacecolor=face,
                )
        for y, score in enumerate(scores):
            if score.normalized is None:
                panel.text(0.02, y, "undefined", fontsize=7, va="center", color="#666666")
    panels[0].set_yticks(range(len(rows)), names)
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    total = len(table.rows)
    shown = "" if total <= MOST_ROWS else f"; the first {MOST_ROWS} of {total}"
    note = "normalised, 95 % intervals; ○ SAEs, □ references that do not compete"
    figure.text(0.5, 0.1 / height, note + shown, fontsize=9, ha="center")
    _title(figure, table)
