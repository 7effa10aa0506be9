"""Sweeps: planned by id, shared out by group, resumed; what fails is one line and stops nothing."""

import itertools
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import pytest
import sae_files
import simulated

from saebench.cli import main
from saebench.dictionaries.controls import NoEdit
from saebench.errors import OptionError, SiteError, StoreError
from saebench.evaluation.arena import Arena, Scored
from saebench.evaluation.contestants import Realised, control
from saebench.evaluation.drive import Here, Pool, Queue, drive
from saebench.evaluation.options import Options, Request
from saebench.evaluation.units import Done, Group, Keeper, Unit
from saebench.records import failures, files, store
from saebench.records.result import DictionaryInfo
from saebench.site import Site
from saebench.sweep import plan as planning
from saebench.sweep import spec
from saebench.sweep.run import Clock, work

TASKS = ("synthetic/independent", "synthetic/occlusion")
CONTROLS = (*(f"control:random:{k}:64" for k in (1, 2, 3)), "control:mean")


@pytest.fixture
def scored(monkeypatch):
    """Names and seeds of what is scored, in order; results are made up, ids are real."""
    names = []

    def score(self, realised, site):
        names.append((self.task.name, self.options.seed, realised.info.name))
        id = self.id(realised.info.sha256, site)
        info = realised.info.model_dump()
        result = simulated.result(
            id=id, name=realised.info.name, dictionary=info, task=self.task.name, seed_=self.options.seed
        )
        return Scored(result, simulated.outcomes(n=4))

    made = simulated.result

    def result(seed_: int = 0, **fields):
        return made(**fields).model_copy(update={"seed": seed_})

    monkeypatch.setattr(simulated, "result", result)
    monkeypatch.setattr(Arena, "score", score)
    return names


@pytest.fixture
def no_bench(monkeypatch):
    """A bench takes a second and is not looked at here."""
    made = []

    def bench(self, site):
        made.append((self.task.name, self.options.seed))
        return None, None

    def realise(self, contestant, site):
        info = DictionaryInfo(
            name=contestant.name,
            source=contestant.name,
            format="x",
            d_in=1,
            d_sae=1,
            sha256=contestant.sha256,
        )
        return Realised(NoEdit(), info)

    monkeypatch.setattr(Arena, "bench", bench)
    monkeypatch.setattr(Arena, "realise", realise)
    return made


def request(out, **changes) -> Request:
    options = Options(budget="tiny", device="cpu")
    return replace(Request(CONTROLS, TASKS, out=out, options=options, seeds=(0, 1)), **changes)


def swept(requests, retry: bool = False):
    keeper = Keeper()
    plan = planning.make(requests, keeper, retry)
    return plan, list(work(plan, Here(keeper), keeper))


def test_every_unit_is_done_once_and_known_by_its_id(tmp_path, scored, no_bench):
    plan, steps = swept([request(tmp_path)])
    assert len(plan.todo) == len(steps) == 16 and len(set(scored)) == 16
    again, steps = swept([request(tmp_path)])
    assert (len(again.finished), len(again.todo), steps) == (16, 0, [])
    # the name of a file says nothing: another budget is another result
    other, _ = swept([request(tmp_path, options=Options(budget="quick", device="cpu"))])
    assert len(other.todo) == 16


def test_groups_are_worked_off_one_after_the_other(tmp_path, scored, no_bench):
    swept([request(tmp_path), request(tmp_path, saes=("control:identity",))])
    places = [(task, seed) for task, seed, _ in scored]
    assert len(scored) == 20
    assert sum(a != b for a, b in itertools.pairwise(places)) == 3


def test_what_fails_is_a_line_and_the_rest_completes(tmp_path, scored, no_bench, monkeypatch):
    made = Arena.score

    def score(self, realised, site):
        if realised.info.name == CONTROLS[0] and self.options.seed == 1:
            raise ZeroDivisionError("division by zero")
        if realised.info.name == CONTROLS[1] and self.options.seed == 1:
            raise MemoryError
        return made(self, realised, site)

    write = store.write

    def full(result, table, out):
        if result.dictionary.name == "control:mean" and result.seed == 1:
            raise StoreError("Cannot write results under 'x': No space left on device. Choose another.")
        return write(result, table, out)

    with monkeypatch.context() as patch:
        patch.setattr(Arena, "score", score)
        patch.setattr(store, "write", full)
        _, steps = swept([request(tmp_path, saes=(*CONTROLS, "control:nonsense", str(tmp_path / "none")))])
    failed = [step.failure for step in steps if step.failure]
    assert len(store.find(tmp_path)) == 10 and len(failed) == 8
    lines = [failure.line for failure in failed]
    assert all(len(line) < 300 and "\n" not in line for line in lines)
    for reason in ("Unknown control", "none", "ZeroDivisionError", "out of memory", "No space left"):
        assert any(reason in line for line in lines), reason
    assert any("score" in (failure.traceback or "") for failure in failed)
    # nobody who reads results sees them
    assert store.verify(tmp_path) == [] and len(failures.find(tmp_path)) == 8
    assert all(store.load(path).result.status == "success" for path in store.find(tmp_path))

    again, steps = swept([request(tmp_path)])
    assert (len(again.finished), len(again.failed), len(again.todo)) == (10, 6, 0) and len(steps) == 6
    plan, steps = swept([request(tmp_path)], retry=True)
    assert len(plan.todo) == 6 and all(step.result for step in steps)
    assert len(store.find(tmp_path)) == 16 and len(failures.find(tmp_path)) == 2


def test_a_site_where_nothing_can_be_scored_is_tried_once(tmp_path, monkeypatch):
    tries = []

    def bench(self, site):
        tries.append(site)
        raise SiteError("No such place. Expected another.")

    monkeypatch.setattr(Arena, "bench", bench)
    _, steps = swept([request(tmp_path, tasks=TASKS[:1], seeds=(0,))])
    lines = [step.failure.line for step in steps if step.failure]
    assert len(lines) == 4 and all("No such place" in line for line in lines)
    assert len(tries) == 1


def test_a_checkpoint_that_was_replaced_while_it_waited_is_not_scored_as_the_old_one(
    tmp_path, scored, monkeypatch
):
    monkeypatch.setattr(sae_files, "D_IN", 32)
    path = sae_files.goodfire(tmp_path / "sae", sae_files.weights())
    options = Options(budget="tiny", device="cpu", force_mismatch=True)
    wanted = request(tmp_path / "out", saes=(str(path), "control:mean"), tasks=TASKS[:1], options=options)
    keeper = Keeper()
    plan = planning.make([replace(wanted, seeds=(0,))], keeper)
    sae_files.goodfire(tmp_path / "sae", sae_files.weights(seed=1))
    steps = list(work(plan, Here(keeper), keeper))
    assert steps[0].failure and "was replaced" in steps[0].failure.reason and steps[1].result is not None
    # given again, it is what lies there now
    _, steps = swept([replace(wanted, seeds=(0,))])
    assert [step.result is not None for step in steps] == [True]


def test_shards_are_a_partition_that_calls_everything_alike(tmp_path):
    for run in ("a", "b"):
        for k in range(3):
            sae_files.goodfire(tmp_path / run / f"step_{k}", sae_files.weights(seed=3 * (run == "b") + k))
    site = "blocks.1.hook_resid_pre"
    given = {"saes": [f"{tmp_path}/*/step_*", "demo:topk", *CONTROLS, "control:all"], "seeds": [0, 1]}
    given |= {"task": ["ioi", "ravel"], "site": [f"{site}@end", f"{site}@entity"], "device": "cpu"}
    whole = [
        spec.request({**given, "site": f"{site}@end", "task": "ioi"}),
        spec.request({"saes": "demo:topk", "budget": "tiny"}),
    ]
    keeper = Keeper()

    def units(requests):
        plan = planning.make(requests, keeper)
        return [(planning.key(u, keeper), u.name, str(u.group)) for u in plan.todo]

    everything = units(whole)
    assert {"a/step_0", "b/step_0"} <= {name for _, name, _ in everything}
    for n in (1, 2, 5, 40):
        parts = [units(spec.shard(whole, i, n)) for i in range(1, n + 1)]
        assert sorted(itertools.chain(*parts)) == sorted(everything), n
    with pytest.raises(OptionError, match="1/4 to 4/4"):
        spec.shard(whole, 5, 4)


def test_merging_shards_is_idempotent_and_free_of_order(tmp_path, scored, no_bench, monkeypatch):
    made = Arena.score

    def score(self, realised, site):
        if realised.info.name == CONTROLS[2] and self.options.seed == 0:
            raise ValueError("no")
        return made(self, realised, site)

    with monkeypatch.context() as patch:
        patch.setattr(Arena, "score", score)
        for i in (1, 2, 3):
            swept(spec.shard([request(tmp_path / str(i))], i, 3))
    # one of the failed units succeeded on another machine
    swept([request(tmp_path / "4", saes=CONTROLS[2:3], tasks=TASKS[:1], seeds=(0,))])

    def merged(name: str, order: str) -> dict[str, bytes]:
        for part in order:
            store.merge(tmp_path / part, tmp_path / name)
        files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        return {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in files}

    first = merged("x", "1234")
    assert first == merged("y", "4321") == merged("x", "3142")
    assert len(store.find(tmp_path / "x")) == 15 and len(failures.find(tmp_path / "x")) == 1


@pytest.fixture
def listening():
    """Ctrl-C raises, also where a shell that started the tests in the background lets it be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
def test_ctrl_c_waits_until_a_file_is_written():
    done = []
    with pytest.raises(KeyboardInterrupt), files.uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        done.append("written")
    assert done == ["written"]


def groups(*sizes: int) -> list[Unit]:
    site = Site.parse("synthetic@sample")
    return [
        Unit(Group("", str(at), site, Options()), None, ())
        for at, size in enumerate(sizes)
        for _ in range(size)
    ]


def test_a_worker_stays_with_its_group_and_then_helps_the_longest():
    queue = Queue(groups(2, 5, 1))
    taken = [(worker, queue.take(worker).group.task) for worker in (0, 1, 0, 1, 0, 0, 1, 0)]
    assert taken == [(0, "0"), (1, "1"), (0, "0"), (1, "1"), (0, "2"), (0, "1"), (1, "1"), (0, "1")]
    assert len(queue) == 0


def test_further_units_are_dealt_to_whoever_is_free():
    class Fake(Pool):
        workers = 2

        def submit(self, worker, unit):
            future = Future()
            more = tuple(replace(unit, force=True) for _ in range(3)) if not unit.force else ()
            future.set_result(Done(unit, more=more))
            return future

        def release(self, worker):
            pass

        def close(self):
            self.closed = True

    pool = Fake()
    assert sum(done.unit.force for done in drive(groups(2, 1), pool)) == 9 and pool.closed


def test_a_worker_keeps_what_it_holds_while_units_may_still_come_of_another():
    class Threads(Pool):
        workers = 2

        def __init__(self):
            self.threads, self.seen = ThreadPoolExecutor(2), []

        def submit(self, worker, unit):
            self.seen.append("unit" if unit.contestant else "controls")
            return self.threads.submit(self.do, unit)

        def do(self, unit):
            if unit.contestant:
                return Done(unit)
            time.sleep(0.05)
            return Done(unit, more=(replace(unit, contestant=control("mean")),) * 2)

        def release(self, worker):
            self.seen.append("release")

        def close(self):
            self.threads.shutdown()

    (unit,) = groups(1)
    pool = Threads()
    assert len(list(drive([unit, unit.by(control("no-edit"))], pool))) == 4
    assert pool.seen[:4] == ["controls", "unit", "unit", "unit"]


def test_a_spec_is_read_with_its_parts_and_what_was_typed_goes_first(tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(
        'saes = ["demo:topk"]\ntask = "ioi"\nseeds = [0, 1]\nbudget = "tiny"\n'
        '[[part]]\n[[part]]\nsaes = ["control:mean"]\nmodel = "gpt2"\n'
    )
    one, two = spec.read(path, {"budget": "standard"})
    assert (one.saes, one.model, one.seeds) == (("demo:topk",), "demo", (0, 1))
    assert (two.saes, two.model, two.options.budget) == (("control:mean",), "gpt2", "standard")
    for text, message in (
        ("saes = [1]", "list of names"),
        ("sae = ['x']", "'saes'"),
        ("saes = ['no/such/*']", "fits"),
        ("saes = []", "names no dictionary"),
        ("saes = [", "Cannot read"),
        ("saes = ['x']\nbudget = 'tini'", "tiny"),
        ("saes = ['x']\nseeds = ['0']", "list of numbers"),
        ("saes = ['x']\npart = 3", "part"),
    ):
        path.write_text(text)
        with pytest.raises(OptionError, match=message):
            spec.read(path)


def test_the_command_says_the_plan_the_time_left_and_what_failed(tmp_path, scored, no_bench, capsys):
    words = ["sweep", *CONTROLS, "control:nonsense", "--task", TASKS[0], "--seeds", "0,1", "--budget", "tiny"]
    words += ["--device", "cpu", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as stop:
        main([*words, "--dry-run"])
    assert stop.value.code == 1 and "8 units: 0 finished, 0 failed before, 8 to do" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(words)
    printed = capsys.readouterr().err
    assert stop.value.code == 1 and "sweep 8/8: control:mean" in printed and "left)" in printed
    assert "1 not scored" in printed.splitlines()[-2] and "Unknown control" in printed.splitlines()[-1]
    with pytest.raises(SystemExit) as stop:
        main(["sweep", "control:nonsense", "--out", str(tmp_path)])
    assert stop.value.code == 2


def test_the_time_left_is_what_the_others_took():
    clock = Clock(3, 1)
    clock._started -= 100
    assert clock.step() == "3.3 min left"
    assert clock.step(2).endswith("left")


def test_a_plan_of_what_was_read_before_needs_no_torch(tmp_path, monkeypatch):
    # nothing has been read before on this machine, whatever other tests did
    monkeypatch.setenv("SAEBENCH_CACHE", str(tmp_path / "cache"))
    words = [
        "sweep",
        "control:mean",
        "demo:topk",
        "--task",
        "ioi",
        "--dry-run",
        "--out",
        str(tmp_path / "out"),
    ]
    ending = "except SystemExit:\n sys.exit('torch' in sys.modules)"
    code = f"import sys; from saebench.cli import main\ntry:\n main({words!r})\n{ending}"
    # digests of a model and of checkpoints take reading them, the first time
    for torch_is_needed in (1, 0):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == torch_is_needed and "2 units" in done.stdout, done.stderr
