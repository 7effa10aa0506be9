"""A whole evaluation at 24,576 latents, and what a second SAE at the same site costs."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.bench import Bench
from benchmarks.report import Table
from saebench.evaluation.api import make_arena
from saebench.evaluation.contestants import control, from_object
from saebench.evaluation.options import Options

D_SAE, ACTIVE = 24_576, 64
LAYER, POSITION = 5, "s2"


@dataclass
class RandomSAE:
    """An untrained TopK SAE with tied random directions: the cost of an SAE, not its quality."""

    W_dec: Tensor
    k: int = ACTIVE

    @classmethod
    def of(cls, d_in: int, seed: int, device: torch.device, d_sae: int = D_SAE) -> "RandomSAE":
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randn(d_sae, d_in, generator=generator)
        return cls(torch.nn.functional.normalize(rows, dim=1).to(device))

    def encode(self, x: Tensor) -> Tensor:
        top = (x @ self.W_dec.T).topk(self.k, dim=1)
        return torch.zeros(len(x), len(self.W_dec), device=x.device).scatter(1, top.indices, top.values)

    def decode(self, codes: Tensor) -> Tensor:
        return codes @ self.W_dec

    def state_dict(self) -> dict[str, Tensor]:
        return {"W_dec": self.W_dec}


def second_sae(bench: Bench, budget: str = "quick") -> Table:
    """Row 6: the first SAE with all that it shares, then another."""
    options = Options(budget=budget, allow_incompetent=True)
    arena = make_arena("ioi", bench.model, options)
    site = arena.sites([], f"blocks.{LAYER}.hook_resid_pre@{POSITION}")[0]
    saes = [RandomSAE.of(bench.model.d_model, seed, bench.device) for seed in (0, 1)]
    controls = [control(name) for name in ("mean", "identity", "supervised")]
    rows = []

    def timed(what: str, *contestants) -> float:
        start = time.perf_counter()
        for contestant in contestants:
            arena.score_or_reuse(contestant, site, None)
        if bench.device.type == "cuda":
            torch.cuda.synchronize(bench.device)
        seconds = time.perf_counter() - start
        rows.append({"what": what, "s": seconds})
        return seconds

    first = timed(
        "first SAE, its clean runs, supervised dictionary and controls", from_object(saes[0]), *controls
    )
    second = timed("second SAE", from_object(saes[1]))
    summary = {"second / first": second / first}
    if bench.device.type == "cuda":
        summary["peak GPU memory, GB"] = torch.cuda.max_memory_allocated(bench.device) / 1e9
    return Table(
        "evaluation",
        f"IOI at {D_SAE:,} latents ({budget} budget)",
        f"GPT-2 small's shape with random weights at layer {LAYER}, position `{POSITION}`; random"
        f" TopK SAEs with {ACTIVE} active latents. The model is loaded beforehand.",
        rows,
        summary,
    )


def standard(bench: Bench) -> Table:
    """Row 9: the whole standard evaluation, for a GPU."""
    table = second_sae(bench, "standard")
    return Table("evaluation-standard", table.title, table.note, table.rows, table.summary)
