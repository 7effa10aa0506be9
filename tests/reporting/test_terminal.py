"""What was assumed stands under the table, on every terminal and in every pipe."""

from io import StringIO

import pytest
from paths import RESULTS
from rich.console import Console

from saebench.records import store
from saebench.reporting import terminal
from saebench.reporting.text import WIDE, interval, number
from saebench.scoring.axes import AXES

SAID = ("scored on another model: this one", "input scale 1.25, measured")


@pytest.fixture(scope="module")
def results():
    path = next(p for p in store.find(RESULTS) if p.name.startswith("ioi"))
    one = store.load(path).result
    named = [
        one.model_copy(update={"dictionary": one.dictionary.model_copy(update={"name": n})}) for n in "abc"
    ]
    return [
        named[0].model_copy(update={"warnings": SAID}),
        named[1].model_copy(update={"warnings": SAID[:1]}),
        named[2].model_copy(update={"warnings": ()}),
    ]


def shown(results, width: int, tty: bool) -> str:
    out = Console(file=StringIO(), width=width, force_terminal=tty, color_system=None)
    terminal.print_results(results, out)
    return " ".join(out.file.getvalue().split())


@pytest.mark.parametrize("width", [60, 80, WIDE, 200])
@pytest.mark.parametrize("tty", [True, False])
def test_warnings_are_shown_at_every_width(width, tty, results):
    text = shown(results, width, tty)
    assert all(line in text for line in SAID)


def test_a_warning_of_several_stands_once_with_their_names(results):
    text = shown(results, 200, False)
    assert text.count(SAID[0]) == 1 and f"note (a, b): {SAID[0]}" in text
    assert f"note (a): {SAID[1]}" in text
    every = [r.model_copy(update={"warnings": SAID}) for r in results]
    assert f"note (all): {SAID[0]}" in shown(every, 200, False)
    # a second board of the same model: what holds for all of both is told under the first
    elsewhere = [r.model_copy(update={"site": "blocks.0.hook_resid_pre@end"}) for r in every]
    assert shown([*every, *elsewhere], 200, False).count(SAID[0]) == 1


def test_another_dtype_is_said_in_the_heading(results):
    one = results[0]
    half = one.model_copy(update={"provenance": one.provenance.model_copy(update={"dtype": "bfloat16"})})
    assert "in bfloat16 at" in terminal.heading(half)
    assert "float32" not in terminal.heading(one)


@pytest.mark.parametrize("width", [60, 100, WIDE, 200])
def test_no_number_of_a_score_is_broken_at_any_width(width, results):
    out = Console(file=StringIO(), width=width, color_system=None)
    result = results[0]
    terminal.print_axes(result, out)
    out.print(terminal.scores_table(result, "control", out.width))
    text = out.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    for axis in AXES.values():
        assert axis.title in text
    for score in result.scores:
        if score.axis == "control" and score.value is not None:
            assert number(score.value) in text and interval(score.ci) in text
