"""Measures the bundled boards for the audit: `python -m saebench.studies.audit.boards --workers 2`.

Scores the bundled SAEs on IOI and RAVEL beside their nulls, changed copies of them, cheats, other draws of
prompts and the full budget. Every part is a table of its own, written after every dictionary; what is there is
kept, so that the run can be stopped and resumed. At the end they are joined to `<out>/boards.parquet`.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from saebench.studies.audit.plan import scratch

TRAINED = tuple(
    f"demo:{name}"
    for name in ("standard", "gated", "topk", "batchtopk", "jumprelu", "matryoshka", "topk-k32")
)
UNDERTRAINED = ("demo:topk-undertrained",)
CHANGED = ("demo:standard", "demo:topk", "demo:batchtopk")
"""The SAEs that specificity changes: one for each way of being sparse."""
BEST = "demo:standard"
"""The SAE that cheats are made from."""
CEILING = "control:supervised"
RANDOM = {"ioi": "control:random:16:768", "ravel": "control:random:8:768"}
"""Random directions at the SAEs' median L0, as `control:all` has them."""
TASK_SEEDS = (1, 2, 3, 4, 5, 6, 7)
ORDERING = "the ordering"
CLIMBS = {
    "approximation": 30,
    "control": 460,
    "interpretability": 200,
    "occlusion": 220,
    "oversplitting": 220,
}
"""Hill climbs on one axis each, with their CPU seconds: what leads one axis alone tops no board."""
NULL_SITES = {"ioi": "blocks.2.hook_resid_post@io", "ravel": "blocks.3.hook_resid_post@entity"}
"""Before the answer and behind what reads there: the attributes stand there and nothing follows from them."""
TABLE = "boards.parquet"


class Part(NamedTuple):
    """What one process measures: some dictionaries on one task."""

    task: str
    what: str
    argument: str = ""
    seconds: int = 0
    """CPU seconds that it takes with empty caches: the longest go first."""
    full: bool = False
    """Left to the full run: no verdict needs it."""
    light: bool = False
    """Without control where it is learned for every dictionary."""

    @property
    def file(self) -> str:
        return "-".join(filter(None, (self.task, self.what, self.argument))).replace(" ", "-") + ".parquet"


def parts() -> list[Part]:
    """Everything, the longest first."""
    found = [
        Part("ravel", "saes", seconds=381),
        Part("ravel", "made", seconds=482),
        Part("ravel", "null", seconds=23),
        Part("ravel", "full", seconds=33, light=True),
        Part("ioi", "saes", seconds=54),
        Part("ioi", "made", seconds=89),
        Part("ioi", "null", seconds=19),
        Part("ioi", "full", seconds=173),
        Part("ioi", "climb", ORDERING, 719),
    ]
    found += [Part("ioi", "climb", axis, seconds, full=True) for axis, seconds in CLIMBS.items()]
    for seed in map(str, TASK_SEEDS):
        found += [Part("ioi", "seed", seed, 25), Part("ravel", "seed", seed, 14, light=True)]
    return sorted(found, key=lambda part: -part.seconds)


def jobs(part: Part) -> list[Any]:
    """The dictionaries of a part."""
    from saebench.audit import measuring as m

    trained, short = m.by_name(TRAINED), m.by_name(UNDERTRAINED)
    saes = m.as_they_are(trained) + m.as_they_are(short, "undertrained")
    some = m.by_name(CHANGED)

    made: dict[str, Callable[[], list[Any]]] = {
        "saes": lambda: [
            *saes,
            *m.nulls(trained | short),
            *m.as_they_are(m.by_name([CEILING]), "ceiling"),
            *m.as_they_are(m.by_name([RANDOM[part.task]]), "reference"),
        ],
        "made": lambda: [*m.gamed(BEST, trained[BEST]), *m.changed(some)],
        "null": lambda: m.as_they_are(some, "null-task"),
        "seed": lambda: saes,
        "full": lambda: saes,
        "climb": lambda: m.climbed(
            {part.argument: ordered_by() if part.argument == ORDERING else [part.argument]}
        ),
    }
    return made[part.what]()


def ordered_by() -> list[str]:
    """The axes that may order a board, as the committed audit says: what a search climbs on together."""
    from saebench.reporting.ordering import read_verdicts
    from saebench.scoring.axes import AXES

    said = read_verdicts("any board")
    return [axis for axis in AXES if said is None or axis not in said.axes or said.axes[axis].passes]


def one(part: Part, out: str) -> float:
    """Measures one part; returns the CPU seconds that it took."""
    started = time.process_time()
    import torch

    from saebench.audit.measuring import measure
    from saebench.audit.stand import Stand
    from saebench.spec import load_task

    torch.set_num_threads(1)
    seed = int(part.argument) if part.what == "seed" else 0
    budget = "full" if part.what == "full" else "quick"
    site = NULL_SITES[part.task] if part.what == "null" else None
    (own,) = load_task(part.task).spec.sites["demo"]
    fields = {"board": f"{part.task} · demo · {own}", "task_seed": seed, "budget": budget}
    measure(
        lambda: Stand(part.task, "demo", seed, budget, site, part.light),
        jobs(part),
        Path(out) / part.file,
        **fields,
    )
    return time.process_time() - started


def join(parts_folder: Path, out: Path, results: Path | None) -> None:
    """All parts in one table, with what it held before and what a directory of results holds of the boards.

    What is newer replaces what is the same measurement; what was measured by other versions of axes or task, or
    on other weights than those bundled, is left out. To begin anew, delete the table.
    """
    from saebench.audit import committed
    from saebench.audit.evidence import read_about
    from saebench.audit.rows import Rows, read, write
    from saebench.audit.standing import current, note, of_these_weights

    before = read(out / TABLE)
    rows = before.where(current) if of_these_weights(read_about(out), TABLE) else Rows(())
    if len(rows) < len(before):
        left = len(before) - len(rows)
        print(f"{left} older rows are left out: of other versions or weights", file=sys.stderr)
    if results is not None:
        for task in NULL_SITES:
            # the bundled boards: a model whose nulls and cheats were not measured would pass unseen
            rows += Rows(tuple(r for r in committed.rows(results, task) if " · demo · " in r.board))
    for path in sorted(parts_folder.glob("*.parquet")):
        rows += read(path)
    write(rows, out / TABLE)
    note(out, TABLE)


def main() -> None:
    from saebench.audit.standing import weights

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/audit/after"))
    parser.add_argument("--parts", type=Path, default=Path(".audit"), help="where parts are kept meanwhile")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--full", action="store_true", help="climb on every axis by itself too")
    parser.add_argument("--only", default="", help="a word that the parts' names contain, such as ioi-seed")
    parser.add_argument("--list", action="store_true", help="only say what would be measured, and its cost")
    parser.add_argument("--results", type=Path, help="take what these results hold, instead of measuring it")
    parser.add_argument("--join", action="store_true", help="only join the parts that are there")
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    todo = [part for part in parts() if asked.only in part.file and (asked.full or not part.full)]
    if asked.results is not None:
        todo = [part for part in todo if part.what != "saes"]
    if asked.list:
        print("\n".join(f"{part.seconds:5d} CPU s  {part.file}" for part in todo))
        print(f"{sum(part.seconds for part in todo) / 60:5.0f} CPU minutes with empty caches")
        return
    place = scratch(asked.parts, NULL_SITES, weights(TABLE))
    for folder in (place, asked.out):
        folder.mkdir(parents=True, exist_ok=True)
    if not asked.join:
        run(todo, place, asked.workers)
    join(place, asked.out, asked.results)


def run(todo: list[Part], place: Path, workers: int) -> None:
    """Measures the parts, each in a process of its own; says what each took."""
    started, total = time.monotonic(), 0.0
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as processes:
        found = {processes.submit(one, part, str(place)): part for part in todo}
        for done, job in enumerate(as_completed(found), 1):
            seconds = job.result()
            total += seconds
            said = f"{found[job].file}, {seconds:.0f} CPU s; {total:.0f} CPU s so far"
            print(
                f"{time.monotonic() - started:.0f} s, {done}/{len(found)}: {said}",
                file=sys.stderr,
                flush=True,
            )


if __name__ == "__main__":
    main()
