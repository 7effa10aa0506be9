"""What the scores that need no patched pass cost: reading and writing, with the matched null."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.bench import Bench
from benchmarks.report import Table
from saebench.axes import read_write
from saebench.evaluation.api import make_arena
from saebench.evaluation.contestants import resolve
from saebench.evaluation.options import Options

SAES = ("demo:topk", "demo:standard", "demo:topk-k32")


@contextmanager
def clocked(module: Any, name: str) -> Iterator[list[float]]:
    """Processor seconds of every call of a module's function meanwhile."""
    seconds: list[float] = []
    plain: Callable[..., Any] = getattr(module, name)

    def timed(*arguments: Any) -> Any:
        start = time.process_time()
        made = plain(*arguments)
        seconds.append(time.process_time() - start)
        return made

    setattr(module, name, timed)
    try:
        yield seconds
    finally:
        setattr(module, name, plain)


def share_of_an_evaluation(bench: Bench) -> Table:
    """Both in one run and of the processor's time, so that what else runs on the machine hardly matters."""
    arena = make_arena("ioi", "demo", Options(budget=bench.budget, device="cpu"))
    (site,) = arena.sites([], None)
    arena.bench(site)
    rows = []
    for name in SAES:
        (contestant,) = resolve(name)
        made, best = arena.realise(contestant, site), None
        for _ in range(bench.rounds):
            with clocked(read_write, "measure") as parts:
                start = time.process_time()
                arena.score(made, site)
                whole = time.process_time() - start
            found = {"SAE": name, "whole s": whole, "encode-only s": sum(parts), "share": sum(parts) / whole}
            best = found if best is None or whole < best["whole s"] else best
        rows.append(best)
    note = (
        f"IOI on the bundled model, {bench.budget} budget, best of {bench.rounds}: scoring one SAE at a site that is"
        " prepared. Encode-only is everything that interpretability, over-splitting and the null draw from codes and"
        " decoder rows alone."
    )
    title = "What the scores without a patched pass cost"
    return Table("encoding", title, note, rows, {"largest share": max(row["share"] for row in rows)})
