"""What README says of the audit, from its cards: the verdict, the contrary first, and version 1 against now."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from saebench.audit.cards import Card, Verdict
from saebench.audit.evidence import HELD_OUT, PLANTED
from saebench.audit.judging import Audit, read_document
from saebench.audit.lenses.gaming import mean_row
from saebench.audit.lenses.truth import FAMILIES, OVERALL
from saebench.audit.rows import Rows, read, worth
from saebench.audit.thresholds import BARS

FOLDER = "audit"
TASKS = {"ioi": "IOI", "ravel": "RAVEL"}
NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight")


class Said(NamedTuple):
    """An audit that can be asked for single numbers."""

    audit: Audit

    def cards(self, lens: str, check: str, task: str = "", axis: str = "") -> list[Card]:
        """Cards that were measured."""
        return [
            c
            for c in self.audit.cards
            if (c.lens, c.check) == (lens, check) and c.board.startswith(task) and axis in ("", c.axis)
            if c.verdict != Verdict.NOT_APPLICABLE
        ]

    def of(self, board: str, axis: str, check: str) -> float:
        """The number of one card of the lens of truth.

        Raises:
            ValueError: if there is not one such card.
        """
        (card,) = [c for c in self.cards("truth", check, board, axis)]
        return measured(card)

    @property
    def families(self) -> list[str]:
        return [b for b in self.audit.boards if b.startswith("synthetic/")]


def measured(card: Card) -> float:
    assert card.measured is not None, card.id
    return card.measured


def shown(value: float) -> str:
    """`.76`, `−.03`."""
    text = f"{abs(value):.2f}".removeprefix("0")
    return f"−{text}" if value < 0 and float(text) else text


def paragraphs(results: Path) -> str:
    """The verdict in words, and two tables.

    Raises:
        ResultError: if an audit is missing.
    """
    then, now = (Said(read_document(results / FOLDER / f"{name}.json")) for name in ("before", "after"))
    return "\n".join([verdict(now, results), "", *recovery(now), "", *lenses(then, now)])


def verdict(now: Said, results: Path) -> str:
    values = sorted(now.of(b, OVERALL, f"recovery{HELD_OUT}") for b in now.families)
    above = now.of(FAMILIES, OVERALL, f"above explained variance{HELD_OUT}")
    ours, lead = (now.of(PLANTED, OVERALL, check) for check in ("recovery", "above explained variance"))
    lost = [a for a in now.audit.axes if not now.audit.everywhere(a).passes]
    bundled = read(results / FOLDER / "after" / "boards.parquet").first
    frame, best = control_on_ravel(bundled)
    opposed = agreement(bundled, "ravel", "control", "oversplitting")
    learned, first = hardly_learns(now, bundled)
    held = [a for a in now.audit.axes if _passes_everywhere(now, "order", "matched null", a)]
    page = f"{results.name}/{FOLDER}/README.md"
    return (
        f"**What was found against us** stands first in the [audit]({page}), which judges every axis. On synthetic SAEs"
        " held out from every choice the ordering of boards follows recovery of the true features by"
        f" {shown(values[1])} to {shown(values[-1])} in {NUMBERS[len(values) - 1]} families and by {shown(values[0])}"
        f" in the other (we wanted {shown(BARS.truth)} in {NUMBERS[BARS.truth_families]}), credibly better than"
        f" explained variance in {NUMBERS[int(above)]}; among fully trained SAEs alone it says little. On planted"
        f" language models it follows recovery of the planted subspaces by {shown(ours)}, explained variance by"
        f" {shown(ours - lead)}. {_listed(lost).capitalize()} follow too little and order no board. On RAVEL 768"
        f" random directions, all on, have control {shown(frame)}, the best SAE {shown(best)}; there control ranks"
        f" the SAEs against over-splitting (rank correlation {shown(opposed)}). On IOI a control that hardly learns"
        f" has {shown(learned)} in the ordering, the best SAE {shown(first)}. No cheat tops the ordering, and every"
        f" bundled SAE is above its own matched null on {_listed(held)}."
    )


def control_on_ravel(bundled: Rows) -> tuple[float, float]:
    """Control on RAVEL of the cheat that leads it, and of the best SAE."""
    there = bundled.where(lambda r: r.board.startswith("ravel") and r.value is not None, axis="control")
    return worth(next(iter(there.where(name="huge L0")))), max(map(worth, there.where(group="trained")))


def agreement(bundled: Rows, task: str, one: str, other: str) -> float:
    """The rank correlation of two axes over all bundled SAEs, the under-trained one among them."""
    saes = bundled.where(lambda r: r.board.startswith(task) and r.group in ("trained", "undertrained"))
    values = [
        [worth(r) for r in sorted(saes.where(axis=axis), key=lambda r: r.name)] for axis in (one, other)
    ]
    return float(np.corrcoef(stats.rankdata(values, axis=1))[0, 1])


def hardly_learns(now: Said, bundled: Rows) -> tuple[float, float]:
    """The ordering on IOI of the soft-frozen control, whose rows stay near random ones, and of the best SAE."""
    there = bundled.where(lambda r: r.board.startswith("ioi"))
    (board,) = there.distinct("board")
    axes = now.audit.ordering(board)

    def best(rows: Rows) -> float:
        return max(worth(mean_row(rows.where(name=name), axes)) for name in rows.distinct("name"))

    frozen = there.where(lambda r: r.name.startswith("control:soft-frozen"), group="reference")
    return best(frozen), best(there.where(group="trained"))


def _passes_everywhere(now: Said, lens: str, check: str, axis: str) -> bool:
    found = [now.cards(lens, check, task, axis) for task in TASKS]
    return all(cards and cards[0].verdict == Verdict.PASS for cards in found)


def _listed(axes: list[str]) -> str:
    names = [axis.replace("oversplitting", "over-splitting") for axis in axes]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else "no axis"


def recovery(now: Said) -> list[str]:
    """Rank correlations with recovery by family: of the ordering now, of version 1's, of explained variance."""
    names = [b.split(" · ")[0].removeprefix("synthetic/") for b in now.families]

    def line(title: str, minus: str = "") -> str:
        values = [now.of(b, OVERALL, f"recovery{HELD_OUT}") for b in now.families]
        if minus:
            leads = [now.of(b, OVERALL, minus + HELD_OUT) for b in now.families]
            values = [value - lead for value, lead in zip(values, leads, strict=True)]
        return f"| {title} | {' | '.join(map(shown, values))} |"

    return [
        f"| rank correlation with recovery | {' | '.join(names)} |",
        f"|---|{'--:|' * len(names)}",
        line("boards' ordering now"),
        line("that of version 1, the same SAEs", "against version 1"),
        line("explained variance", "above explained variance"),
    ]


def lenses(then: Said, now: Said) -> list[str]:
    """What the audit asks of both versions, on IOI and on RAVEL.

    The model that is bundled changed in between: version 1 cannot be measured on the new one.
    """
    asked: dict[str, Callable[[Said, str], str]] = {
        "axes on which every SAE is credibly above its matched null": _passing("order", "matched null"),
        "axes that fall when the decoder is permuted": _passing("specificity", "permuted-decoder"),
        "largest score where nothing has an effect": _most("specificity", "null task"),
        "axes on which the under-trained SAE is below its twin": lambda s, t: (
            f"{measured(s.cards('order', 'under-trained', t)[0]):.0f}"
        ),
        "closest cheat in the ordering, minus the best SAE": _lead,
        "draws of prompts that agree within intervals, the worst axis": _least("repeatability", "intervals"),
    }
    titles = [f"{task}, {version}" for task in TASKS.values() for version in ("version 1", "now")]
    head = "bundled SAEs (version 1 on the weights bundled then, now on those of now)"
    lines = [f"| {head} | {' | '.join(titles)} |", f"|---|{'--:|' * len(titles)}"]
    for title, say in asked.items():
        cells = [say(version, task) for task in TASKS for version in (then, now)]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def _passing(lens: str, check: str) -> Callable[[Said, str], str]:
    def say(said: Said, task: str) -> str:
        cards = said.cards(lens, check, task)
        return f"{sum(c.verdict == Verdict.PASS for c in cards)} of {len(cards)}"

    return say


def _most(lens: str, check: str) -> Callable[[Said, str], str]:
    return lambda said, task: shown(max(map(measured, said.cards(lens, check, task))))


def _least(lens: str, check: str) -> Callable[[Said, str], str]:
    return lambda said, task: f"{min(map(measured, said.cards(lens, check, task))):.0%}"


def _lead(said: Said, task: str) -> str:
    cards: Iterable[Card] = (c for c in said.audit.cards if (c.lens, c.axis) == ("gaming", "ordering"))
    values = [measured(c) for c in cards if c.board.startswith(task) and c.measured is not None]
    return f"{max(values):+.4f}".replace("-", "−") if values else "–"
