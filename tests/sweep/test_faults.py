"""What goes wrong with one unit is one line, and the rest completes: disks, memory, processes, the cache."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from command import run

from saebench.cache import cache_folder, shelf
from saebench.errors import out_of_memory
from saebench.evaluation.options import Options, Request
from saebench.evaluation.units import Keeper
from saebench.records import failures, store
from saebench.sweep import plan as planning
from saebench.sweep.processes import Processes
from saebench.sweep.run import work
from saebench.sweep.worker import portable

TASK = "synthetic/independent"
CONTROLS = ("control:mean", "control:identity", "control:random:2:64")


def words(out: Path, *saes: str) -> list[str]:
    return ["sweep", *saes, "--task", TASK, "--budget", "tiny", "--device", "cpu", "--out", str(out)]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, os.strerror(12)),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        # what torch raises on a CPU
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"
        ),
    ],
)
def test_whoever_says_that_memory_is_missing_it_is_told_as_that(error):
    assert out_of_memory(error) and "ran out of memory" in str(portable(error))
    assert not out_of_memory(ValueError("shape")) and "bug" in str(portable(ValueError("shape")))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("mounting a small disk takes rights that this user does not have")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
def test_a_disk_that_is_full_costs_what_does_not_fit_and_nothing_else(small_disk, tmp_path, capsys):
    out = small_disk / "out"
    assert run(capsys, *words(out, CONTROLS[0]))[0] == 0
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    code, _, err = run(capsys, *words(out, *CONTROLS))
    lines = err.splitlines()
    assert code == 1 and "2 not scored" in err
    assert all("No space left" in line and "Traceback" not in line for line in lines[-2:])
    assert store.verify(out, stale_after=0) == [] and len(store.find(out)) == 1
    ballast.unlink()
    code, _, err = run(capsys, *words(out, *CONTROLS), "--retry-failed")
    assert code == 0 and len(store.find(out)) == 3 and failures.find(out) == [], err


@pytest.mark.slow
def test_a_unit_that_runs_out_of_memory_does_so_alone(tmp_path):
    asked = words(tmp_path, "control:mean", "control:random:2:200000000", "control:identity")
    # 200 million latents of 32 numbers are 26 GB
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))\n"
    code += f"from saebench.cli import main\nmain({asked!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and "1 not scored" in done.stderr, done.stderr
    assert "control:random:2:200000000" in last and "ran out of memory" in last
    assert len(store.find(tmp_path)) == 2


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_the_unit_that_it_was_at(tmp_path):
    request = Request(CONTROLS, (TASK,), out=tmp_path, options=Options(budget="tiny", device="cpu"))
    keeper, pool, begun = Keeper(), Processes(1, "cpu"), []

    def begin(unit):
        begun.append(unit.name)
        if len(begun) == 2:
            pid = pool._pools[0][1]
            # `begin` comes before the unit is handed over
            threading.Timer(0.05, os.kill, (pid, signal.SIGKILL)).start()

    steps = list(work(planning.make([request], keeper), pool, keeper, begin))
    failed = [step.failure for step in steps if step.failure]
    assert [step.result is not None for step in steps] == [True, False, True]
    assert "was killed" in failed[0].line and failed[0].dictionary.name == begun[1]
    assert len(store.find(tmp_path)) == 2 and len(failures.find(tmp_path)) == 1
    again = planning.make([request], keeper, retry=True)
    assert [unit.name for unit in again.todo] == [begun[1]] and len(again.finished) == 2


@pytest.mark.slow
def test_entries_of_the_cache_that_are_damaged_or_cannot_be_written_change_nothing(
    tmp_path, capsys, monkeypatch, caplog
):
    monkeypatch.setenv("SAEBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SAEBENCH_CACHE_SIZE", "1GB")
    monkeypatch.setattr(shelf, "_told", set())
    asked = ["sweep", "control:mean", "demo:topk", "--task", "ioi", "--budget", "tiny", "--device", "cpu"]

    def scored(name: str, *more: str) -> dict[str, bytes]:
        assert run(capsys, *asked, "--out", str(tmp_path / name), *more)[0] == 0
        return {path.name: path.with_suffix(".parquet").read_bytes() for path in store.find(tmp_path / name)}

    first = scored("first")
    entries = [entry.path for entry in shelf.entries()]
    assert len(entries) >= 4
    for at, path in enumerate(entries):
        # cut off, another's, emptied
        damaged = (path.read_bytes()[:-9], entries[at - 1].read_bytes(), b"")[at % 3]
        path.write_bytes(damaged)
    assert scored("damaged") == first and "made again" in caplog.text
    shutil.rmtree(cache_folder(shelf.FOLDER))
    # nothing can be written where a file stands in the folder's place
    cache_folder(shelf.FOLDER).write_text("in the way")
    assert scored("unwritable") == first and "cannot be written" in caplog.text
