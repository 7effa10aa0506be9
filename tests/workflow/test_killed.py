"""A batch that is killed loses nothing that was finished, repeats none of it, and ends where another would."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from command import run
from tiny_task import write_task

from saebench.records import store

BATCH = "import sys; from saebench.cli import main; main(sys.argv[1:])"


def arguments(n: int, tasks: Path, out: Path) -> list[str]:
    """A batch of random dictionaries on a tiny task, which writes one result after the other."""
    saes = [f"control:random:{k % 4 + 1}:{16 + k}" for k in range(n)]
    options = ["--task", "tiny", "--tasks", str(tasks), "--budget", "tiny", "--device", "cpu"]
    return ["evaluate", *saes, "--out", str(out), *options]


def numbers(out: Path) -> dict[str, tuple[dict[str, Any], bytes]]:
    """Every result of a store without its times, and its outcomes as they lie on disk."""
    found = {}
    for path in store.find(out):
        document = json.loads(path.read_text("utf-8"))
        del document["created"], document["provenance"]
        found[str(path.relative_to(out))] = document, path.with_suffix(".parquet").read_bytes()
    return found


def versions(out: Path) -> dict[str, tuple[int, int]]:
    """What changes when a file of a store is written again."""
    files = [file for path in store.find(out) for file in (path, path.with_suffix(".parquet"))]
    return {str(file): (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("n", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_batch_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture, n: int) -> None:
    tasks, killed, whole = write_task(tmp_path / "tasks"), tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-W", "ignore", "-c", BATCH, *arguments(n, tasks, killed)]
    # a session of its own, so that its workers are killed with it
    batch = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    while batch.poll() is None and len(store.find(killed)) < n // 2:
        time.sleep(0.02)
    os.killpg(batch.pid, signal.SIGKILL)
    assert batch.wait() == -signal.SIGKILL
    finished = versions(killed)
    assert n // 2 <= len(finished) // 2 < n
    for path in store.find(killed):
        assert store.load(path).outcomes.columns
    for out in (killed, whole):
        code, _, err = run(capsys, *arguments(n, tasks, out))
        assert code == 0, err
    assert finished.items() <= versions(killed).items()
    assert len(numbers(whole)) == n and numbers(killed) == numbers(whole)
