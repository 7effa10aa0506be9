"""What the audit measures, and why its bar is missed: plans and tables, without scoring anything."""

import pandas as pd
import pytest
from paths import RESULTS

from saebench.audit import committed, correlations, evidence, measuring, standing
from saebench.audit.lenses.truth import OVERALL
from saebench.audit.rows import Row, Rows, read, write
from saebench.records import store
from saebench.scoring.axes import EVERY
from saebench.studies.audit import boards, plan, train, why

AFTER = RESULTS / "audit" / "after"


def test_the_everyday_run_fits_two_cores_for_half_an_hour():
    everyday = [part for part in boards.parts() if not part.full]
    assert sum(part.seconds for part in everyday) < 2 * 30 * 60 * 0.9
    # the longest first, none twice, all with a cost; the full run has more
    files = [part.file for part in boards.parts()]
    assert len(files) == len(set(files)) > len(everyday)
    assert [part.seconds for part in everyday] == sorted((p.seconds for p in everyday), reverse=True)
    assert min(part.seconds for part in boards.parts()) > 0


def test_the_committed_table_calls_what_the_everyday_run_measures_as_it_does():
    """What is measured anew replaces what is there, and does not stand beside it under another name."""
    jobs = [(part.task, job) for part in boards.parts() for job in boards.jobs(part)]
    wanted = {(task, job.group, job.name, job.of) for task, job in jobs}
    table = read(AFTER / "boards.parquet").where(lambda row: row.group != "reference")
    found = {(row.board.split(" ")[0], row.group, row.name, row.of) for row in table}
    assert found <= wanted
    # all that is asked of one draw of prompts, but for hill climbs
    first = {key for key in wanted if not key[2].startswith("hill climb")} - {
        (task, "reference", name, "") for task, name in boards.RANDOM.items()
    }
    assert first <= found


def test_a_measured_null_is_called_as_the_committed_one():
    (job,) = measuring.nulls(measuring.by_name(["demo:topk"]))
    assert (job.name, job.of) == (f"{committed.NULL}demo:topk", "demo:topk")
    table = read(AFTER / "boards.parquet").first.where(group="null", axis="control")
    assert all(row.name == committed.NULL + row.of for row in table)


def test_random_directions_are_as_dense_as_those_of_the_leaderboard():
    """New SAEs have another median L0; the audit asked for random directions at the old ones' still."""
    paths = (RESULTS / "demo").glob("control=random=*/*.json")
    results = [store.parse(path.read_bytes(), str(path)) for path in paths]
    assert {(r.task.name, r.dictionary.name) for r in results} == set(boards.RANDOM.items())


def test_what_is_measured_anew_replaces_what_was_there(tmp_path):
    old, new = (Row("b", "trained", "a", "control", value) for value in (0.1, 0.2))
    kept = old._replace(name="other")
    parts, out = tmp_path / "parts", tmp_path / "out"
    for folder in (parts, out):
        folder.mkdir()
    write([old, kept], out / "boards.parquet")
    standing.note(out, "boards.parquet")
    write([new], parts / "ioi-saes.parquet")
    boards.join(parts, out, None)
    assert {row.name: row.value for row in read(out / "boards.parquet")} == {"a": 0.2, "other": 0.1}


def test_what_waits_to_be_joined_is_of_one_version_and_of_the_same_weights(tmp_path, monkeypatch):
    """Parts of other bundled SAEs counted for new ones."""
    file = tmp_path / "x.safetensors"
    places = []
    for content in (b"one", b"other", b"one"):
        file.write_bytes(content)
        places.append(plan.scratch(tmp_path, ["ioi"], [file]))
    assert places[0] == places[2] != places[1] and len(standing.weights("boards.parquet")) == 9
    monkeypatch.setitem(EVERY, "control", EVERY["control"]._replace(version=99))
    assert plan.scratch(tmp_path, ["ioi"], [file]) != places[0]


def test_saes_of_another_bundled_model_are_not_taken_for_those_of_this_one(tmp_path, monkeypatch):
    (run, *_), (other, *_) = plan.language(), plan.synthetic(RESULTS / "synthetic" / "calibration.csv")

    def places() -> list:
        return [train.file_of(run, tmp_path), train.pool_of(tmp_path), train.file_of(other, tmp_path)]

    before = places()
    monkeypatch.setattr(plan, "weights_of_now", lambda _: "01234567")
    monkeypatch.setattr(train, "weights_of_now", lambda _: "01234567")
    assert [a == b for a, b in zip(before, places(), strict=True)] == [False, False, True]


def test_families_say_how_they_are_trained_and_packed():
    runs = [*plan.language(), *plan.synthetic(RESULTS / "synthetic" / "calibration.csv")]
    assert len({run.name for run in runs}) == len(runs) == 429
    packs = {run.family.name: run.pack for run in runs}
    assert packs["splitting"] == packs["composed"] == "families" and packs["occlusion"] == "occlusion"
    assert {run.pack for run in plan.language()} == {"demo-standard", "demo-topk", "demo-batchtopk"}
    # half precision never shares a file with full precision
    assert len({(run.pack, run.family.half) for run in runs}) == len({run.pack for run in runs})
    assert {run.family.truth for run in runs if run.family.pooled} == {False}
    assert all(run.snapshots == () for run in runs if run.seed == 2 and run.family.truth)


def test_the_committed_reasons_are_what_the_table_of_truth_says(monkeypatch):
    # values need no resamples, and intervals are not compared
    monkeypatch.setattr(correlations, "N_DRAWS", 2)
    known = evidence.load(AFTER)
    family = known.truth.loc[known.truth["family"] == "splitting"]
    small = evidence.Evidence(Rows(()), family, about=known.about)
    kept = pd.read_csv(RESULTS / "audit" / "why.csv").query("family == 'splitting'")
    again = pd.DataFrame(why.rows(small))
    names = ["part", "saes_of", "score"]
    both = kept.merge(again, on=names, suffixes=("", "_again"))
    assert len(both) == len(kept) == len(again)
    assert both["value"].to_numpy(float) == pytest.approx(both["value_again"].to_numpy(float), abs=1e-5)
    whole = both.query("part == 'held out' and saes_of == 'all' and score == @OVERALL")
    assert OVERALL in set(both["score"])
    assert whole["value"].to_list() == pytest.approx([0.39], abs=0.005)
