"""Sweeps: here, in processes and on Ray; what one more SAE costs; what the cache saves."""

import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.report import Table
from saebench import demo
from saebench.evaluation.drive import Here, Pool
from saebench.evaluation.options import Options, Request
from saebench.evaluation.units import Done, Keeper, Unit, perform
from saebench.records import store
from saebench.sweep import plan as planning
from saebench.sweep.on_ray import OnRay
from saebench.sweep.processes import Processes
from saebench.sweep.run import work

SAES = tuple(f"demo:{name}" for name in demo.names()[:8])
SEEDS = {"ioi": (0, 1, 2, 3), "ravel": (0,)}
SIZES = (1, 8, 64)
CACHED = ("ioi", "ravel")


def scored(out: Path) -> dict[str, Any]:
    """Results without when and where they were made, and outcomes byte by byte, by the result's id."""
    found: dict[str, Any] = {}
    for path in store.find(out):
        document = json.loads(path.read_text("utf-8"))
        id = document["id"]
        del document["created"], document["provenance"]
        assert id not in found, f"{id} has two results"
        found[id] = (document, path.with_suffix(".parquet").read_bytes())
    return found


@contextlib.contextmanager
def cache(folder: Path) -> Iterator[None]:
    """Whatever is kept between runs stands there."""
    before = os.environ.get("SAEBENCH_CACHE")
    os.environ["SAEBENCH_CACHE"] = str(folder)
    yield
    if before is None:
        del os.environ["SAEBENCH_CACHE"]
    else:
        os.environ["SAEBENCH_CACHE"] = before


class Timed(Pool):
    """A pool that notes how long its driver waited for each unit."""

    def __init__(self, inner: Pool) -> None:
        self.inner, self.workers = inner, inner.workers
        self.waits: list[tuple[int, float, Done]] = []

    def submit(self, worker: int, unit: Unit) -> Future[Done]:
        started = time.perf_counter()
        future = self.inner.submit(worker, unit)
        future.add_done_callback(
            lambda f: self.waits.append((worker, time.perf_counter() - started, f.result()))
        )
        return future

    def release(self, worker: int) -> None:
        self.inner.release(worker)

    def close(self) -> None:
        self.inner.close()

    @property
    def overhead(self) -> float:
        """Median seconds a unit beyond its own work, without the first unit of each worker, which starts it."""
        begun: set[int] = set()
        beyond = []
        for worker, wait, done in self.waits:
            if worker in begun:
                beyond.append(wait - done.seconds - done.shared_seconds)
            begun.add(worker)
        return sorted(beyond)[len(beyond) // 2]


def requests(out: Path) -> list[Request]:
    """40 units: eight bundled SAEs on IOI under four seeds and on RAVEL under one."""
    options = Options(budget="tiny", device="cpu")
    return [Request(SAES, (task,), out=out, options=options, seeds=seeds) for task, seeds in SEEDS.items()]


def executors(bench: Bench) -> Table:
    """The same 40 units here, in one and two processes, and on Ray."""
    pools: dict[str, Callable[[], Pool]] = {
        "this process": lambda: Here(Keeper()),
        "one process": lambda: Processes(1, "cpu"),
        "two processes": lambda: Processes(2, "cpu"),
        "Ray, one actor": lambda: OnRay("auto", 1),
        "Ray, two actors": lambda: OnRay("auto", 2),
    }
    rows, results = [], {}
    with tempfile.TemporaryDirectory() as root, cache(Path(root) / "cache"):
        for name, make in pools.items():
            started = time.perf_counter()
            pool = Timed(make())
            first = _sweep(pool, Path(root) / name.replace(" ", "-"))
            took = time.perf_counter() - started
            results[name] = scored(Path(root) / name.replace(" ", "-"))
            rows.append(
                {
                    "executor": name,
                    "all, s": took,
                    "to the first result, s": first - started,
                    "after it, s": took - (first - started),
                    "beyond a unit's own work, ms": 1000 * pool.overhead,
                    "identical": results[name] == results["this process"] and len(results[name]) == 40,
                }
            )
    by = {row["executor"]: row for row in rows}
    summary = {
        "all identical": float(all(row["identical"] for row in rows)),
        "one process / two": by["one process"]["after it, s"] / by["two processes"]["after it, s"],
        "Ray, one actor / two": by["Ray, one actor"]["after it, s"] / by["Ray, two actors"]["after it, s"],
        "Ray's overhead a unit, ms": by["Ray, one actor"]["beyond a unit's own work, ms"],
    }
    note = (
        "Eight bundled SAEs on IOI (four seeds) and RAVEL (one), tiny budget. The first sweep fills the cache on disk"
        " for the others."
    )
    return Table("sweep", "A sweep of 40 units", note, rows, summary)


def _sweep(pool: Pool, out: Path) -> float:
    """Works 40 units off; returns when the first result stood."""
    keeper, first = Keeper(), None
    for step in work(planning.make(requests(out), keeper), pool, keeper):
        assert step.failure is None, step.failure and step.failure.reason
        first = first or time.perf_counter()
    assert first is not None, "there are units"
    return first


_GROWN = """
import json, sys, time
from benchmarks.sweeps import grow
print(json.dumps(grow(sys.argv[1], int(sys.argv[2]))))
"""


def growth(bench: Bench) -> Table:
    """1 to 64 SAEs at one site, each number in a process of its own."""
    rows = []
    for n in SIZES:
        with tempfile.TemporaryDirectory() as root:
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", _GROWN, root, str(n)],
                capture_output=True,
                text=True,
                check=True,
                env={**os.environ, "SAEBENCH_CACHE": str(Path(root) / "cache")},
            )
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    few, many = rows[1], rows[-1]
    slope = (many["all, s"] - few["all, s"]) / (many["SAEs"] - few["SAEs"])
    summary = {
        "slope / one more SAE": slope / many["one more, s"],
        "peak of 64 / of 1": many["peak MB"] / rows[0]["peak MB"],
    }
    note = (
        "Untrained TopK SAEs of 768 latents at the bundled model's site, IOI, tiny budget. *one more*: the median of"
        " their own times."
    )
    return Table("sweep-growth", "Cost of the number of SAEs at one site", note, rows, summary)


def grow(root: str, n: int) -> dict[str, Any]:
    """Scores n SAEs; what it took."""
    import benchmarks.several as several

    several.D_SAE = 768
    saes = [str(several.write_sae(Path(root) / f"sae{seed}", seed)) for seed in range(n)]
    request = Request(
        tuple(saes), ("ioi",), out=Path(root) / "out", options=Options(budget="tiny", device="cpu")
    )
    keeper = Keeper()
    plan = planning.make([request], keeper)
    started, pool = time.perf_counter(), Timed(Here(keeper))
    for step in work(plan, pool, keeper):
        assert step.failure is None, step.failure and step.failure.reason
    took = time.perf_counter() - started
    each = sorted(done.seconds for _, _, done in pool.waits)
    return {
        "SAEs": n,
        "all, s": took,
        "one more, s": each[len(each) // 2],
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def from_cache(bench: Bench) -> Table:
    """To the first score of a site that was never seen, and of one whose tensors are kept."""
    from saebench.evaluation.contestants import resolve

    rows = []
    with tempfile.TemporaryDirectory() as root, cache(Path(root)), contextlib.redirect_stderr(io.StringIO()):
        for task in CACHED:
            request = Request(("demo:topk",), (task,), options=Options(budget=bench.budget, device="cpu"))
            seconds = []
            for _ in range(2):
                keeper = Keeper()
                # an SAE in memory has no result to be found again
                (unit,) = planning.make([request], keeper).every
                resolve("demo:topk")
                started = time.perf_counter()
                perform(Unit(unit.group, unit.contestant, out=Path(root) / "none", force=True), keeper)
                seconds.append(time.perf_counter() - started)
            rows.append(
                {
                    "task": task,
                    "first run, s": seconds[0],
                    "second run, s": seconds[1],
                    "faster": seconds[0] / seconds[1],
                }
            )
    note = (
        f"The bundled TopK SAE, {bench.budget} budget, a new keeper each time: the model is loaded and prompts are"
        " written anew."
    )
    summary = {f"{row['task']}, faster": row["faster"] for row in rows}
    return Table(
        "sweep-cache", "To the first score, without and with what is kept on disk", note, rows, summary
    )
