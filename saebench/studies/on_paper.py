"""What a sweep of thousands of checkpoints takes, on paper: `python -m saebench.studies.on_paper`.

Inputs are rates that were measured (committed results and tables); what is assumed is named in a field. How much more
a unit takes on a 1B model than on SmolLM2-135M was not measured: it may grow by nothing, as the model's parameters
do, or as the SAE's.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

from saebench.records import store

RESULTS = Path(__file__).parents[2] / "results"
SMALL, LARGE = 135e6, 1.0e9
"""Parameters of SmolLM2-135M and of the model on paper."""
SMALL_D_IN, SMALL_D_SAE = 576, 4_608
"""Of the SAEs that were measured."""


@dataclass(frozen=True)
class Plan:
    """The sweep on paper."""

    checkpoints: int = 5_000
    tasks: int = 4
    seeds: int = 1
    sites: int = 16
    gpus: int = 64
    d_in: int = 2_048
    d_sae: int = 32_768
    dollars: float = 2.5
    """For a GPU and an hour, as such GPUs are rented."""
    prompts: int = 6_000
    """All splits of a quick budget with their sources."""
    planning: float = 0.0025
    """CPU seconds a unit takes to be planned, its id among them (2,000 units in 5.0 s)."""

    @property
    def units(self) -> int:
        return self.checkpoints * self.tasks * self.seeds

    @property
    def groups(self) -> int:
        return self.tasks * self.seeds * self.sites


class Rates(NamedTuple):
    """What was measured."""

    unit: float
    """Seconds of an SAE on a GPU, IOI, quick budget."""
    bench: float
    """Benches in units: what a group takes before its first unit, over a unit (the bundled model, CPU)."""
    bytes: float
    """Of a result with its outcomes."""
    memory_mb: float
    """Peak of a worker's host memory."""


def rates() -> Rates:
    """Medians of SmolLM2's SAEs on a GPU, and of the table of growth."""
    found = [store.load(path) for path in store.find(RESULTS) if "smollm2-135m" in path.parts]
    saes = [s for s in found if s.result.dictionary.kind == "sae" and s.result.provenance.device == "cuda"]
    growth = json.loads((RESULTS / "benchmarks" / "cpu.json").read_text("utf-8"))["tables"]["growth-saes"][
        "rows"
    ][0]
    return Rates(
        median(s.result.provenance.seconds for s in saes),
        growth["shared, s"] / growth["s per SAE"],
        median(s.path.stat().st_size + s.table_path.stat().st_size for s in saes),
        median(s.result.provenance.peak_memory_mb for s in saes),
    )


def factors(plan: Plan) -> dict[str, float]:
    """By what a unit may grow, of the two things in it that grow."""
    sae = plan.d_in * plan.d_sae / (SMALL_D_IN * SMALL_D_SAE)
    return {"as measured": 1.0, "as the model": LARGE / SMALL, "as the SAE": sae}


def lines(plan: Plan, measured: Rates) -> Iterator[tuple[str, ...]]:
    """What it takes, and how much under each of the factors."""
    every = list(factors(plan).values())
    benches = max(1.0, plan.groups / plan.gpus) * measured.bench
    units = [measured.unit * factor for factor in every]
    hours = [(plan.units / plan.gpus + benches) * unit / 3600 for unit in units]
    checkpoint = 2 * plan.d_in * plan.d_sae * 4
    read = plan.checkpoints * checkpoint * plan.tasks
    host = measured.memory_mb / 1e3 + LARGE * 4 / 1e9 + checkpoint / 1e9
    yield "one unit, s", *(f"{unit:.1f}" for unit in units)
    yield "time, h", *(f"{h:.1f}" for h in hours)
    yield "GPU-hours", *(f"{h * plan.gpus:,.0f}" for h in hours)
    yield f"money at ${plan.dollars:g} a GPU-hour", *(f"${h * plan.gpus * plan.dollars:,.0f}" for h in hours)
    yield "checkpoints read, MB/s a GPU", *(f"{read / (h * 3600) / plan.gpus / 1e6:.0f}" for h in hours)
    stored = plan.units * measured.bytes
    yield "results to the driver, MB/s", *(f"{stored / (h * 3600) / 1e6:.1f}" for h in hours)
    yield "checkpoints, TB, read once a task", *(f"{read / 1e12:.1f}" for _ in hours)
    yield "results on disk, GB", *(f"{stored / 1e9:.0f}" for _ in hours)
    kept = plan.groups * plan.prompts * plan.d_in * 4
    yield "kept tensors on disk, GB", *(f"{kept / 1e9:.1f}" for _ in hours)
    yield "host memory a worker, GB, at most", *(f"{host:.1f}" for _ in hours)
    yield "planning on the driver, min", *(f"{plan.units * plan.planning / 60:.1f}" for _ in hours)


def main() -> None:
    plan = Plan()
    heads = [f"{name} (× {factor:.3g})" for name, factor in factors(plan).items()]
    print(f"| a unit grows … | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}")
    for line in lines(plan, rates()):
        print(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    main()
