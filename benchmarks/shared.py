"""What every SAE at a site shares: activations and clean runs, with prefixes shared and with whole prompts."""

from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.bench import Bench
from benchmarks.machine import Products, interleaved
from benchmarks.necessary import counted
from benchmarks.report import Table
from saebench.kinds.names.prompts import Prompt
from saebench.kinds.names.sections import Written, draw
from saebench.models.language_model import LanguageModel
from saebench.models.loading import load_model
from saebench.patching import PatchedReadout, Placement, capture
from saebench.patching.capture import by_length
from saebench.site import Site
from saebench.spec import load_task

PART = 4
"""Whole prompts are run for one in so many, and the time multiplied."""
ROWS = 85
"""Prompts in a batch of whole ones: as many tokens as this package runs together."""
PHRASINGS, ROUNDS = 2, 2
"""Of each split so many phrasings, with all of their prompts, and at most so many rounds: minutes, not a quarter
of an hour. Prompts share what they begin with inside a phrasing, so that the ratio is hardly moved."""


def shared_passes(bench: Bench) -> Table:
    """IOI's default sites: the time of everything that is run once, whatever is scored."""
    model, task = load_model(bench.real, device=str(bench.device)), load_task("ioi")
    batches = draw(task, model, bench.budget, 0).batches
    test = batches["test"]
    parts = [Written(batches[name].cases, batches[name].prompts) for name in ("fit", "select")]
    fixed = [p for part in (*parts, *test.sources.values()) for p in _of_few_phrasings(part)]
    edited = _of_few_phrasings(Written(test.cases, test.prompts))
    last = f"blocks.{model.n_layers - 2}.hook_resid_pre@end"
    rows = []
    for text in task.spec.sites_of(model.name, model.sha256) or (last,):
        site = Site.parse(text)
        rows.append(_row(bench, model, site, "activations of fit, select and sources", fixed, False))
        rows.append(_row(bench, model, site, "clean run of test", edited, True))
    return Table(
        "real-shared",
        f"What is run once on {bench.real}",
        f"IOI, {bench.budget} budget, {PHRASINGS} phrasings of each split. *whole*: every prompt in full through"
        " the block behind the site (clean runs: through all), one batch a length; timed on every"
        f" {PART}th prompt. *floor*: each token once behind the same tokens, in the blocks that can be seen, at"
        " the rate of large matrix products in the same run."
        f" {_clock(bench)}",
        rows,
        {"smallest ratio": min(r["ratio"] for r in rows), "smallest share": min(r["share"] for r in rows)},
    )


def _of_few_phrasings(written: Written) -> list[Prompt]:
    """All prompts of the first few phrasings."""
    few = sorted({case.template for case in written.cases})[:PHRASINGS]
    return [p for case, p in zip(written.cases, written.prompts, strict=True) if case.template in few]


def _clock(bench: Bench) -> str:
    return "Seconds of CPU." if bench.cpu_clock else "Seconds."


def _row(
    bench: Bench, model: LanguageModel, site: Site, what: str, prompts: Sequence[Prompt], edited: bool
) -> dict[str, Any]:
    tokens = [p.tokens for p in prompts]
    place = Placement(site.hook, torch.tensor([p.positions[site.position] for p in prompts]))
    blank = torch.zeros(len(prompts), dtype=torch.long)

    def ours() -> None:
        if edited:
            readout = PatchedReadout(model, tokens, [place], blank, blank)
            readout.clean()
        else:
            capture(model, tokens, {0: place})

    def whole() -> None:
        stop = None if edited else place.layer + 1
        for rows in by_length(tokens[::PART]).values():
            for part in rows.split(ROWS):
                batch = torch.tensor([tokens[PART * i] for i in part.tolist()], device=bench.device)
                model.bridge(batch, stop_at_layer=stop, logits_to_keep=1)

    products, rounds = Products(bench.device, model.dtype), min(ROUNDS, bench.rounds)
    with counted() as necessary, torch.no_grad():
        slow, fast, large = interleaved([whole, ours, products], rounds, bench.device, bench.cpu_clock)
    slow *= len(tokens) / len(tokens[::PART])
    floor = necessary.sum / rounds / (products.multiply_adds / large)
    return {
        "site": str(site),
        "what": what,
        "prompts": len(prompts),
        "whole, s": slow,
        "ours, s": fast,
        "ratio": slow / fast,
        "floor, s": floor,
        "share": floor / fast,
    }
