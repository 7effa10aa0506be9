"""The reporting side: a table of outcomes against plain numpy, a leaderboard against reading its results."""

import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench import Bench
from benchmarks.report import Table
from saebench.records import store
from saebench.records.outcomes import Key, Outcomes
from saebench.records.table import read_table, table_bytes
from saebench.reporting import leaderboard

N_PROMPTS, N_RESULTS = 2500, 494
TASKS = ("ioi", "ravel", "synthetic/a", "synthetic/b", "synthetic/c")


def outcomes(seed: int = 0) -> Outcomes:
    """A table of committed size: 300 columns of 0/1, 60 of floats, 1,500 sparse ones (2 % non-zero)."""
    rng = np.random.default_rng(seed)
    table = Outcomes({"test": np.sort(rng.integers(0, 600, N_PROMPTS))})
    for i in range(300):
        table.add(Key("control", "success", f"a{i}"), rng.random(N_PROMPTS) < 0.8)
    for i in range(60):
        table.add(Key("control", "ld", f"a{i}"), rng.normal(size=N_PROMPTS))
    for i in range(1500):
        table.add(Key("interpretability", "code", label=str(i)), (rng.random(N_PROMPTS) < 0.02).astype(float))
    return table


def against_numpy(bench: Bench) -> Table:
    """Writing and reading a table of outcomes, and the same columns as a compressed numpy archive."""
    table = outcomes()
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "t.parquet", Path(folder) / "t.npz"
        columns: dict[str, Any] = {str(i): values for i, values in enumerate(table.columns.values())}

        def parquet() -> None:
            ours.write_bytes(table_bytes(table, "id"))
            read_table(ours)

        def numpy() -> None:
            np.savez_compressed(theirs, **columns)
            with np.load(theirs) as archive:
                _ = [archive[name] for name in archive.files]

        seconds = {"saebench": best(parquet, bench.rounds), "numpy, compressed": best(numpy, bench.rounds)}
        sizes = {"saebench": ours.stat().st_size, "numpy, compressed": theirs.stat().st_size}
    rows = [{"written and read by": name, "s": s, "kB": sizes[name] / 1e3} for name, s in seconds.items()]
    summary = {"time, saebench / numpy": rows[0]["s"] / rows[1]["s"], "size": rows[0]["kB"] / rows[1]["kB"]}
    note = f"{len(columns):,} columns of {N_PROMPTS:,} prompts."
    return Table("outcomes", "A table of outcomes written and read", note, rows, summary)


def whole_leaderboard(bench: Bench) -> Table:
    """A leaderboard of 2,500 results, against reading those results alone."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
    simulated: Any = import_module("simulated")

    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        simulated.populate(results, N_RESULTS, TASKS)
        paths = store.find(results)
        reading = best(lambda: [store.load(path).result for path in paths], bench.rounds)
        building = best(lambda: leaderboard.build(results), bench.rounds)
        page = (results / "leaderboard" / "index.html").stat().st_size
    rows = [{"what": "results read", "s": reading}, {"what": "leaderboard built", "s": building}]
    summary = {"building / reading": building / reading, "page, MB": page / 1e6}
    note = f"{len(paths)} results on {len(TASKS)} tasks, simulated; building reads them too."
    return Table("leaderboard", "A leaderboard of 2,500 results", note, rows, summary)


def best(work: Callable[[], object], rounds: int) -> float:
    """Shortest of several runs, in seconds."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
