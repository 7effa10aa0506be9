"""How every figure looks, and how it becomes bytes: the same numbers give the same file."""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saebench.reporting.text import printable
from saebench.scoring.settings import EDIT_SIZES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours: told apart with any colour vision. Shapes say the same again.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7a6a00")
MARKERS = "osD^vPX*"
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "saebench",
    "svg.fonttype": "none",
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


@contextmanager
def style() -> Iterator[None]:
    """Figures made inside look as all figures here do."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        yield


def marks(i: int) -> dict[str, Any]:
    """Colour and shape of the i-th thing in a figure."""
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}


def encode(figure: "Figure", form: str = "png", dpi: int = 120, **options: Any) -> bytes:
    """A figure as `png` or `svg`, without dates or ids that would change from run to run."""
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
    with warnings.catch_warnings():
        # a name may have characters that the font lacks: a box stands for them
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format=form, dpi=dpi, metadata=metadata, **options)
    return buffer.getvalue()


def save(figure: "Figure", path: Path, **options: Any) -> Path:
    """Writes a figure in the form that the file's name ends in."""
    path.write_bytes(encode(figure, path.suffix.removeprefix("."), **options))
    return path


def sizes(axes: "Axes", ticks: Sequence[int] = EDIT_SIZES) -> None:
    """A logarithmic axis of edit sizes, marked with the numbers themselves."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(k) for k in ticks])
    axes.set_xlim(ticks[0] * 0.8, ticks[-1] * 1.25)


def label(text: str, longest: int = 42) -> str:
    """A name as a label: no control characters, no mathematics, bounded."""
    shown = printable(text)
    shown = shown if len(shown) <= longest else shown[: longest - 1] + "…"
    return shown.replace("$", r"\$")


def arms(value: float | None, ci: tuple[float, float] | None) -> tuple[float, float]:
    """Lengths of an error bar below and above a value; 0 where there is no interval.

    An interval on one side of its value, as a bootstrap's may be, has no arm on the other.
    """
    if value is None or ci is None:
        return 0.0, 0.0
    return max(0.0, value - ci[0]), max(0.0, ci[1] - value)
