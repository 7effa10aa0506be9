"""The documents say what the code does."""

from documents import headings
from worlds import Planted, bench_of, scores, two_groups


def test_every_score_that_the_axes_emit_has_a_section():
    section, rows, bias = two_groups(noise=0.4)
    found = {entry.name for entry in scores(Planted(rows, bias), bench_of(section)).entries}
    # fragments of a value are rare: an SAE without any leaves these two out
    found |= {"fragments", "fragment_overlap"}
    assert found - headings() == set()
