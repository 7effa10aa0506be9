"""A real language model: patched passes against hooked full ones, and where an evaluation's time goes."""

import os
import time
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.bench import Bench
from benchmarks.evaluation import RandomSAE
from benchmarks.machine import Products, best, interleaved
from benchmarks.necessary import counted, edit_cost
from benchmarks.report import Table
from saebench.evaluation.api import make_arena
from saebench.evaluation.contestants import control, from_object
from saebench.evaluation.options import Options
from saebench.kinds.names.prompts import Prompt
from saebench.kinds.names.sections import draw
from saebench.models.language_model import LanguageModel
from saebench.models.loading import load_model
from saebench.patching import PatchedReadout, Placement
from saebench.spec import load_task

BATCH, EDITS, FULL_PASSES = 64, 16, 2


def sites_of(model: LanguageModel) -> list[tuple[int, str]]:
    """Block and position of IOI's default sites on the model."""
    listed = load_task("ioi").spec.sites.get(model.name) or (
        f"blocks.{model.n_layers - 2}.hook_resid_pre@end",
    )
    found = [text.partition("@") for text in listed]
    return [(int(hook.split(".")[1]), position) for hook, _, position in found]


def prompts_of_one_length(model: LanguageModel, n: int) -> list[Prompt]:
    """IOI prompts with the commonest length and position of the subject, so that they fill one batch."""
    prompts = draw(load_task("ioi"), model, "quick", 0).batches["test"].prompts
    kinds: dict[tuple[int, int], list[Prompt]] = {}
    for prompt in prompts:
        kinds.setdefault((len(prompt.tokens), prompt.positions["s2"]), []).append(prompt)
    return max(kinds.values(), key=len)[:n]


@torch.no_grad()
def passes(bench: Bench) -> Table:
    """Patched passes a second, this package's and TransformerLens' with hooks, in two precisions."""
    rows = []
    for dtype in ("float32", "bfloat16"):
        model = load_model(bench.real, device=str(bench.device), dtype=dtype)
        prompts = prompts_of_one_length(model, BATCH)
        for block, position in sites_of(model):
            rows.append({"dtype": dtype, **_one_site(bench, model, prompts, block, position)})
    return Table(
        "real",
        f"Patched passes of {bench.real}",
        f"Up to {BATCH} IOI prompts of one length in a batch, {EDITS} different edits of each; the whole"
        " vocabulary is unembedded. *hooked*: `run_with_hooks`, one full pass an edit. *share*: the time that"
        " the multiply-adds which an edit makes necessary take at the rate of large matrix products in the"
        " same run and precision, divided by the time taken.",
        rows,
        {"smallest ratio": min(row["ratio"] for row in rows)},
    )


def _one_site(
    bench: Bench, model: LanguageModel, prompts: Sequence[Prompt], block: int, position: str
) -> dict[str, Any]:
    hook, tokens = f"blocks.{block}.hook_resid_pre", [p.tokens for p in prompts]
    at = torch.tensor([p.positions[position] for p in prompts])
    answer = torch.arange(len(prompts))
    readout = PatchedReadout(model, tokens, [Placement(hook, at)], answer, answer + 100)
    clean = readout.clean()
    noise = torch.randn(EDITS, *clean.shape, generator=torch.Generator().manual_seed(1)).to(clean)
    edits = dict(enumerate(clean + 0.1 * clean.std() * noise))
    ids = torch.tensor(tokens, device=bench.device)
    where, every = at.to(bench.device), torch.arange(len(prompts), device=bench.device)

    def hooked() -> None:
        for number in range(FULL_PASSES):

            def patch(value: Tensor, hook: Any, number: int = number) -> Tensor:
                value[every, where] = edits[number].to(value.dtype)
                return value

            model.bridge.run_with_hooks(ids, fwd_hooks=[(hook, patch)])

    products = Products(bench.device, model.dtype)
    readout.run(edits)
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(bench.device)
    slow, fast, large = interleaved(
        [hooked, lambda: readout.run(edits), products], bench.rounds, bench.device
    )
    rate = products.multiply_adds / large
    necessary = len(prompts) * EDITS * edit_cost(model, block, len(tokens[0]) - int(at[0]), model.d_vocab)
    found: dict[str, Any] = {
        "site": f"{hook}@{position}",
        "prompts": len(prompts),
        "tokens": len(tokens[0]),
        "hooked, passes/s": len(prompts) * FULL_PASSES / slow,
        "patched, passes/s": len(prompts) * EDITS / fast,
        "ratio": (len(prompts) * EDITS / fast) / (len(prompts) * FULL_PASSES / slow),
        "share": necessary / rate / fast,
        "GFLOP/s of large products": 2e-9 * rate,
        "way": readout.way,
    }
    if bench.device.type == "cuda":
        found["peak GPU memory, GB"] = torch.cuda.max_memory_allocated(bench.device) / 1e9
    return found


@patch.dict(os.environ, SAEBENCH_CACHE_SIZE="0")
def evaluations(bench: Bench) -> Table:
    """Where the time of a first evaluation goes: the model, what all share, controls, SAEs of two widths."""
    rows, summary = [], {}
    clock = time.process_time if bench.cpu_clock else time.perf_counter
    started = clock()
    model = load_model(bench.real, device=str(bench.device))
    products = Products(bench.device, model.dtype)
    rows.append({"task": "–", "what": "loading the model", "s": clock() - started})
    for task in bench.tasks:
        arena = make_arena(task, model, Options(budget=bench.budget, allow_incompetent=True))
        site = arena.sites([], None)[0]

        def timed(what: str, work: Any, task: str = task) -> None:
            rate = products.multiply_adds / best(products, 2, bench.device, bench.cpu_clock)
            started = clock()
            with counted() as necessary:
                work()
            if bench.device.type == "cuda":
                torch.cuda.synchronize(bench.device)
            seconds, floor = clock() - started, necessary.sum / rate
            rows.append(
                {"task": task, "what": what, "s": seconds, "floor, s": floor, "share": floor / seconds}
            )

        timed("prompts, clean runs, ceiling", lambda a=arena, s=site: a.bench(s))
        for name in ("mean", "identity", "supervised"):
            timed(f"control:{name}", lambda a=arena, s=site, n=name: a.score_or_reuse(control(n), s, None))
        for width in bench.widths:
            sae = from_object(RandomSAE.of(model.d_model, 0, bench.device, width))
            timed(f"SAE of {width:,} latents", lambda a=arena, s=site, c=sae: a.score_or_reuse(c, s, None))
    if bench.device.type == "cuda":
        summary["peak GPU memory, GB"] = torch.cuda.max_memory_allocated(bench.device) / 1e9
    larger = [f"{width:,} latents" for width in bench.widths[1:]]
    ioi = [r for r in rows if r["task"] != "ravel" and not any(text in r["what"] for text in larger)]
    every = sum(float(row["s"]) for row in ioi)
    summary["IOI with three controls and the first SAE, s"] = every
    summary["share of its floor"] = sum(float(row.get("floor, s", 0.0)) for row in ioi) / every
    return Table(
        "real-evaluation",
        f"One evaluation on {bench.real}, {bench.budget} budget",
        f"{' and '.join(bench.tasks).upper()} at the first default site; untrained TopK SAEs with 64 active"
        " latents; nothing is read from the cache. *floor*: the multiply-adds of the model that are necessary"
        " (each token once behind the same tokens, in the blocks before the site; each edit in those behind it,"
        " and the tokens that are unembedded), at the rate of large matrix products in the same run."
        f" {'Seconds of CPU.' if bench.cpu_clock else 'Seconds.'}",
        rows,
        summary | {"s in all": float(sum(row["s"] for row in rows))},
    )
