"""What discovery found, as people read it: lines and heat maps on a terminal, heat maps as pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from rich.table import Table
from rich.text import Text

from saebench.records.discovery import Discovery, Found, SiteEffect
from saebench.records.files import safe_name
from saebench.reporting import plots
from saebench.reporting.text import interval, number
from saebench.site import Site

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLES = {
    "hook_resid_pre": "residual stream before the block",
    "attn.hook_z": "heads together",
    "hook_mlp_out": "MLP",
    "hook_resid_post": "last block's end",
}
SHORT = {"hook_resid_pre": "resid", "attn.hook_z": "heads", "hook_mlp_out": "MLP"}
"""The same where a column is as wide as a number."""
SHOWN = 12
"""Heads of an attribute that the terminal lists."""
STRENGTH = ((0.5, "bold white on dark_red"), (0.2, "black on dark_orange"), (0.05, "black on khaki1"))
"""From which share of LD on a cell is marked how."""


def folder(out: Path, model: str, task: str) -> Path:
    """Where what is found of a task in a model is kept: `OUT/MODEL/sites/TASK`."""
    return out / safe_name(model) / "sites" / safe_name(task)


def lines(found: Discovery) -> Iterator[str]:
    """The sites chosen for every attribute, what they do, and how far they can be believed."""
    yield (
        f"{found.task} on {found.model}: mean LD {number(found.ld)} {interval(found.ld_ci)},"
        f" {sum(found.n.values())} pairs of test; effects are changes of LD in units of that"
    )
    for each in found.found:
        yield from _about(each)
    chosen = [each for each in found.null if each.sites]
    if found.null:
        words = (
            "; ".join(f"{each.attribute}: {', '.join(each.sites)}" for each in chosen)
            or "none, as it must be"
        )
        yield f"on the null ({', '.join(each.attribute for each in found.null)}): {words}"
    agreement = found.agreement
    if agreement.rank_correlation is not None:
        yield (
            f"attribution against exact patching: rank correlation {number(agreement.rank_correlation)} over"
            f" {agreement.n} effects, {len(agreement.disagreements)} disagreements"
        )
        yield from (f"  {text}" for text in agreement.disagreements[:5])
    yield from found.notes


def _about(each: Found) -> Iterator[str]:
    if not each.sites:
        yield f"{each.attribute}: none ({each.reason})"
        return
    share = "undefined" if each.share is None else f"{number(each.share)} {interval(each.ci)}"
    yield f"{each.attribute}: {' & '.join(each.sites)}"
    yield f"  together {share} of the whole effect ({number(each.whole or 0.0)} LD)"
    for name, overlaps in (("other prompts", each.redraws), ("half of the phrasings", each.templates)):
        if overlaps:
            yield f"  overlap with what {name} choose: {', '.join(number(o, 2) for o in overlaps)}"
    if each.reason:
        yield f"  {each.reason}"


def tables(found: Discovery) -> Iterator[Table]:
    """For every attribute a map of hook points, layer by position, and its strongest heads."""
    for attribute in dict.fromkeys(e.attribute for e in found.effects):
        mine = {Site.parse(e.site): e for e in found.effects if e.attribute == attribute}
        kinds = [k for k in SHORT if any(s.kind == k and s.head is None for s in mine)]
        positions = _positions(mine)
        table = Table(
            title=f"{attribute}: effect by block and position", title_justify="left", pad_edge=False
        )
        table.add_column("block", justify="right")
        for kind in kinds:
            for i, position in enumerate(positions):
                table.add_column(f"{'' if i else SHORT[kind]}\n{position}", justify="right", no_wrap=True)
        layers = sorted({s.layer or 0 for s in mine})
        for layer in layers:
            cells = [_cell(mine.get(Site(f"blocks.{layer}.{kind}", p))) for kind in kinds for p in positions]
            table.add_row(str(layer), *cells)
        last = [mine.get(Site(f"blocks.{layers[-1]}.hook_resid_post", p)) for p in positions]
        if any(last) and kinds[:1] == ["hook_resid_pre"]:
            table.add_row("end", *map(_cell, last))
        yield table
        heads = [e for s, e in mine.items() if s.head is not None and e.effect is not None and e.real]
        if heads:
            yield _heads(attribute, sorted(heads, key=lambda e: -abs(e.effect or 0.0)))


def _heads(attribute: str, heads: Sequence[SiteEffect]) -> Table:
    more = f" ({SHOWN} of {len(heads)})" if len(heads) > SHOWN else ""
    table = Table(title=f"{attribute}: heads{more}", title_justify="left", pad_edge=False)
    for name in ("site", "effect", "answers changed"):
        table.add_column(name, justify="left" if name == "site" else "right")
    for e in heads[:SHOWN]:
        effect = f"{number(e.effect or 0.0)} {interval(e.ci)}"
        table.add_row(e.site, effect, number(e.flipped or 0.0, 2))
    return table


def _cell(effect: SiteEffect | None) -> Text:
    if effect is None:
        return Text("")
    if effect.effect is None:
        return Text("·", style="dim")
    size = abs(effect.effect)
    style = next((style for least, style in STRENGTH if size >= least and effect.real), "dim")
    return Text(number(effect.effect, 2), style=style)


def _positions(sites: Any) -> list[str]:
    return list(dict.fromkeys(site.position for site in sites))


def write_figures(found: Discovery, folder: Path) -> list[Path]:
    """`sites.png`, hook points layer by position, and `heads.png`, layer by head at each position."""
    written = []
    for name, columns in (("sites", _hook_panels(found)), ("heads", _head_panels(found))):
        if columns:
            written.append(_figure(found, columns, folder / f"{name}.png"))
    return written


Panel = tuple[str, list[str], list[list[Site]]]
"""Title, names of the columns, and the sites of every row, first block first."""


def _sites(found: Discovery) -> list[Site]:
    return list(dict.fromkeys(Site.parse(e.site) for e in found.effects))


def _hook_panels(found: Discovery) -> list[Panel]:
    sites = _sites(found)
    positions, layers = _positions(sites), sorted({s.layer or 0 for s in sites})
    panels = []
    for kind in dict.fromkeys(s.kind for s in sites if s.head is None):
        rows = [[Site(f"blocks.{layer}.{kind}", p) for p in positions] for layer in layers]
        panels.append((TITLES.get(kind, kind), positions, rows))
    # the last block's end is one row of its own, and no panel
    return [panel for panel in panels if panel[0] != TITLES["hook_resid_post"]]


def _head_panels(found: Discovery) -> list[Panel]:
    sites = [s for s in _sites(found) if s.head is not None]
    panels = []
    for kind in dict.fromkeys(s.kind for s in sites):
        mine = [s for s in sites if s.kind == kind]
        heads = sorted({s.head for s in mine if s.head is not None})
        layers = sorted({s.layer or 0 for s in mine})
        for position in _positions(mine):
            rows = [[Site(f"blocks.{layer}.{kind}", position, h) for h in heads] for layer in layers]
            panels.append((f"{kind} at {position}", [str(h) for h in heads], rows))
    return panels


def _figure(found: Discovery, panels: Sequence[Panel], path: Path) -> Path:
    from matplotlib.colors import TwoSlopeNorm
    from matplotlib.figure import Figure

    effects = {(e.attribute, Site.parse(e.site)): e for e in found.effects}
    attributes = list(dict.fromkeys(e.attribute for e in found.effects))
    chosen = {f.attribute: {Site.parse(site) for site in f.sites} for f in found.found}
    drawn = {site for _, _, rows in panels for row in rows for site in row}
    # heads are weaker than what they are written to: either picture has the scale of what it shows
    shown = [e.effect for (_, site), e in effects.items() if site in drawn and e.effect is not None]
    most = max(map(abs, shown), default=1.0) or 1.0
    norm, n_rows = TwoSlopeNorm(0.0, -most, most), max(len(rows) for _, _, rows in panels)
    with plots.style():
        size = (1.2 + 2.4 * len(panels), 0.9 + len(attributes) * (1.0 + 0.13 * max(n_rows, 6)))
        figure = Figure(figsize=size, layout="constrained")
        grid: Any = figure.subplots(len(attributes), len(panels), squeeze=False, sharey="row")
        picture = None
        for row, attribute in zip(grid, attributes, strict=True):
            for axes, panel in zip(row, panels, strict=True):
                picture = _draw(axes, panel, attribute, effects, chosen.get(attribute, set()), norm)
            row[0].set_ylabel(f"{attribute}\nblock")
        for axes, panel in zip(grid[0], panels, strict=True):
            axes.set_title(panel[0], fontsize=9)
        for axes in grid[-1] if path.stem == "heads" else ():
            axes.set_xlabel("head")
        assert picture is not None, "there are panels"
        figure.colorbar(picture, ax=grid, label="change of LD / LD", shrink=0.8, aspect=40)
        figure.suptitle(
            f"{found.task} on {found.model}: effect of a source's activation (box: chosen; grey: not run)"
        )
        return plots.save(figure, path)


def _draw(axes: "Axes", panel: Panel, attribute: str, effects: Any, chosen: set[Site], norm: Any) -> Any:
    _, columns, rows = panel
    grid: Float[np.ndarray, "l m"] = np.full((len(rows), len(columns)), np.nan)
    for y, row in enumerate(rows):
        for x, site in enumerate(row):
            effect = effects.get((attribute, site))
            if effect is not None and effect.effect is not None:
                grid[y, x] = effect.effect
            if site in chosen:
                axes.add_patch(_box(x, y))
    axes.set_facecolor("#bbbbbb")
    axes.grid(False)
    axes.set_xticks(range(len(columns)), columns, fontsize=7)
    step = max(1, len(rows) // 10)
    axes.set_yticks(range(0, len(rows), step), [str(row[0].layer or 0) for row in rows[::step]], fontsize=7)
    return axes.imshow(np.ma.masked_invalid(grid), cmap="RdBu_r", norm=norm, aspect="auto", origin="lower")


def _box(x: int, y: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=2, zorder=3)
