"""An evaluation beside a process that keeps every core busy, against the same on an idle machine."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.bench import Bench
from benchmarks.report import Table

WORDS = ("evaluate", "demo:topk", "control:identity", "control:mean", "--device", "cpu", "--force")
# What says nothing to GNU's OpenMP but that the user has said something: threads then spin, as torch has them.
SPINNING = {"KMP_BLOCKTIME": "200"}
_SAID = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")


@contextmanager
def every_core_busy() -> Iterator[None]:
    """One process a core that does nothing but count."""
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def evaluation(settings: dict[str, str]) -> tuple[float, float]:
    """Seconds on the clock and of computing that one evaluation takes."""
    environment = {k: v for k, v in os.environ.items() if k not in _SAID} | settings
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        words = [sys.executable, "-m", "saebench", *WORDS, "--out", out]
        subprocess.run(words, env=environment, check=True, capture_output=True)
    elapsed, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return elapsed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def beside_a_busy_process(bench: Bench) -> Table:
    """Both ways, idle and busy, the best of the rounds; at most 2.5 times as long is the aim."""
    rows = []
    for name, settings in (("as it is", {}), ("threads that spin", SPINNING)):
        idle = min(evaluation(settings) for _ in range(bench.rounds))
        with every_core_busy():
            busy = min(evaluation(settings) for _ in range(bench.rounds))
        rows.append(
            {
                "threads": name,
                "idle s": round(idle[0], 1),
                "busy s": round(busy[0], 1),
                "busy / idle": round(busy[0] / idle[0], 2),
                "CPU s idle": round(idle[1], 1),
                "CPU s busy": round(busy[1], 1),
            }
        )
    summary = {"ratio": rows[0]["busy / idle"], "ratio of spinning": rows[1]["busy / idle"]}
    title = "An evaluation beside a process that uses every core"
    note = (
        f"`saebench {' '.join(WORDS)}`, best of {bench.rounds}. The first row is what the command line sets:"
        " threads sleep while they wait, and a small model takes one. The second is what torch does by itself."
    )
    return Table("busy", title, note, rows, summary)
