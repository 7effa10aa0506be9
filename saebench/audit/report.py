"""The audit in words: a table for the terminal, a page in Markdown."""

from collections.abc import Iterator, Mapping

from rich.table import Table

from saebench.audit.cards import Card, Verdict
from saebench.audit.evidence import HELD_OUT
from saebench.audit.judging import Audit, describe
from saebench.audit.lenses import LENSES
from saebench.audit.lenses.truth import FAMILIES
from saebench.reporting.text import markdown_text

SIGNS = {
    Verdict.PASS: "pass",
    Verdict.FAIL: "FAIL",
    Verdict.PROVISIONAL: "provisional",
    Verdict.STATED: "stated",
    Verdict.NOT_APPLICABLE: "–",
}
STYLES = {"pass": "green", "FAIL": "bold red", "provisional": "yellow", "stated": "dim", "–": "dim"}


def cell(audit: Audit, board: str, axis: str, lens: str) -> str:
    verdict = audit.axis(board, axis).lenses.get(lens)
    return SIGNS[Verdict(verdict)] if verdict else "–"


def ordered_by(audit: Audit, board: str) -> str:
    """What the audit says of a board's ordering; one that it did not measure is ordered as any other."""
    if audit.measured(board):
        return f"Ordered by: {', '.join(audit.ordering(board)) or 'no axis passes here'}."
    axes = [axis for axis in audit.axes if audit.everywhere(axis).passes]
    return f"Ordered as every board that was not measured: by {', '.join(axes) or 'no axis'}."


def tables(audit: Audit) -> Iterator[Table]:
    """One table a board: axes down, lenses across."""
    for board in audit.boards:
        table = Table(
            title=board, title_justify="left", caption=ordered_by(audit, board), caption_justify="left"
        )
        table.add_column("axis")
        for lens in LENSES:
            table.add_column(lens)
        table.add_column("first failure or doubt", max_width=60)
        for axis in audit.axes:
            signs = [cell(audit, board, axis, lens) for lens in LENSES]
            shown = [f"[{STYLES[s]}]{s}[/]" for s in signs]
            table.add_row(axis, *shown, audit.axis(board, axis).reason)
        yield table


def markdown(audit: Audit, tables: Mapping[str, str]) -> str:
    """The whole audit as a page: verdicts, failures, then every number; `tables` says where each comes from."""
    return "\n".join([f"# Audit: {audit.definitions}", "", *_lines(audit, tables)]) + "\n"


def _lines(audit: Audit, tables: Mapping[str, str]) -> Iterator[str]:
    yield f"Definitions: {audit.definitions}. Recompute every card with `saebench audit --verify`."
    yield ""
    for name, source in tables.items():
        yield f"- `{name}` ({sum(name in card.tables for card in audit.cards)} cards): {source}"
    if tables:
        yield ""
    yield from _matrix(audit)
    failures = [c for c in audit.cards if c.verdict == Verdict.FAIL]
    yield f"## What fails ({len(failures)} cards)"
    yield ""
    yield from (f"- {_line(card)}" for card in failures)
    doubts = [c for c in audit.cards if c.verdict == Verdict.PROVISIONAL]
    yield ""
    yield f"## What is open ({len(doubts)} cards): the interval straddles the bar"
    yield ""
    yield from (f"- {_line(card)}" for card in doubts)
    yield ""
    yield from _truth(audit)
    yield "## Every card"
    yield ""
    yield "| board | axis | lens | check | measured | interval | bar | verdict | what was compared | from |"
    yield "|---|---|---|---|--:|---|--:|---|---|---|"
    for card in audit.cards:
        yield _row(card)


def _matrix(audit: Audit) -> Iterator[str]:
    for board in audit.boards:
        yield f"## {markdown_text(board)}"
        yield ""
        yield f"| axis | {' | '.join(LENSES)} |"
        yield f"|---|{'---|' * len(LENSES)}"
        for axis in audit.axes:
            signs = [cell(audit, board, axis, lens) for lens in LENSES]
            yield f"| {axis} | {' | '.join(f'**{s}**' if s == 'FAIL' else s for s in signs)} |"
        yield ""
        yield ordered_by(audit, board)
        yield ""


def _truth(audit: Audit) -> Iterator[str]:
    """Correlations with recovery: families down, scores across; apart where nothing was chosen."""
    for end, title in (("", ""), (HELD_OUT, ": SAEs of training seeds on which nothing was chosen")):
        cards = [
            c
            for c in audit.cards
            if c.check == "recovery" + end and c.lens in ("truth", "peers") and c.board != FAMILIES
        ]
        if not cards:
            continue
        columns = list(dict.fromkeys(c.axis for c in cards))
        yield f"## Rank correlation with recovery, inside L0 bands{title}"
        yield ""
        yield f"| family | {' | '.join(columns)} |"
        yield f"|---|{'--:|' * len(columns)}"
        for board in dict.fromkeys(c.board for c in cards):
            known = {c.axis: c.measured for c in cards if c.board == board}
            shown = ["–" if known.get(a) is None else f"{known[a]:.2f}" for a in columns]
            yield f"| {board.split(' · ')[0].removeprefix('synthetic/')} | {' | '.join(shown)} |"
        yield ""


def _line(card: Card) -> str:
    return markdown_text(f"{card.board} · {card.axis} · {describe(card)}")


def _row(card: Card) -> str:
    number = ["" if v is None else f"{v:.3f}" for v in (card.measured, card.low, card.high, card.bar)]
    interval = f"[{number[1]}, {number[2]}]" if card.low is not None else ""
    cells = (
        card.board,
        card.axis,
        card.lens,
        card.check,
        number[0],
        interval,
        number[3],
        card.verdict,
        card.reason,
        ", ".join(card.tables),
    )
    return f"| {' | '.join(markdown_text(str(c)) for c in cells)} |"
