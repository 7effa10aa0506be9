"""`python -m benchmarks [TABLE…]`: measures, prints, and writes `results/benchmarks/`."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import (
    busy,
    edits,
    encoding,
    evaluation,
    growth,
    lost,
    patching,
    reading,
    real,
    several,
    shared,
    sweeps,
)
from benchmarks.bench import Bench
from benchmarks.machine import describe
from benchmarks.report import Table, write

# minutes on a GPU, an hour on a CPU; a model that is fetched first
ON_REQUEST = (
    *("evaluation-standard", "busy", "many", "real", "real-shared", "real-evaluation"),
    *("sweep", "sweep-growth", "sweep-cache", "nodes", "killed"),
)
TABLES: dict[str, Callable[[Bench], Table]] = {
    "patching": patching.against_the_plain_way,
    "growth": patching.growth,
    "memory": patching.memory,
    "precision": patching.precision,
    "edits": edits.against_dense,
    "growth-sizes": growth.prompts_and_latents,
    "growth-saes": growth.budgets_and_saes,
    "encoding": encoding.share_of_an_evaluation,
    "evaluation": evaluation.second_sae,
    "outcomes": reading.against_numpy,
    "leaderboard": reading.whole_leaderboard,
    "evaluation-standard": evaluation.standard,
    "real": real.passes,
    "real-shared": shared.shared_passes,
    "real-evaluation": real.evaluations,
    "many": several.memory_of_many,
    "training": several.while_training,
    "busy": busy.beside_a_busy_process,
    "sweep": sweeps.executors,
    "sweep-growth": sweeps.growth,
    "sweep-cache": sweeps.from_cache,
    "nodes": lost.nodes,
    "killed": lost.drivers,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", help=f"among {', '.join(TABLES)}")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--model", default="smollm2-135m", help="of the tables real…")
    parser.add_argument("--budget", default="quick", help="of real-shared and real-evaluation")
    parser.add_argument("--tasks", nargs="*", default=Bench.tasks, help="of real-evaluation: ioi, ravel")
    parser.add_argument("--widths", nargs="*", type=int, default=Bench.widths, help="of its SAEs")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions; the best one counts")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    unknown = set(options.tables) - set(TABLES)
    if unknown:
        parser.error(f"unknown tables {sorted(unknown)}; choose among {', '.join(TABLES)}")
    bench = Bench(
        torch.device(options.device),
        options.rounds,
        options.model,
        options.budget,
        tuple(options.tasks),
        tuple(options.widths),
    )
    machine = describe(bench.device)
    stem = "cpu" if bench.device.type == "cpu" else re.sub(r"\W+", "-", machine["device"].lower())
    for name in options.tables or [table for table in TABLES if table not in ON_REQUEST]:
        table = TABLES[name](bench)
        path = write(options.out, stem, machine, [table])
        print(f"{name}: " + ", ".join(f"{k} {v:.3g}" for k, v in table.summary.items()))
    print(f"written: {path} and {path.with_suffix('.md')}")


if __name__ == "__main__":
    main()
