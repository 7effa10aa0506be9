"""Tables and figures of cause and isolate, from results made by hand."""

import io

import pytest
from rich.console import Console

from saebench.cli import main
from saebench.errors import ResultError
from saebench.records.outcomes import Outcomes
from saebench.records.result import (
    AxisScore,
    DictionaryInfo,
    ModelInfo,
    Provenance,
    Result,
    Score,
    SplitSizes,
    TaskInfo,
)
from saebench.records.store import save
from saebench.reporting import disentangle as disentangling
from saebench.reporting.disentangle_figures import draw
from saebench.scoring.disentangle import FELL_BACK, NO_ATTRIBUTE, NOT_MEDIATED

NAMES = ("country", "language")


def edit_scores(edit: str, cause: float, isolate: float, k: int | None = None, here: bool = True):
    """Scores of one kind of edit, the same for every attribute."""
    values = {"cause": cause, "isolate": isolate, "disentangle": (cause + isolate) / 2}
    for name, value in values.items():
        low, high = max(0.0, value - 0.05), min(1.0, value + 0.05)
        for attribute in (*NAMES, None):
            missing = attribute is None and not here
            yield Score(
                axis="control",
                name=name,
                attribute=attribute,
                edit=edit,
                k=k,
                n=10,
                value=None if missing else value,
                ci=None if missing else (low, high),
                reason=NO_ATTRIBUTE if missing else None,
                note=None if here or attribute is None else NOT_MEDIATED,
            )


def result(name: str, site: str, here: bool = True, mask: tuple[float, float] = (0.6, 0.7)) -> Result:
    scores = [Score(axis="task", name="kept", attribute=a, value=0.9, n=10) for a in NAMES]
    reach = 1.0 if here else 0.2
    for edit, pair in {"none": (0, 1), "source": (reach, 0.1), "das": (reach, 1), "mse": (0.4, 0.7)}.items():
        scores += edit_scores(edit, *pair, here=here)
    for edit in ("mask", "mask_no_error", "random_live", "identity_swap", "full"):
        scores += edit_scores(edit, *mask, here=here)
    for k in disentangling.SIZES:
        scores += edit_scores("aware", k / 40, 1 - k / 40, k, here)
    for attribute, size, note in (("country", 0.0, FELL_BACK), ("language", 7.0, None)):
        scores.append(
            Score(
                axis="control",
                name="mask_size",
                attribute=attribute,
                edit="mask",
                value=size,
                n=10,
                direction="none",
                note=note,
            )
        )
    scores.append(Score(axis="control", name="disentangle_published", edit="none", value=0.55, n=10))
    return Result(
        id="0" * 64,
        created="2026-01-01T00:00:00Z",
        dictionary=DictionaryInfo(name=name, source=name, format="x", d_in=2, d_sae=4, sha256="a" * 64),
        model=ModelInfo(name="demo", sha256="b" * 64, n_layers=2, d_model=2),
        task=TaskInfo(name="ravel", version=1, sha256="c" * 64, n=SplitSizes(fit=1, select=1, test=10)),
        site=site,
        budget="quick",
        seed=0,
        axis_versions={},
        axes={"control": AxisScore(reason="x")},
        scores=tuple(scores),
        provenance=Provenance(
            saebench="0", command="", device="cpu", dtype="float32", seconds=1, peak_memory_mb=1, versions={}
        ),
    )


def printed(results: list[Result]) -> str:
    stream = io.StringIO()
    out = Console(file=stream, width=200)
    for table in disentangling.tables(results):
        out.print(table)
    return stream.getvalue()


HERE = "blocks.1.hook_resid_pre@entity"
LATE = "blocks.3.hook_resid_post@entity"


def test_tables_hold_references_masks_and_sizes():
    text = printed([result("one", HERE), result("two", HERE, mask=(0.2, 0.9))])
    lines = text.splitlines()
    none = next(line for line in lines if "no edit" in line)
    assert "0.500" in none and "0.000 / 1.000" in none
    two = next(line for line in lines if "two" in line)
    assert "0.550 [0.500, 0.600]" in two and "∅ · 7" in two
    assert "0.550" in text and "country 90.0%" in text
    assert all(f"aware {k}" in text.replace("\n", " ") for k in (1, 2))


def test_sites_that_do_not_mediate_say_so():
    text = printed([result("one", LATE, here=False)])
    assert NOT_MEDIATED in text.replace("\n", " ")
    row = next(line for line in text.splitlines() if "full source patch" in line)
    assert "–" in row and "0.200 / 0.100" in row


def test_sites_stand_in_the_order_of_the_model():
    sites = [LATE, HERE, "blocks.1.hook_resid_mid@entity", "blocks.0.hook_resid_pre@entity"]
    found = [key[2] for key in disentangling.by_site([result("one", site) for site in sites])]
    assert found == [sites[3], HERE, sites[2], LATE]


def test_what_is_among_the_references_has_no_second_row():
    one = result("control:supervised", HERE)
    seen = one.dictionary.model_copy(update={"kind": "labelled"})
    labels = [m.label for m in disentangling.methods([one.model_copy(update={"dictionary": seen})])]
    assert "control:supervised" not in labels and "supervised mse" in labels
    files = draw([one.model_copy(update={"dictionary": seen})])
    assert not any(name.endswith("sizes.png") for name in files)


def planted(one: Result) -> Result:
    """The same result at a site whose subspaces are known."""
    numbers = [
        ("das_rank", "country", None, 6.0),
        ("das_overlap", "country", None, 0.84),
        ("das_carried", "country", None, 0.93),
        ("das_leaked", "country>language", None, 0.06),
        ("das_angle", "country", 1, 17.2),
        ("das_angle", "country", 2, 28.9),
    ]
    more = [
        Score(
            axis="control",
            name=name,
            attribute=a,
            edit="das",
            k=k,
            value=value,
            n=10,
            floor=0.25 if name == "das_overlap" else None,
        )
        for name, a, k, value in numbers
    ]
    return one.model_copy(update={"scores": (*one.scores, *more)})


def test_planted_subspaces_have_a_table_where_they_are_known():
    assert "planted" not in printed([result("one", HERE)])
    text = printed([planted(result("one", HERE)), planted(result("two", HERE))])
    assert text.count("DAS against the planted subspaces") == 1
    row = next(line for line in text.splitlines() if "0.84 (0.25)" in line)
    assert "country" in row and "0.93" in row and "language 0.06" in row and "17° 29°" in row


def contrasted(one: Result) -> Result:
    """The same result with two paired differences."""
    more = [
        Score(axis="control", name=f"{name}_difference", edit=edit, value=0.25, ci=(0.2, 0.3), n=10)
        for name in ("cause", "isolate", "disentangle")
        for edit in ("mse-mean", "mask-random_live")
    ]
    return one.model_copy(update={"scores": (*one.scores, *more)})


def test_paired_differences_have_a_table_references_once():
    assert "paired differences" not in printed([result("one", HERE)])
    lines = printed([contrasted(result(n, HERE)) for n in ("one", "two")]).splitlines()
    shared = [line for line in lines if "supervised mse − supervised mean" in line]
    masks = [line for line in lines if "mask − random live latents" in line]
    assert len(shared) == 1 and len(masks) == 2
    assert all(line.count("0.250 [0.200, 0.300]") == 3 for line in shared + masks)


def test_the_verb_prints_the_tables_of_a_directory(tmp_path, capsys):
    save(contrasted(result("one", HERE)), Outcomes({}), tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["disentangle", str(tmp_path)])
    shown = capsys.readouterr().out
    assert stop.value.code == 0 and "full source patch" in shown and "paired differences" in shown
    (tmp_path / "nothing").mkdir()
    with pytest.raises(SystemExit) as stop:
        main(["disentangle", str(tmp_path / "nothing")])
    assert stop.value.code == 2 and "--task ravel" in capsys.readouterr().err


def test_results_of_other_tasks_have_no_such_table():
    other = result("one", HERE).model_copy(update={"scores": ()})
    assert printed([other]) == ""
    with pytest.raises(ResultError, match="--task ravel"):
        draw([other])


def test_figures_are_drawn_per_site_and_over_layers(tmp_path):
    results = [result("one", HERE), result("two", HERE), result("one", LATE, here=False)]
    files = draw(results)
    ends = sorted(name.rsplit("--", 1)[1] for name in files)
    assert ends == ["cause-isolate.png", "layers.png", "sizes.png"]
    assert all(content.startswith(b"\x89PNG") for content in files.values())
    assert draw(results) == files


def test_the_verb_writes_them(tmp_path, capsys):
    save(result("one", HERE), Outcomes({}), tmp_path / "results")
    with pytest.raises(SystemExit) as stop:
        main(["figures", str(tmp_path / "results"), "--out", str(tmp_path / "png")])
    assert stop.value.code == 0
    assert len(list((tmp_path / "png").glob("*.png"))) == 3 == len(capsys.readouterr().out.split())
