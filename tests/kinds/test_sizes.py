"""Budgets between the named ones."""

import pytest

from saebench.errors import OptionError
from saebench.evaluation.options import Options
from saebench.kinds import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_times_quick_lies_between_the_named_budgets(kind):
    sizes = KINDS[kind].sizes
    assert sizes.of("1x") == sizes.of("quick") == sizes.named["quick"]
    most = sizes.times("standard")
    assert sizes.of(f"{most}x") == sizes.of("standard")
    between = sizes.of("2x")
    ends = zip(sizes.of("quick"), between, sizes.of("standard"), strict=True)
    assert all(low <= at <= high for low, at, high in ends)
    assert (
        sizes.units(between)
        == 2 * sizes.units(sizes.of("quick"))
        == sizes.units(sizes.of("quick")) * sizes.times("2x")
    )
    for budget in ("0.01x", "50x"):
        with pytest.raises(OptionError, match="or full"):
            sizes.of(budget)


@pytest.mark.parametrize("budget", ["x", "-1x", "2.5", "2,5x", "quik"])
def test_what_is_no_budget_is_refused(budget):
    with pytest.raises(OptionError, match="quick"):
        Options(budget=budget)
    assert Options(budget="2.5x").budget == "2.5x"
