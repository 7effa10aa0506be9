"""Time per edit of patched passes: TransformerLens' plain way, the suffix, and the floor."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.bench import LENGTH, N_PROMPTS, Bench
from benchmarks.machine import Products, interleaved
from benchmarks.report import Table
from saebench.answers import Outcome
from saebench.models.language_model import LanguageModel
from saebench.models.loading import load_model
from saebench.patching import PatchedReadout, Placement

N_EDITS = 16
PLAIN_EDITS = 2  # the plain way takes the same for every edit, so few are timed
SITES = ((9, 19), (7, 19), (5, 12), (2, 12), (0, 8))  # (layer, position); 19 is the last


class Setting(NamedTuple):
    """A site, a readout there with its clean run at hand, and edits of all prompts."""

    readout: PatchedReadout
    edits: dict[int, Tensor]


def setting(bench: Bench, layer: int, position: int, model: LanguageModel | None = None) -> Setting:
    place = Placement(f"blocks.{layer}.hook_resid_pre", torch.full((N_PROMPTS,), position))
    answer = torch.arange(N_PROMPTS)
    readout = PatchedReadout(model or bench.model, bench.tokens, [place], answer, answer + 100)
    clean = readout.clean()
    noise = torch.randn(N_EDITS, *clean.shape, generator=torch.Generator().manual_seed(1))
    return Setting(readout, dict(enumerate(clean + 0.1 * noise.to(clean))))


def users_way(model: LanguageModel, tokens: Tensor, hook: str, position: int, edit: Tensor) -> Tensor:
    """One edit of a batch of prompts as a TransformerLens user writes it: `[b, length, vocab]`."""

    def patch(value: Tensor, hook: Any) -> Tensor:
        value[:, position] = edit
        return value

    return model.bridge.run_with_hooks(tokens, fwd_hooks=[(hook, patch)])


@torch.no_grad()
def against_the_plain_way(bench: Bench) -> Table:
    """Rows 1 to 3: five sites, the whole vocabulary and two tokens."""
    rows = [_one_site(bench, layer, position) for layer, position in SITES]
    last = [row for row in rows if row["position"] == LENGTH - 1]

    def mean(rows: Sequence[dict[str, Any]], column: str) -> float:
        return math.exp(sum(math.log(row[column]) for row in rows) / len(rows))

    return Table(
        "patching",
        "A patched pass against a full one",
        f"GPT-2 small's shape, random weights, float32; {N_PROMPTS} prompts × {N_EDITS} edits of"
        f" {LENGTH} tokens. Milliseconds for one edit of all prompts, the clean run at hand."
        " *plain*: `run_with_hooks` on the batch of prompts, one call per edit. *two*: only the"
        " answer and the distractor are unembedded. *share*: the time that the multiply-adds which"
        " an edit makes necessary take at the rate of large matrix products in the same run,"
        " divided by the time taken.",
        rows,
        {
            "ratio, five sites, whole vocabulary (geometric mean)": mean(rows, "ratio"),
            "ratio, five sites, two tokens": mean(rows, "ratio two"),
            "ratio, last position, whole vocabulary": mean(last, "ratio"),
            "ratio, last position, two tokens": mean(last, "ratio two"),
            "smallest share of the floor": min(min(r["share"], r["share two"]) for r in rows),
            "largest logit difference": max(row["max Δlogit"] for row in rows),
        },
    )


def _one_site(bench: Bench, layer: int, position: int) -> dict[str, Any]:
    readout, edits = setting(bench, layer, position)
    model, hook = bench.model, readout.places[0].hook
    tokens = torch.tensor(bench.tokens, device=bench.device)
    stacked, rows = torch.cat(list(edits.values())), torch.arange(N_PROMPTS).repeat(N_EDITS)

    def plain() -> list[Tensor]:
        return [users_way(model, tokens, hook, position, edits[i])[:, -1] for i in range(PLAIN_EDITS)]

    fast = readout.logits(stacked[: PLAIN_EDITS * N_PROMPTS], rows[: PLAIN_EDITS * N_PROMPTS])
    difference = (torch.cat(plain()) - fast).abs().max().item()
    works: list[Callable[[], Any]] = [
        plain,
        lambda: readout.run(edits),
        lambda: readout.difference(stacked, rows),
        lambda: readout.run(edits, reference=edits[0]),
        products := Products(bench.device),
    ]
    for work in works[1:]:
        work()  # the first call makes the clean run
    seconds = interleaved(works, bench.rounds, bench.device)
    slow, whole, two = (1e3 * s / n for s, n in zip(seconds, (PLAIN_EDITS, N_EDITS, N_EDITS), strict=False))
    rate = products.multiply_adds / seconds[4]
    floors = [1e3 * N_PROMPTS * macs / rate for macs in necessary(model, layer, position)]
    return {
        "layer": layer,
        "position": position,
        "plain": slow,
        "suffix": whole,
        "ratio": slow / whole,
        "share": floors[0] / whole,
        "two": two,
        "ratio two": slow / two,
        "share two": floors[1] / two,
        "with KL": 1e3 * seconds[3] / N_EDITS,
        "max Δlogit": difference,
        "GFLOP/s": 2e-9 * rate,
    }


def necessary(model: LanguageModel, layer: int, position: int) -> tuple[float, float]:
    """Multiply-adds that one edit of one prompt makes necessary: whole vocabulary, two tokens.

    Every block from the site on, for every token from the edited one on; in the last block the
    other tokens give keys and values only. Attention itself is left out.
    """
    width, tokens = model.d_model, LENGTH - position
    block, blocks = 12 * width**2, model.n_layers - layer
    body = (blocks - 1) * tokens * block + block + (tokens - 1) * 2 * width**2
    return body + model.d_vocab * width, body + 2 * width


@torch.no_grad()
def growth(bench: Bench) -> Table:
    """How the time grows with the number of edits over one clean run, its cost included."""
    rows = []
    readout, edits = setting(bench, 5, 12)
    for count in (1, 4, 16, 64):
        # all different: what repeats would run once
        many = {i: edits[i % N_EDITS] * (1 + i // N_EDITS) for i in range(count)}
        first, later = [], []
        for _ in range(2):
            readout.forget()
            times = first, later
            for kept in times:
                kept += interleaved([lambda m=many: readout.run(m)], 1, bench.device)
        rows.append(
            {
                "edits": count,
                "first call, ms/edit": 1e3 * min(first) / count,
                "later calls, ms/edit": 1e3 * min(later) / count,
            }
        )
    return Table(
        "growth",
        "Growth with the number of edits",
        "Layer 5, position 12. The first call at a site makes the clean run; later ones, a second"
        " dictionary's for instance, find it.",
        rows,
    )


@torch.no_grad()
def memory(bench: Bench) -> Table:
    """Row 8: the same numbers under smaller budgets."""
    readout, edits = setting(bench, 5, 12)
    full = readout.run(edits, reference=edits[0])

    def kl(outcome: Outcome) -> Tensor:
        assert outcome.kl is not None
        return outcome.kl

    rows = []
    for budget in (None, 256, 64, 16):
        small, _ = setting(bench, 5, 12, replace(bench.model, memory_bytes=budget and budget * 2**20))
        found = small.run(edits, reference=edits[0])
        seconds = interleaved([lambda r=small: r.run(edits, reference=edits[0])], 2, bench.device)[0]
        rows.append(
            {
                "budget, MiB": budget or "half of what is free",
                "prompt × edit rows at once": small.rows_at_once,
                "ms/edit": 1e3 * seconds / N_EDITS,
                "max ΔLD": max((found[k].ld - full[k].ld).abs().max().item() for k in edits),
                "max ΔKL": max((kl(found[k]) - kl(full[k])).abs().max().item() for k in edits),
                "other answers": sum(int((found[k].top != full[k].top).sum()) for k in edits),
            }
        )
    return Table("memory", "The same numbers in less memory", "Layer 5, position 12.", rows)


@torch.no_grad()
def precision(bench: Bench) -> Table:
    """What bfloat16 costs: its time, and its error in LD against float32."""
    readout, edits = setting(bench, 5, 12)
    half_model = load_model(str(bench.directory), device=str(bench.device), dtype="bfloat16")
    half, _ = setting(bench, 5, 12, half_model)
    edits_half = {k: edit.to(torch.bfloat16) for k, edit in edits.items()}
    exact, rounded = readout.run(edits), half.run(edits_half)
    seconds = interleaved([lambda: readout.run(edits), lambda: half.run(edits_half)], 2, bench.device)
    error = torch.stack([rounded[k].ld - exact[k].ld for k in edits])
    spread = torch.stack([exact[k].ld for k in edits]).std().item()
    same = torch.stack([rounded[k].top == exact[k].top for k in edits]).float().mean().item()
    rows = [
        {"dtype": "float32", "ms/edit": 1e3 * seconds[0] / N_EDITS},
        {
            "dtype": "bfloat16",
            "ms/edit": 1e3 * seconds[1] / N_EDITS,
            "RMS error of LD": error.square().mean().sqrt().item(),
            "share of the spread of LD": error.square().mean().sqrt().item() / spread,
            "same answer": same,
        },
    ]
    rows[0] |= dict.fromkeys(list(rows[1])[2:])
    return Table(
        "precision",
        "bfloat16 against float32",
        "Layer 5, position 12. Random weights give flat logits: the arg-max changes more easily"
        " than in a trained model.",
        rows,
    )
