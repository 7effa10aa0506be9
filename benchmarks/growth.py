"""How time and memory grow with prompts, latents, budgets and SAEs."""

import time
from multiprocessing import get_context
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.bench import Bench
from benchmarks.edits import high_water, reset_high_water
from benchmarks.evaluation import ACTIVE, RandomSAE
from benchmarks.report import Table
from saebench.axes.bench import make_bench
from saebench.cross_section import Attribute, CrossSection, LinearReadout, Split
from saebench.dictionaries.objects import from_object as as_dictionary
from saebench.dictionaries.supervised import fit_supervised
from saebench.evaluation.api import make_arena
from saebench.evaluation.contestants import control, resolve
from saebench.evaluation.options import Options
from saebench.scoring import score

D_IN, N_VALUES = 768, 40
SIZES = ((1_000, 24_576), (10_000, 24_576), (1_000, 65_536), (10_000, 65_536))
N_SELECT = 1_000
DEMO_SAES = ("topk", "standard", "gated", "jumprelu")


def section_of(n: int) -> CrossSection:
    """Two one-hot attributes of 40 values in 768 dimensions with noise, read by a linear head."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.linalg.qr(torch.randn(D_IN, 2 * N_VALUES, generator=generator)).Q.T * 3

    def acts(labels: Tensor) -> Tensor:
        noise = 0.1 * torch.randn(len(labels), D_IN, generator=generator)
        return rows[labels[:, 0]] + rows[N_VALUES + labels[:, 1]] + noise

    def split(size: int) -> Split:
        labels = torch.randint(0, N_VALUES, (size, 2), generator=generator)
        readout = LinearReadout(
            rows[None],
            torch.zeros(1, len(rows)),
            torch.zeros(size, dtype=torch.long),
            labels[:, 0],
            N_VALUES + labels[:, 1],
        )
        moved = {}
        for at, name in enumerate(("one", "two")):
            moved[name] = labels.clone()
            moved[name][:, at] = (labels[:, at] + 1) % N_VALUES
        sources = {name: acts(other) for name, other in moved.items()}
        expected = {name: run.top for name, run in readout.run(sources).items()}
        cluster = torch.arange(size) // 4
        return Split(acts(labels), labels, cluster, readout, sources, moved, expected)

    values = tuple(str(v) for v in range(N_VALUES))
    attributes = tuple(Attribute(name, values) for name in ("one", "two"))
    return CrossSection(attributes, split(N_SELECT), split(N_SELECT), split(n))


class Grown(NamedTuple):
    """CPU seconds, which other work on the machine does not lengthen much, and bytes."""

    seconds: float
    bytes: int


def _score_all_axes(n: int, d_sae: int) -> Grown:
    """Encodes, runs the five axes and scores them, in a process that holds the inputs already."""
    section = section_of(n)
    supervised = fit_supervised(section)
    bench = make_bench(section, supervised, supervised)
    dictionary = as_dictionary(RandomSAE.of(D_IN, 0, torch.device("cpu"), d_sae))
    reset_high_water()
    before, start = high_water(), time.process_time()
    score(bench.measure(dictionary))
    return Grown(time.process_time() - start, high_water() - before)


def prompts_and_latents(bench: Bench) -> Table:
    """What the five axes take besides the language model, for sizes up to 65,536 latents."""
    rows: list[dict[str, Any]] = []
    for n, d_sae in SIZES:
        with get_context("spawn").Pool(1) as pool:
            grown = pool.apply(_score_all_axes, (n, d_sae))
        dense = 4 * n * d_sae
        rows.append(
            {
                "prompts": n,
                "latents": d_sae,
                "CPU s": grown.seconds,
                "added memory, MB": grown.bytes / 1e6,
                "one dense array of codes, MB": dense / 1e6,
            }
        )
    return Table(
        "growth-sizes",
        "Growth with prompts and latents",
        f"All five axes with {N_SELECT:,} prompts to select on, a linear readout in place of a"
        f" language model, {D_IN} dimensions, {ACTIVE} active latents of a random TopK SAE. Memory:"
        " what encoding, axes and scoring add, at their peak, to a process that holds the SAE and"
        " the activations.",
        rows,
        {"largest added memory, GB": max(row["added memory, MB"] for row in rows) / 1e3},
    )


def budgets_and_saes(bench: Bench) -> Table:
    """The demo model: each budget with one SAE, and one to four SAEs with their shared controls."""
    rows = [_demo(bench, budget, 1) for budget in ("quick", "standard", "full")]
    rows += [_demo(bench, "quick", count) for count in (2, 4)]
    return Table(
        "growth-saes",
        "Growth with budgets and with the number of SAEs",
        "The demo model on IOI; clean runs, supervised dictionary and the controls `mean`,"
        " `identity`, `supervised` are made once for all SAEs.",
        rows,
    )


def _demo(bench: Bench, budget: str, count: int) -> dict[str, Any]:
    arena = make_arena("ioi", "demo", Options(budget=budget, device=str(bench.device)))
    site = arena.sites([], None)[0]
    start = time.perf_counter()
    for name in ("mean", "identity", "supervised"):
        result = arena.score_or_reuse(control(name), site, None)
    shared = time.perf_counter() - start
    for name in DEMO_SAES[:count]:
        (sae,) = resolve(f"demo:{name}")
        result = arena.score_or_reuse(sae, site, None)
    total = time.perf_counter() - start
    return {
        "budget": budget,
        "test prompts": result.task.n.test,
        "SAEs": count,
        "shared, s": shared,
        "s per SAE": (total - shared) / count,
        "all, s": total,
    }
