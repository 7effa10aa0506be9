"""Figures of a paper from results: which are drawn, from what, and that the same results give the same bytes."""

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


def test_an_unknown_paper_is_one_paragraph(capsys, tmp_path):
    code, _, err = run(capsys, "paper", "makelof", str(tmp_path))
    assert code == 2 and "Did you mean 'makelov'" in err
