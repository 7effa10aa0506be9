"""Edits of few latents and F1 tables against straightforward dense versions, with equal results."""

from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.bench import Bench
from benchmarks.machine import best
from benchmarks.report import Table
from saebench.dictionaries.codes import SparseCodes
from saebench.edits.few_latents import greedy
from saebench.measures.detection import f1_table

D_SAE, D_IN, N, K, ACTIVE = 24_576, 768, 100, 8, 64
N_VALUES, N_F1 = 40, 500


class World(NamedTuple):
    """Random codes of a base and a source, a decoder, and activations with an error term."""

    decoder: Tensor
    base: Tensor
    target: Tensor
    alpha: Tensor
    beta: Tensor


def make_world(device: torch.device, n: int = N) -> World:
    generator = torch.Generator().manual_seed(0)
    decoder = torch.nn.functional.normalize(torch.randn(D_SAE, D_IN, generator=generator), dim=1)
    codes = torch.zeros(2, n, D_SAE)
    for row in codes.flatten(0, 1):
        row[torch.randperm(D_SAE, generator=generator)[:ACTIVE]] = torch.rand(ACTIVE, generator=generator)
    error = 0.1 * torch.randn(2, n, D_IN, generator=generator)
    acts = codes @ decoder + error
    return World(*(t.to(device) for t in (decoder, *acts, *codes)))


def sparse(codes: Tensor) -> SparseCodes:
    row, latent = codes.nonzero(as_tuple=True)
    return SparseCodes(row, latent, codes[row, latent], *codes.shape)


def fast_greedy(world: World) -> Tensor:
    alpha, beta = sparse(world.alpha), sparse(world.beta)
    return greedy(world.base, world.target, alpha, beta, world.decoder, [K])[K].acts


def dense_greedy(world: World) -> Tensor:
    """The definition, one prompt after the other, every latent's distance written out."""
    out = world.base.clone()
    for i in range(len(out)):
        step = (world.beta[i] - world.alpha[i])[:, None] * world.decoder
        left = torch.ones(D_SAE, dtype=torch.bool, device=out.device)
        for _ in range(K):
            distance = (out[i] + step - world.target[i]).square().sum(1)
            distance[~left] = torch.inf
            pick = distance.argmin()
            if distance[pick] >= (out[i] - world.target[i]).square().sum():
                break
            out[i] += step[pick]
            left[pick] = False
    return out


def fast_f1(world: World) -> Tensor:
    return f1_table(sparse(world.alpha), _labels(world), N_VALUES, signed=False).f1


def dense_f1(world: World) -> Tensor:
    """One value after the other, from dense codes."""
    active, table = world.alpha > 0, []
    for value in range(N_VALUES):
        positive = (_labels(world) == value)[:, None]
        hits = (active & positive).sum(0)
        misses, false = (~active & positive).sum(0), (active & ~positive).sum(0)
        table.append(2 * hits / (2 * hits + misses + false))
    return torch.stack(table, 1)


def _labels(world: World) -> Tensor:
    return torch.arange(len(world.base), device=world.base.device) % N_VALUES


def peak_bytes(work: Callable[[World], Any], n: int) -> int:
    """What a piece of work adds to the memory of a process that holds its inputs; Linux, CPU."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (work, n))


def _peak(work: Callable[[World], Any], n: int) -> int:
    world = make_world(torch.device("cpu"), n)
    work(World(world.decoder, *(t[:1] for t in world[1:])))  # threads and workspaces, made once
    reset_high_water()
    before = high_water()
    work(world)
    return high_water() - before


def reset_high_water() -> None:
    """Makes Linux forget earlier peaks: inputs often take more to make than to hold."""
    Path("/proc/self/clear_refs").write_text("5")


def high_water() -> int:
    """The largest resident memory since the last reset, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line for line in status if line.startswith("VmHWM")).split()[1])


@torch.no_grad()
def against_dense(bench: Bench) -> Table:
    """Row 5: the greedy edit and the F1 table."""
    rows = []
    for name, fast, dense, n in (
        (f"greedy edit, k = {K}", fast_greedy, dense_greedy, N),
        (f"F1 table, {N_VALUES} values", fast_f1, dense_f1, N_F1),
    ):
        world = make_world(bench.device, n)
        quick = best(lambda f=fast, w=world: f(w), bench.rounds, bench.device)
        slowly: list[Tensor] = []
        slow = best(lambda d=dense, w=world, kept=slowly: kept.append(d(w)), 1, bench.device)
        small, large = peak_bytes(fast, n), peak_bytes(dense, n)
        rows.append(
            {
                "what": name,
                "prompts": n,
                "dense, s": slow,
                "ours, s": quick,
                "faster": slow / quick,
                "dense, MB": large / 1e6,
                "ours, MB": small / 1e6,
                "less memory": large / max(small, 2**20),
                "max difference": (fast(world) - slowly[0]).abs().max().item(),
            }
        )
    return Table(
        "edits",
        "Edits and F1 tables against dense versions",
        f"{D_SAE:,} latents of width {D_IN}, {ACTIVE} of them active per prompt, random. Memory:"
        " what the work adds to a process that holds its inputs, at its peak, on the CPU."
        " *max difference*: of the edited activations, and of F1; equal picks give rounding only.",
        rows,
        {f"{row['what']}, {x}": row[x] for row in rows for x in ("faster", "less memory")},
    )
