"""Curves over training: which results are snapshots of one run, and that they are drawn."""

import pytest
from command import run
from paths import RESULTS

from saebench.records import store
from saebench.records.files import write_text
from saebench.records.result import Result
from saebench.reporting import training_figures


@pytest.fixture(scope="module")
def result() -> Result:
    path = next(
        p for p in store.find(RESULTS) if p.parent.name.startswith("demo=topk@") and p.name.startswith("ioi")
    )
    return store.load(path).result


def named(result: Result, name: str, shift: float = 0.0) -> Result:
    axes = {
        key: axis.model_copy(
            update={"normalized": None if axis.normalized is None else axis.normalized + shift}
        )
        for key, axis in result.axes.items()
    }
    dictionary = result.dictionary.model_copy(update={"name": name})
    return result.model_copy(update={"dictionary": dictionary, "axes": axes})


@pytest.mark.parametrize(
    "names",
    [
        ("k8/step_100", "k8/step_200", "k8/step_1000"),
        ("k8/100", "k8/200", "k8/1000"),
        ("k8/checkpoints/ae_100.pt", "k8/checkpoints/ae_200.pt", "k8/checkpoints/ae_1000.pt"),
        ("my run step 100", "my run step 200", "my run step 1000"),
    ],
)
def test_snapshots_of_a_run_are_put_in_order(names, result):
    (found,) = training_figures.snapshots([named(result, n) for n in reversed(names)]).values()
    assert [s.step for s in found] == [100, 200, 1000]


def test_other_results_are_no_curve(result):
    others = [
        "demo:topk",
        "demo:topk-k32",
        "demo:topk-k16",
        "demo:topk-k8",
        "a/step_1",
        "a/step_2",
        "b/step_3",
    ]
    assert training_figures.snapshots([named(result, n) for n in others]) == {}


def test_the_verb_draws_them(result, tmp_path, capsys):
    for i, name in enumerate(("k8/step_100", "k8/step_200", "k8/step_300", "k16/step_100")):
        one = named(result, name, shift=0.05 * i).model_copy(update={"id": f"{i}" * 64})
        write_text(store.result_path(one, tmp_path), store.json_text(one))
    code, out, err = run(capsys, "figures", str(tmp_path))
    assert code == 0, err
    (file,) = (tmp_path / "figures").iterdir()
    assert str(file) in out and file.read_bytes()[:4] == b"\x89PNG"


def test_without_anything_to_draw_it_says_what_is_missing(tmp_path, capsys):
    code, _, err = run(capsys, "figures", str(tmp_path))
    assert code == 2 and "step_1000" in err and "ravel" in err
