"""The leaderboard as files: complete, deterministic, inert whatever a dictionary is called."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import simulated

from saebench.errors import StoreError
from saebench.records import store
from saebench.records.result import AxisScore
from saebench.reporting import leaderboard
from saebench.reporting.leaderboard.boards import AXES, OVERALL, Rank, collect, l0_band, rank
from saebench.reporting.leaderboard.page import render_page, script_json
from saebench.reporting.leaderboard.tables import render_csv, render_markdown
from saebench.scoring.axes import EVERY, versions

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "../../etc/passwd",
    "=cmd()",
    "+1+1",
    "-2+3",
    "@SUM(A1:A9)",
    "\"quoted\" & 'single'",
    "🦄 unicorn",
    "x" * 300,
    "a|b|c",
    "[link](javascript:alert(1))",
    "$\\frac{1}{0}$",
    "line\nbreak\ttab",
    "\x1b[31mred",
    "\u202egnp.exe",
    "--><!-- ]]>",
    "{{ 7*7 }}",
    "${alert(1)}",
    " =1+1",
    "`code`",
    "$$",
    "%s %d",
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results")
    simulated.populate(out, 6, ("ioi", "ravel/city"))
    leaderboard.build(out)
    return out


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hostile")
    for i, name in enumerate(HOSTILE):
        made = simulated.sae(i, task="ioi", name=name)
        scores = (*made.scores, made.scores[0].model_copy(update={"attribute": name, "k": None}))
        axes = {**made.axes, "occlusion": AxisScore(reason=name, note=name)}
        update = {"scores": scores, "axes": axes, "warnings": (name,)}
        store.save(made.model_copy(update=update), simulated.outcomes(), out)
    odd = simulated.sae(99, task="<i>task</i>|$x$", name="=evil")
    store.save(odd, simulated.outcomes(), out)
    leaderboard.build(out)
    return out


def files(out: Path) -> dict[str, bytes]:
    board = out / "leaderboard"
    return {p.relative_to(board).as_posix(): p.read_bytes() for p in board.rglob("*") if p.is_file()}


def page_data(page: str) -> dict:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.S)
    assert found
    return json.loads(found[1])


def test_everything_is_written(built: Path) -> None:
    ends = ("pareto.svg", "pareto.png", "axes.svg", "axes.png")
    expected = {"leaderboard.md", "leaderboard.csv", "index.html"}
    expected |= {f"figures/{task}-{end}" for task in ("ioi", "ravel--city") for end in ends}
    assert set(files(built)) == expected


def test_the_same_results_give_the_same_bytes(built: Path, tmp_path: Path) -> None:
    simulated.populate(tmp_path, 6, ("ravel/city", "ioi"))
    leaderboard.build(tmp_path)
    assert files(tmp_path) == files(built)


def test_check_sees_a_stale_or_missing_file(built: Path, tmp_path: Path) -> None:
    simulated.populate(tmp_path, 2)
    assert len(leaderboard.check(tmp_path)) == 7, "nothing is built yet"
    leaderboard.build(tmp_path)
    assert leaderboard.check(tmp_path) == []
    store.save(simulated.sae(7), simulated.outcomes(), tmp_path)
    stale = {p.name for p in leaderboard.check(tmp_path)}
    assert stale == {"leaderboard.md", "leaderboard.csv", "index.html"}
    (tmp_path / "leaderboard" / "figures" / "ioi-axes.png").unlink()
    assert "ioi-axes.png" in {p.name for p in leaderboard.check(tmp_path)}


def test_no_results_and_no_directory(tmp_path: Path) -> None:
    leaderboard.build(tmp_path)
    assert "no results yet" in (tmp_path / "leaderboard" / "leaderboard.md").read_text()
    with pytest.raises(StoreError, match="no results directory"):
        leaderboard.build(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="--out"):
        leaderboard.build(tmp_path, tmp_path / "file")


def test_references_stand_apart_and_do_not_compete(built: Path) -> None:
    text = (built / "leaderboard" / "leaderboard.md").read_text()
    ioi = text.split("## ")[1]
    order = ["Sparse autoencoders", "Ceilings", "Interventions", "Controls"]
    places = [ioi.index(f"**{title}") for title in order]
    assert places == sorted(places)
    for line in ioi[places[1] :].splitlines():
        if line.startswith("| ") and "rank" not in line:
            assert line.startswith("| – |")


def test_csv_is_tidy_and_keeps_every_digit(built: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(files(built)["leaderboard.csv"].decode())))
    assert len(rows) == 2 * 12 * 5
    for path in store.find(built):
        result = store.load(path).result
        mine = [r for r in rows if r["id"] == result.id]
        assert [r["axis"] for r in mine] == list(AXES)
        for r in mine:
            value = result.axes[r["axis"]].normalized
            assert r["normalized"] == ("" if value is None else repr(value))
            assert (built / "leaderboard" / r["path"]).resolve() == path.resolve()


def test_the_newest_result_of_a_dictionary_stands(tmp_path: Path) -> None:
    old = simulated.sae(0)
    again = {"id": "f" * 64, "created": "2027-01-01T00:00:00Z", "axes": simulated.sae(1).axes}
    new = old.model_copy(update=again)
    for result in (new, old):
        store.save(result, simulated.outcomes(), tmp_path)
    found = collect(tmp_path, tmp_path)
    assert found.superseded == 1
    assert [row.result.id for table in found.tables for row in table.rows] == ["f" * 64]


@pytest.mark.parametrize("field", ["site", "budget", "seed", "axis_versions"])
def test_what_cannot_be_compared_is_ranked_apart(field: str, tmp_path: Path) -> None:
    other = {"site": "blocks.2.hook_resid_pre@end", "budget": "full", "seed": 1}.get(field)
    other = {"control": 9} if other is None else other
    store.save(simulated.sae(0), simulated.outcomes(), tmp_path)
    changed = simulated.sae(1).model_copy(update={field: other})
    store.save(changed, simulated.outcomes(), tmp_path)
    tables = collect(tmp_path, tmp_path).tables
    assert [str(t.rows[0].ranks[OVERALL]) for t in tables] == ["1", "1"]


def test_scores_of_an_earlier_version_say_so(tmp_path: Path) -> None:
    for name, version in (("now", EVERY["control"].version), ("then", EVERY["control"].version - 1)):
        made = simulated.result(name=name, id=f"{version:064x}")
        made = made.model_copy(update={"axis_versions": {**versions(()), "control": version}})
        store.save(made, simulated.outcomes(n=4), tmp_path)
    tables = collect(tmp_path, tmp_path / "leaderboard").tables
    older = {t.rows[0].result.dictionary.name: t.board.older for t in tables}
    now = EVERY["control"].version
    assert older["now"] == "" and f"control {now - 1} (now {now})" in older["then"]
    assert older["then"] in render_markdown(tables)


def test_ties_look_like_ties() -> None:
    def row(i: int, value: float, half: float):
        axes = {axis: simulated.axis_score(value, half) for axis in AXES}
        return simulated.sae(i).model_copy(update={"axes": axes})

    apart = rank([row(0, 0.9, 0.01), row(1, 0.5, 0.01), row(2, 0.7, 0.01)])
    assert [r["control"] for r in apart] == [Rank(1, 1, 1), Rank(3, 3, 3), Rank(2, 2, 2)]
    tied = rank([row(0, 0.71, 0.2), row(1, 0.70, 0.2), row(2, 0.1, 0.01)])
    assert [str(r["control"]) for r in tied] == ["1–2", "1–2", "3"]
    none = row(0, 0.9, 0.01)
    none = none.model_copy(update={"axes": {**none.axes, "control": AxisScore(reason="x")}})
    assert "control" not in rank([none])[0] and rank([none])[0][OVERALL] == Rank(1, 1, 1)
    # beside one that has a number it has no mean: undefined is not 0
    beside = rank([none, row(1, -0.2, 0.01)])
    assert OVERALL not in beside[0] and beside[1][OVERALL] == Rank(1, 1, 1)


def test_ranks_are_paired_by_the_stored_resamples(tmp_path: Path) -> None:
    """Wide intervals that move together keep their order; the same ones apart are ties."""
    shared = np.random.default_rng(0).normal(0, 0.1, 500)
    for i, value in enumerate((0.5, 0.48, 0.3)):
        axes = {axis: simulated.axis_score(value, 0.196) for axis in AXES}
        result = simulated.sae(i).model_copy(update={"axes": axes})
        noise = np.random.default_rng(i + 1).normal(0, 0.003, 500)
        outcomes = simulated.outcomes(i)
        outcomes.headlines = {axis: value - 0.05 * i + shared + noise for axis in AXES}
        store.save(result, outcomes, tmp_path / "paired")
        store.save(result, simulated.outcomes(i), tmp_path / "apart")

    def ranges(folder: str) -> list[str]:
        (table,) = collect(tmp_path / folder, tmp_path).tables
        return [str(row.ranks["control"]) for row in table.rows]

    assert ranges("paired") == ["1", "2", "3"]
    assert ranges("apart")[0].startswith("1–")


def test_rank_intervals_cover_the_true_ranks() -> None:
    rng = np.random.default_rng(0)
    truth = np.linspace(0.2, 0.8, 12)
    covered = []
    for _ in range(40):
        seen = truth + rng.normal(0, 0.04, 12)
        results = [
            simulated.result(i, axes={a: simulated.axis_score(float(v), 1.96 * 0.04) for a in AXES})
            for i, v in enumerate(seen)
        ]
        covered += [r["control"].low <= 12 - i <= r["control"].high for i, r in enumerate(rank(results))]
    assert np.mean(covered) >= 0.95


def test_l0_bands() -> None:
    assert [l0_band(x) for x in (None, 0.0, 0.5, 1.0, 7.9, 8.0)] == [
        "none",
        "none",
        "below 1",
        "1–2",
        "4–8",
        "8–16",
    ]


# ---- hostile names ---------------------------------------------------------------------------


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.found.append((tag, dict(attrs)))


def test_hostile_names_are_inert_in_html(hostile: Path, built: Path) -> None:
    page = files(hostile)["index.html"].decode()
    clean = files(built)["index.html"].decode()
    seen, expected = Elements(), Elements()
    seen.feed(page)
    expected.feed(clean)
    assert [t for t, _ in seen.found if t != "a"] == [t for t, _ in expected.found if t != "a"]
    assert not any(name.startswith("on") for _, attributes in seen.found for name in attributes)
    links = [a["href"] for t, a in seen.found if t == "a"]
    assert all(re.fullmatch(r"#table|leaderboard\.(md|csv)|figures/[\w.~%-]+", link) for link in links)
    assert {row["name"] for row in page_data(page)["rows"]} >= set(HOSTILE)
    assert "49" not in {row["name"] for row in page_data(page)["rows"]}
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "") and "https://" not in page


def test_hostile_names_are_no_formulas_in_csv(hostile: Path) -> None:
    rows = list(csv.reader(io.StringIO(files(hostile)["leaderboard.csv"].decode())))
    assert {len(row) for row in rows} == {len(rows[0])}
    for cell in (cell for row in rows for cell in row):
        number = re.fullmatch(r"-?[\d.e-]+", cell)
        assert number or cell.lstrip()[:1] not in tuple("=+-@|%")
        assert cell.isprintable()


def test_hostile_names_are_inert_in_markdown(hostile: Path) -> None:
    text = files(hostile)["leaderboard.md"].decode()
    tables = [line for line in text.splitlines() if line.startswith("| ")]
    cells = {len(re.split(r"(?<!\\)\|", line)) for line in tables}
    assert cells == {13}
    assert "<script" not in text and "<img" not in text and "\x1b" not in text and "\t" not in text
    assert not re.search(r"(?<!\\)\]\(javascript", text)


def test_hostile_names_are_inert_in_figures_and_paths(hostile: Path) -> None:
    for name, data in files(hostile).items():
        assert re.fullmatch(r"(figures/)?[A-Za-z0-9][\w.~=+-]*", name)
        if name.endswith(".svg"):
            tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(data).iter()}
            assert not tags & {"script", "a", "image", "foreignObject", "i"}
    links = re.findall(r"(?<!\\)\]\(([^)]*)\)", files(hostile)["leaderboard.md"].decode())
    assert len(links) == len(HOSTILE) + 1
    for link in links:
        from urllib.parse import unquote

        assert (hostile / "leaderboard" / unquote(link)).resolve().is_relative_to(hostile.resolve())
        assert (hostile / "leaderboard" / unquote(link)).is_file()


def test_script_json_cannot_leave_its_element() -> None:
    text = script_json(["</script>", "<!--", "&", "\u2028", "\ud800"])
    assert not set("<>&\u2028\ud800") & set(text)
    assert json.loads(text) == ["</script>", "<!--", "&", "\u2028", "\ud800"]


# ---- size ------------------------------------------------------------------------------------


def test_a_page_that_would_be_too_large_says_what_it_leaves_out(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = collect(built, built / "leaderboard")
    full = render_page(found, [])
    monkeypatch.setattr("saebench.reporting.leaderboard.page.LARGEST", len(full) - 1)
    page = render_page(found, [])
    remark = "stand in the raw results only"
    assert remark in page and remark not in full and len(page) < len(full)
    with_scores, without = (page_data(text)["rows"] for text in (full, page))
    assert all(row["series"] for row in with_scores) and not any(row["series"] for row in without)
    assert [row["axes"] for row in with_scores] == [row["axes"] for row in without]


@pytest.mark.slow
def test_a_page_of_2500_results_takes_less_than_two_kilobytes_for_each(tmp_path: Path) -> None:
    simulated.populate(tmp_path, 494, ("ioi", "ravel", "synthetic/a", "synthetic/b", "synthetic/c"))
    leaderboard.build(tmp_path)
    assert (tmp_path / "leaderboard" / "index.html").stat().st_size <= 2_000 * 2500


def test_markdown_and_csv_render_nothing_for_nothing() -> None:
    assert render_csv([]).count("\n") == 1 and "no results yet" in render_markdown([])
