"""What is finished is shown again without a model, and a batch that was stopped goes on."""

import re
import subprocess
import sys
from concurrent.futures import Future
from dataclasses import replace

import command
import pytest
import sae_files
import simulated

from saebench.evaluation.arena import NOT_COMPETENT, Arena, Scored
from saebench.evaluation.batch import run
from saebench.evaluation.contestants import control
from saebench.evaluation.drive import Here
from saebench.evaluation.options import Options, Request
from saebench.evaluation.units import Keeper
from saebench.records import memo, store
from saebench.site import Site

TWICE = """
import sys
from saebench.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert not stop.code, stop.code
print("torch" in sys.modules)
"""


@pytest.fixture
def scored(monkeypatch):
    """Names of what is scored, in order; results are made up, ids are real."""
    names = []

    def score(self, realised, site):
        names.append(realised.info.name)
        info = realised.info.model_dump()
        id = self.id(realised.info.sha256, site)
        result = simulated.result(id=id, name=realised.info.name, dictionary=info, task=self.task.name)
        return Scored(result, simulated.outcomes(n=4))

    monkeypatch.setattr(Arena, "score", score)
    return names


def test_a_second_evaluation_imports_no_torch(tmp_path, monkeypatch, scored, capsys):
    """Of an SAE, of a control made from it, and of all controls, whose L0s are its own."""
    monkeypatch.setattr(sae_files, "D_IN", 32)
    monkeypatch.setattr(memo, "_SETTLED_SECONDS", -1.0)
    monkeypatch.setenv("SAEBENCH_CACHE", str(tmp_path / "cache"))
    sae = str(sae_files.goodfire(tmp_path / "sae", sae_files.weights()))
    words = ["evaluate", sae, f"control:permuted:{sae}", "control:random:4", "control:all"]
    words += ["--task", "synthetic/independent", "--force-mismatch", "--out", str(tmp_path / "out")]
    words += ["--device", "cpu", "--budget", "tiny", "--format", "json"]
    code, printed, err = command.run(capsys, *words)
    assert code == 0, err
    assert len(printed.splitlines()) == len(scored) > 10
    steps = [(int(n), int(total)) for n, total in re.findall(r" (\d+)/(\d+): ", err)]
    assert [n for n, _ in steps] == list(range(1, len(steps) + 1)) and steps[-1][0] == steps[-1][1]
    assert all(n <= total for n, total in steps)
    again = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TWICE, *words], capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr[-2000:]
    assert again.stdout == f"{printed}False\n"


def request(out, n: int) -> Request:
    controls = tuple(f"control:random:{k + 1}:64" for k in range(n))
    return Request(
        controls, ("synthetic/independent",), out=out, options=Options(device="cpu", budget="tiny")
    )


def test_a_batch_that_was_stopped_repeats_nothing(tmp_path, scored, monkeypatch):
    original = Arena.score

    def killed(self, realised, site):
        if len(scored) == 7:
            raise KeyboardInterrupt
        return original(self, realised, site)

    with monkeypatch.context() as patch:
        patch.setattr(Arena, "score", killed)
        with pytest.raises(KeyboardInterrupt):
            list(run(request(tmp_path, 20), pytest.fail))
    assert len(store.find(tmp_path)) == 7
    results = list(run(request(tmp_path, 20), pytest.fail))
    # every one of the twenty was scored once
    assert len(results) == 20 and len(scored) == len(set(scored)) == 20
    monkeypatch.setattr(Arena, "bench", pytest.fail)
    assert len(list(run(request(tmp_path, 20), pytest.fail))) == 20 and len(scored) == 20


class FirstComesLast(Here):
    """Two workers, of which one is at the first unit until nothing else is left."""

    workers = 2
    first = None

    def submit(self, worker, unit):
        if self.first is None:
            self.first = Future(), worker, unit
            return self.first[0]
        return super().submit(worker, unit)

    def release(self, worker):
        future, *asked = self.first
        future.set_result(super().submit(*asked).result())


def test_results_of_several_workers_come_in_the_order_of_the_request(tmp_path, scored):
    asked = request(tmp_path, 3)
    asked = replace(asked, saes=(*asked.saes, "control:all"))
    results = list(run(asked, pytest.fail, FirstComesLast(Keeper())))
    assert scored[-1] == "control:random:1:64" and len(scored) == len(results) > 8
    assert [r.id for r in results] == [r.id for r in run(asked, pytest.fail)]


def test_a_result_of_a_model_that_cannot_do_the_task_is_not_shown_unasked(tmp_path, scored, monkeypatch):
    from saebench.evaluation.api import make_arena

    arena = make_arena("synthetic/independent", options=Options(device="cpu", budget="tiny"))
    forced = make_arena("synthetic/independent", options=Options(device="cpu", allow_incompetent=True))
    site, mean = Site.parse("synthetic@sample"), control("mean")
    made = forced.score(forced.realise(mean, site), site)
    marked = made.result.model_copy(update={"warnings": (f"{NOT_COMPETENT}: accuracy 0.5",)})
    store.save(marked, made.outcomes, tmp_path)
    assert forced.score_or_reuse(mean, site, tmp_path).warnings and len(scored) == 1
    arena.score_or_reuse(mean, site, tmp_path)
    assert len(scored) == 2
