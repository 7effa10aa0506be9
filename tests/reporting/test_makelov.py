"""Figures of a paper from results: which are drawn, from what, and that the same results give the same bytes."""

import numpy as np
import pytest
from command import run
from paths import ROOT

from saebench.errors import ResultError
from saebench.records import store
from saebench.reporting import makelov


@pytest.fixture(scope="module")
def results():
    paths = sorted(ROOT.glob("results/demo/*/ioi--*.json"))
    kept = [p for p in paths if any(name in str(p) for name in ("demo=topk@", "control=supervised@", "pca"))]
    return [store.load(path).result for path in kept]


def test_each_figure_has_a_row_in_the_map(results):
    files = makelov.draw(results)
    assert all(data.startswith(b"\x89PNG") for data in files.values())
    drawn = {file.partition("quick--0")[2].partition("--")[2] for file in files}
    text = (ROOT / "docs" / "makelov.md").read_text("utf-8")
    assert {"figure-2.png", "figure-3.png", "figure-4.png", "figure-30-31.png"} <= drawn
    assert all(f"`{name}`" in text for name in makelov.FIGURES)
    assert makelov.draw(results) == files


def test_what_is_drawn_is_what_was_scored(results):
    topk = next(r for r in results if r.dictionary.name == "demo:topk")
    row = makelov.Drawn(topk, 0)
    by_size = {s.k: s.value for s in row.scores("edit_success", "io", "agnostic")}
    assert list(by_size) == sorted(by_size) and by_size[16] == row.value("edit_success", "io", "agnostic", 16)
    figure = makelov.accuracy([row])
    assert figure is not None
    assert figure.axes[0].lines[0].get_ydata().tolist() == list(by_size.values())
    # a row that only edits has nothing to draw
    nothing = topk.model_copy(update={"scores": ()})
    assert all(figure([makelov.Drawn(nothing, 0)]) is None for figure in makelov.FIGURES.values())
    with pytest.raises(ResultError, match="Nothing here can be drawn"):
        makelov.draw([nothing])


def test_joint_edits_bring_their_sets_and_sizes(results):
    topk = next(r for r in results if r.dictionary.name == "demo:topk")
    of_io = [s for s in topk.scores if (s.name, s.attribute, s.edit) == ("edit_success", "io", "agnostic")]
    more = [s.model_copy(update={"axis": "joint"}) for s in of_io]
    more.append(more[0].model_copy(update={"k": 6}))
    sets = [s.model_copy(update={"attribute": "s+pos"}) for s in more]
    row = makelov.Drawn(topk.model_copy(update={"scores": (*topk.scores, *more, *sets)}), 0)
    for attribute in ("io", "s+pos"):
        assert [s.k for s in row.scores("edit_success", attribute, "agnostic")] == [1, 2, 4, 6, 8, 16, 32]
    figure = makelov.accuracy([row])
    assert figure is not None and len(figure.axes) == 2 * 4
    assert [axes.get_title() for axes in figure.axes[:4]] == [
        f"{a}, agnostic" for a in ("io", "s", "pos", "s+pos")
    ]


def test_the_papers_scale_of_what_is_taken_away(results):
    assert [makelov.on_papers_scale(weight, 0.5) for weight in (0, 0.5, 1)] == [-1, 0, 1]
    rows = [makelov.Drawn(r, i) for i, r in enumerate(results)]
    figure = makelov.magnitude(rows)
    assert figure is not None
    for above, below in zip(figure.axes[:3], figure.axes[3:], strict=True):
        shares, moved = (
            [np.asarray(line.get_xdata(), dtype=float) for line in axes.lines] for axes in (above, below)
        )
        # the last line above is the supervised edit's share
        least = shares[-1][0]
        for xs, at in zip(shares[:-1], moved, strict=False):
            assert at == pytest.approx((xs - least) / (1 - least))


def test_an_unknown_paper_is_one_paragraph(capsys, tmp_path):
    code, _, err = run(capsys, "paper", "makelof", str(tmp_path))
    assert code == 2 and "Did you mean 'makelov'" in err
