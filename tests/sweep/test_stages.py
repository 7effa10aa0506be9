"""Sweeps in stages: prompts until intervals are narrow, tournaments; what is stored are ordinary results."""

import json
import re
from math import sqrt

import numpy as np
import pytest
import sae_files
import simulated
from command import run

from saebench.dictionaries.controls import NoEdit
from saebench.errors import OptionError
from saebench.evaluation.arena import Arena, Scored
from saebench.evaluation.contestants import Realised
from saebench.evaluation.options import Options
from saebench.evaluation.units import Group, Keeper, Unit
from saebench.kinds import KINDS
from saebench.records import store
from saebench.records.outcomes import Outcomes
from saebench.records.result import DictionaryInfo, SplitSizes
from saebench.site import Site
from saebench.sweep import plan as planning
from saebench.sweep import spec
from saebench.sweep.narrowing import APART, FOLDER, UntilNarrow
from saebench.sweep.stages import documents, found
from saebench.sweep.tournament import KeepBest, marks, stages

TASK = "synthetic/independent"
SIZES = KINDS["synthetic"].sizes
N_SAES = 6


@pytest.fixture
def saes(tmp_path, monkeypatch):
    """Checkpoints `sae-0` … `sae-5`; the higher the number, the better it is made to score."""
    monkeypatch.setattr(sae_files, "D_IN", 32)
    paths = [tmp_path / "run" / f"sae-{k}" for k in range(N_SAES)]
    for k, path in enumerate(paths):
        sae_files.goodfire(path, sae_files.weights(seed=k))
    return [str(path) for path in paths]


@pytest.fixture
def scored(monkeypatch):
    """(name, budget, seed) of what is scored; intervals and draws are as wide as so many prompts give."""
    done = []

    def realise(self, contestant, site):
        info = DictionaryInfo(
            name=contestant.name, source="x", format="x", d_in=1, d_sae=1, sha256=contestant.sha256
        )
        return Realised(NoEdit(), info)

    def score(self, realised, site):
        whole, options = realised.info.name, self.options
        name = whole if whole.startswith("control") else whole.rpartition("/")[2]
        done.append((name, options.budget, options.seed))
        n = SIZES.of(options.budget).test
        size = float(name[-1]) / 10 + 0.2 if name.startswith("sae") else 0.0
        half = 1.96 / sqrt(n)
        axis = simulated.axis_score(size, half)
        result = simulated.result(
            id=self.id(realised.info.sha256, site),
            dictionary=realised.info.model_dump(),
            name=realised.info.name,
            axes=dict.fromkeys(simulated.AXES, axis) | {"occlusion": simulated.axis_score(size, 9 * half)},
            budget=options.budget,
            task_n=n,
        )
        shared = np.random.default_rng(n).normal(0, half / 2, 500)
        own = np.random.default_rng(int(realised.info.sha256[:8], 16)).normal(0, half / 2, 500)
        draws = dict.fromkeys(simulated.AXES, size + shared + own)
        return Scored(result, Outcomes({"test": np.arange(n)}, headlines=draws))

    made = simulated.result

    def result(task_n, **fields):
        whole = made(**fields)
        n = SplitSizes(fit=1, select=1, test=task_n)
        return whole.model_copy(update={"task": whole.task.model_copy(update={"n": n})})

    monkeypatch.setattr(simulated, "result", result)
    monkeypatch.setattr(Arena, "bench", lambda self, site: (None, None))
    monkeypatch.setattr(Arena, "realise", realise)
    monkeypatch.setattr(Arena, "sample_l0", lambda self, sae, site: 3.0)
    monkeypatch.setattr(Arena, "score", score)
    return done


def words(saes, out, *more):
    said = ("--task", TASK, "--device", "cpu", "--force-mismatch", "--out", str(out))
    return ("sweep", *saes, *said, *more)


def test_a_pilot_says_how_many_prompts_all_of_a_group_get(saes, scored, tmp_path, capsys):
    out = tmp_path / "out"
    asked = words([*saes[:2], "control:mean"], out, "--until-ci", "0.08:control,approximation")
    code, printed, _ = run(capsys, *asked)
    assert code == 0
    pilot = [one for one in scored if one[2] == APART]
    rest = [one for one in scored if one[2] == 0]
    # the pilot is of SAEs, on prompts of its own, with results of its own
    assert pilot == [("sae-0", "quick", APART), ("sae-1", "quick", APART)]
    assert len(store.find(out / FOLDER)) == 2 and len(store.find(out)) == 3
    (budget,) = {budget for _, budget, _ in rest}
    # a width of .124 at 1,000 samples, .08 asked for: (.124/.08)² times as many, and room for chance
    assert [name for name, _, _ in rest] == ["sae-0", "sae-1", "control:mean"] and 2.4 < float(
        budget[:-1]
    ) < 2.8
    results = [store.load(path).result for path in store.find(out)]
    assert all(result.axes["control"].ci[1] - result.axes["control"].ci[0] <= 0.08 for result in results)
    assert f"at budget {budget}" in printed and "0.08" in printed
    (document,) = documents(out, "until-ci")
    assert document["groups"][0]["budget"] == budget and document["groups"][0]["reached"]["width"] <= 0.08

    # given again, nothing is scored again; the plan tells the number without scoring anything
    scored.clear()
    assert run(capsys, *asked)[0] == 0 and scored == []
    code, printed, _ = run(capsys, *asked, "--dry-run")
    assert "3 units: 3 finished" in printed and f"at budget {budget}" in printed and scored == []
    assert json.loads(next(out.glob("until-ci--*.json")).read_text()) == document


def test_what_no_number_of_prompts_makes_narrow_gets_all_and_says_so(saes, scored, tmp_path, capsys):
    asked = words(saes[:1], tmp_path / "out", "--until-ci", "0.1")
    code, printed, _ = run(capsys, *asked)
    assert code == 0 and scored[-1][1] == "full"
    assert "sae-0) at budget full; 0.1 was asked for, and there are no more" in printed
    # what a pilot has already takes no more than its budget
    asked = words(saes[:1], tmp_path / "other", "--until-ci", "0.2:control")
    assert run(capsys, *asked)[0] == 0 and scored[-1] == ("sae-0", "quick", 0)


def test_who_is_credibly_out_is_not_scored_further(saes, scored, tmp_path, capsys):
    out = tmp_path / "out"
    asked = words([*saes, "control:mean", "control:all"], out, "--keep-best", "2", "--budget", "full")
    code, printed, _ = run(capsys, *asked, "--dry-run")
    assert code == 0 and "6 units" in printed and scored == []
    code, printed, err = run(capsys, *asked)
    assert code == 0, err
    rounds = [[name for name, at, _ in scored if at == budget] for budget in ("quick", "standard", "full")]
    first, second, last = ([name for name in played if name.startswith("sae")] for played in rounds)
    assert len(first) == 6 and set(last) < set(second) < set(first) and {"sae-4", "sae-5"} <= set(last)
    # controls stand beside those that are left
    assert "control:mean" in rounds[2] and not any("control" in name for name in (*rounds[0], *rounds[1]))
    assert len(rounds[2]) > len(last) + 1
    assert re.search(r"the best: \S*sae-5 0.700, \S*sae-4 0.600", printed) and "saved" in printed
    # everything keeps its result so far, and is marked where results are listed
    assert sum(store.load(path).result.budget == "quick" for path in store.find(out)) == 6
    (document,) = documents(out, "keep-best")
    gone = dict(marks(document))
    took = sum(SIZES.of(at).test for name, at, _ in scored if name.startswith("sae"))
    assert document["groups"][0]["prompts"] == took < document["groups"][0]["prompts_without"] == 60_000
    listed = run(capsys, "results", "list", str(out))[1].splitlines()
    assert (
        sum("credibly not among the best 2 by control" in line for line in listed)
        == len(gone)
        == 6 - len(last)
    )

    scored.clear()
    assert run(capsys, *asked)[0] == 0 and scored == []


def test_an_undefined_score_and_a_failed_unit_end_no_tournament(saes, scored, tmp_path, capsys, monkeypatch):
    made = Arena.score

    def score(self, realised, site):
        if realised.info.name.endswith("sae-5"):
            raise MemoryError
        result, outcomes = made(self, realised, site)
        if realised.info.name.endswith("sae-0"):
            nothing = result.axes["control"].model_copy(update={"normalized": None, "ci": None})
            result = result.model_copy(update={"axes": {**result.axes, "control": nothing}})
            del outcomes.headlines["control"]
        return Scored(result, outcomes)

    monkeypatch.setattr(Arena, "score", score)
    asked = words(saes, tmp_path / "out", "--keep-best", "1", "--budget", "standard")
    code, printed, err = run(capsys, *asked)
    last = [name for name, at, _ in scored if at == "standard"]
    assert code == 1 and "1 not scored" in err and "sae-4 0.600" in printed.partition("the best: ")[2]
    # who has no number is not credibly worse than anybody
    assert "sae-0" in last and "sae-4" in last and "sae-1" not in last


def test_without_more_saes_than_are_kept_there_is_one_stage(saes, scored, tmp_path):
    requests = [
        spec.request(
            {
                "saes": saes[:2],
                "task": TASK,
                "device": "cpu",
                "force_mismatch": True,
                "out": tmp_path / "out",
                "budget": "full",
            }
        )
    ]
    keeper, rule = Keeper(), KeepBest("2")
    units = rule.first(planning.make(requests, keeper).every)
    assert {unit.group.options.budget for unit in units} == {"full"}
    assert rule.next(found(units, keeper)) == []
    assert [stages(b) for b in ("tiny", "standard", "2x", "0.5x")] == [
        ("tiny",),
        ("quick", "standard"),
        ("quick", "2x"),
        ("tiny", "0.5x"),
    ]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (["--until-ci", "0.1", "--keep-best", "2"], "one of them"),
        (["--keep-best", "2", "--shard", "1/2"], "no shards"),
        (["--keep-best", "2.5"], "whole number"),
        (["--keep-best", "two"], "Cannot read"),
        (["--until-ci", "0"], "Cannot read"),
        (["--until-ci", "0.1:controll"], "control"),
        (["--until-ci", "0.1", "--budget", "tiny"], "least budget"),
        (["--budget", "2,5x"], "2.5x"),
    ],
)
def test_what_cannot_be_meant_is_refused(saes, tmp_path, capsys, said, message):
    code, _, err = run(capsys, *words(saes[:1], tmp_path / "out", *said))
    assert code == 2 and message in err


def test_a_pilot_needs_somebody_whose_interval_counts():
    group = Group("", TASK, Site.parse("synthetic@sample"), Options())
    with pytest.raises(OptionError, match="SAEs or single controls"):
        UntilNarrow("0.1", Keeper()).first([Unit(group, None)])
