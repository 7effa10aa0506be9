"""The figures of results/audit/README.md are those of the committed cards."""

from functools import partial

import pytest
from paths import RESULTS

from saebench.audit.cards import Card, Verdict
from saebench.audit.evidence import HELD_OUT, PLANTED
from saebench.audit.judging import read_document
from saebench.audit.lenses.truth import FAMILIES, OVERALL
from saebench.audit.rows import difference, read
from saebench.studies.audit.summary import Said, agreement, control_on_ravel, hardly_learns, measured, shown

AUDIT = RESULTS / "audit"
TEXT = " ".join((AUDIT / "README.md").read_text("utf-8").split())
NOW = Said(read_document(AUDIT / "after.json"))
EACH = " ".join


def card(task: str, axis: str, lens: str, check: str) -> Card:
    (found,) = NOW.cards(lens, check, task, axis)
    return found


def number(task: str, axis: str, lens: str, check: str) -> str:
    return shown(measured(card(task, axis, lens, check)))


def interval(task: str, axis: str, lens: str, check: str) -> str:
    c = card(task, axis, lens, check)
    assert c.low is not None and c.high is not None
    return f"{shown(measured(c))} [{shown(c.low)}, {shown(c.high)}]"


def below(task: str, cheat: str) -> str:
    """How far a cheat stays below the best SAE in the ordering."""
    c = card(task, "ordering", "gaming", cheat)
    assert c.low is not None and c.high is not None
    return f"{shown(-measured(c))} [{shown(-c.high)}, {shown(-c.low)}]"


def by_family(axis: str, check: str = f"recovery{HELD_OUT}") -> list[str]:
    return [number(family, axis, "truth", check) for family in NOW.families]


def cells(title: str, values: list[str]) -> str:
    return f"| {title} | {' | '.join(values)} |"


def leads(check: str) -> list[str]:
    """Differences of the ordering by family; one that is credibly not 0 is bold."""
    found = []
    for family in NOW.families:
        c = card(family, OVERALL, "truth", f"{check}{HELD_OUT}")
        assert c.low is not None and c.high is not None
        text = interval(family, OVERALL, "truth", f"{check}{HELD_OUT}")
        found.append(f"**{text}**" if c.low > 0 or c.high < 0 else text)
    return found


def agreed(task: str, axis: str) -> str:
    return f"{measured(card(task, axis, 'repeatability', 'intervals')):.1%}".replace("%", " %")


def decided(task: str, axis: str) -> str:
    """`19 of 19`"""
    c = card(task, axis, "separation", "quick against full")
    n = int(c.reason.split()[1])
    return f"{measured(c) * n:.0f} of {n}"


BUNDLED = read(AUDIT / "after" / "boards.parquet").first
FROZEN, BEST = hardly_learns(NOW, BUNDLED)
DENSE, _ = control_on_ravel(BUNDLED)
opposed = partial(agreement, BUNDLED, "ravel")

CLAIMS = {
    "held out": cells("**held out** (training seeds 1, 2)", [*by_family(OVERALL), "none"]),
    "chosen on": cells("chosen on (seed 0)", [*by_family(OVERALL, "recovery"), "2"]),
    "explained variance": cells("held out, minus explained variance", leads("above explained variance")),
    "version 1": cells("held out, minus version 1", leads("against version 1")),
    "all axes": cells("held out, minus the mean of all axes", leads("against the mean of all axes")),
    "control": f"control does so too* ({EACH(by_family('control'))},",
    "interpretability": f"Interpretability {EACH(by_family('interpretability'))}",
    "over-splitting": f"over-splitting {EACH(by_family('oversplitting'))} hold",
    "planted": (
        f"by {interval(PLANTED, OVERALL, 'truth', 'recovery')}, control by"
        f" {number(PLANTED, 'control', 'truth', 'recovery')}, interpretability"
        f" {number(PLANTED, 'interpretability', 'truth', 'recovery')}, over-splitting"
        f" {number(PLANTED, 'oversplitting', 'truth', 'recovery')};"
    ),
    "planted lead": f"(difference {interval(PLANTED, OVERALL, 'truth', 'above explained variance')})",
    "fall in training": f"({interval('ioi', 'occlusion', 'order', 'rise in training')})",
    "convergence": EACH(
        [
            f"interpretability {number(FAMILIES, 'interpretability', 'convergence', 'same axis against others')},",
            f"control {number(FAMILIES, 'control', 'convergence', 'same axis against others')})",
        ]
    ),
    "nulls": (
        f"interpretability (by {number('ioi', 'interpretability', 'order', 'matched null')} or more on IOI,"
        f" {number('ravel', 'interpretability', 'order', 'matched null')} on RAVEL), over-splitting"
        f" ({number('ioi', 'oversplitting', 'order', 'matched null')},"
        f" {number('ravel', 'oversplitting', 'order', 'matched null')}) and control"
        f" ({number('ioi', 'control', 'order', 'matched null')}, {number('ravel', 'control', 'order', 'matched null')})"
    ),
    "draws, IOI": (
        f"{agreed('ioi', 'control')} of the time for control, {agreed('ioi', 'interpretability')} for"
        f" interpretability, {agreed('ioi', 'oversplitting')} for over-splitting, {agreed('ioi', 'approximation')}"
        " for approximation"
    ),
    "draws, RAVEL": (
        f"on RAVEL {agreed('ravel', 'approximation')} for approximation, {agreed('ravel', 'interpretability')}"
        f" for interpretability and {agreed('ravel', 'oversplitting')}"
    ),
    "spread": (
        f"on IOI {measured(card('ioi', 'interpretability', 'separation', 'spread over noise')):.1f} times"
        f" (interpretability), {measured(card('ioi', 'control', 'separation', 'spread over noise')):.1f} (control) and"
        f" {measured(card('ioi', 'oversplitting', 'separation', 'spread over noise')):.1f} (over-splitting), on RAVEL"
        f" {measured(card('ravel', 'interpretability', 'separation', 'spread over noise')):.1f} and"
        f" {measured(card('ravel', 'oversplitting', 'separation', 'spread over noise')):.1f}"
    ),
    "occlusion apart": (
        f"On IOI SAEs are {measured(card('ioi', 'occlusion', 'separation', 'spread over noise')):.1f} times farther"
        " apart on it than draws of prompts move one"
    ),
    "quick, IOI": (
        f"in {decided('ioi', 'approximation')} (approximation), {decided('ioi', 'control')} (control),"
        f" {decided('ioi', 'interpretability')} (interpretability), {decided('ioi', 'oversplitting')} (over-splitting)"
        f" and {decided('ioi', 'occlusion')} (occlusion) on IOI"
    ),
    "huge L0": f"({below('ravel', 'huge L0')} below the best SAE)",
    "climb": f"in the mean {below('ioi', 'hill climb on the ordering')} below the best SAE",
    "hardly learns": f"has {shown(FROZEN)} in the ordering, the best bundled SAE {shown(BEST)}",
    "opposed": f"the rank correlation is {shown(opposed('control', 'oversplitting'))}",
    "opposed too": f"interpretability {shown(opposed('control', 'interpretability'))},",
    "density": f"all on, have {shown(DENSE)} there",
    "approximation falls": (
        f"(by {shown(-measured(card('ioi', 'approximation', 'order', 'no fall in training')))})"
    ),
}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_a_figure_of_the_audits_page(claim: str):
    assert claim in TEXT


def test_under_trained_saes_are_below_their_twins_on_both_boards():
    for task in ("ioi", "ravel"):
        assert card(task, "all", "order", "under-trained").verdict == Verdict.PASS


def test_the_under_trained_sae_is_above_its_twin_in_control_on_ravel():
    """As the page says: against us, since the lens asks for two axes and these are others."""
    there = BUNDLED.where(lambda r: r.board.startswith("ravel"), axis="control")
    (short,), (twin,) = there.where(group="undertrained"), there.where(group="trained", name="demo:topk")
    moved = difference(short, twin)
    assert moved is not None and moved.low > 0
    assert f"by {shown(moved.value)} [{shown(moved.low)}, {shown(moved.high)}]" in TEXT
