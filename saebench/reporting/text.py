"""Words for numbers, and text that a terminal, Markdown or a spreadsheet shows as it is."""

import sys
from collections.abc import Iterator

from rich.console import Console

WIDE = 136


def console(stderr: bool = False) -> Console:
    """A console that wraps at the terminal's width, and not at all where output goes to a file."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else WIDE + 24, highlight=False)


def number(value: float, digits: int = 3) -> str:
    """So many decimals in the middle, fewer digits far out; never scientific notation for a score.

    A value that rounds to zero has no sign: −0.000 reads as a finding.
    """
    return f"{value:z.{digits}f}" if abs(value) < 100 else f"{value:.4g}"


def interval(pair: tuple[float, float] | None, digits: int = 3) -> str:
    return f"[{number(pair[0], digits)}, {number(pair[1], digits)}]" if pair else ""


def change(value: float) -> str:
    """A difference with its sign; one that rounds to zero has none."""
    text = number(value)
    return text if value < 0 or not float(text) else f"+{text}"


class Footnotes:
    """Reasons, numbered once each."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def mark(self, reason: str) -> str:
        return f"({self._known.setdefault(reason, len(self._known) + 1)})"

    def lines(self) -> Iterator[str]:
        for reason, i in self._known.items():
            yield f"({i}) {reason}"


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is: no markup, link, mention, table cell or line break."""
    shown = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for character in "\\`*_{}[]()#|~!":
        shown = shown.replace(character, "\\" + character)
    # a mention or a bare address would become a link in spite of backslashes
    return shown.replace("@", "&#64;").replace("://", "&#58;//").replace("www.", "www&#46;")


def printable(text: str) -> str:
    """Control characters and line breaks shown as �: they could move a cursor or break a table."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


MISSING = frozenset(
    ["NA", "N/A", "n/a", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None", "#N/A", "#NA", "<NA>"]
)
"""Words that readers of CSV (pandas, R) take for a cell without a value."""


def csv_cell(value: object) -> object:
    """The value; a text that would be taken for a formula, or for no value, gets a leading apostrophe."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    # spreadsheets also look behind leading spaces
    taken = text.lstrip()[:1] in tuple("=+-@|%") or text.strip() in MISSING
    return "'" + text if taken else text
