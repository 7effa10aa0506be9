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

from saebench.records import store

BATCHES = """
import sys
from saebench.cli import main
OPTIONS = ["--task", "synthetic/independent", "--budget", "tiny", "--device", "cpu"]
for out in sys.argv[2:]:
    saes = [f"control:random:{k + 1}:16" for k in range(int(sys.argv[1]))]
    try:
        main(["evaluate", *saes, "--out", out, *OPTIONS])
    except SystemExit as stop:
        assert not stop.code
"""


def start(n: int, *outs: Path) -> "subprocess.Popen[bytes]":
    """Batches of random dictionaries, each of which writes one result after the other."""
    command = [sys.executable, "-W", "ignore", "-c", BATCHES, str(n), *map(str, outs)]
    # a session of its own, so that its workers are killed with it
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)


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
@pytest.mark.parametrize("n", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_batch_goes_on_where_it_was(tmp_path: Path, n: int) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    batch = start(n, killed)
    while batch.poll() is None and len(store.find(killed)) < n // 2:
        time.sleep(0.02)
    os.killpg(batch.pid, signal.SIGKILL)
    assert batch.wait() == -signal.SIGKILL
    finished = versions(killed)
    assert n // 2 <= len(finished) // 2 < n
    for path in store.find(killed):
        assert store.load(path).outcomes.columns
    assert start(n, killed, whole).wait() == 0
    assert finished.items() <= versions(killed).items()
    assert len(numbers(whole)) == n and numbers(killed) == numbers(whole)
