"""Where S, IO and position act in IOI: every block × position, by patching the source's activation.

docs/methods.md §2. `python -m saebench.studies.real.sites --out results/smollm2-135m` writes `sites.csv` and a
figure. Prompts and sources are those of `select`, which no score is measured on.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from saebench.kinds.names.prompts import ROLES, Case, Prompt, counterfactual, split_distances, write_prompt
from saebench.kinds.names.sections import draw
from saebench.kinds.names.words import Words, token
from saebench.models.devices import exact
from saebench.models.language_model import LanguageModel
from saebench.models.loading import load_model
from saebench.patching import PatchedReadout, Placement, capture
from saebench.scoring.estimates import Bootstrap
from saebench.spec import NamesSpec, load_task

Sources = dict[str, list[Prompt]]


def draw_prompts(
    model: LanguageModel, budget: str, seed: int, n: int
) -> tuple[Words, list[Case], list[Prompt], Sources]:
    """`n` prompts of `select` and for each attribute a source that differs in it alone."""
    words, _, batches = draw(load_task("ioi"), model, budget, seed)
    cases = batches["select"].cases
    rng = np.random.default_rng([seed, 7])
    cases = [cases[i] for i in sorted(rng.permutation(len(cases))[:n])]
    names = len(words.names)
    distances = split_distances(names, np.random.default_rng([seed, 8]))["select"]
    sources = {
        role: [write_prompt(counterfactual(c, role, names, distances, rng), words, model) for c in cases]
        for role in ROLES
    }
    return words, cases, [write_prompt(c, words, model) for c in cases], sources


def places(
    model: LanguageModel, prompts: Sequence[Prompt], blocks: Sequence[int], positions: Sequence[str]
) -> dict[tuple[int, str], Placement]:
    """The residual stream that enters each block, at each position."""
    return {
        (block, name): Placement(
            f"blocks.{block}.hook_resid_pre", torch.tensor([p.positions[name] for p in prompts])
        )
        for name in positions
        for block in blocks
    }


def effects(
    model: LanguageModel,
    words: Words,
    cases: Sequence[Case],
    prompts: Sequence[Prompt],
    sources: Sources,
    blocks: Sequence[int],
    positions: Sequence[str],
) -> Iterator[dict[str, float | int | str]]:
    """One row for each block, position and attribute: what the source's activation does to LD."""
    tokens = [p.tokens for p in prompts]
    names = torch.tensor([token(model, n) for n in words.names])
    io, s = (names[[getattr(c, role) for c in cases]] for role in ("io", "s"))
    here = places(model, prompts, blocks, positions)
    clean = capture(model, tokens, here)
    there = {
        role: capture(model, [p.tokens for p in drawn], places(model, drawn, blocks, positions))
        for role, drawn in sources.items()
    }
    cluster = np.array([min(c.io, c.s) * len(names) + max(c.io, c.s) for c in cases])
    boot = Bootstrap(cluster, np.array([(c.io, c.s) for c in cases]))
    way = None
    for (block, position), place in here.items():
        readout = PatchedReadout(model, tokens, [place], io, s, way=way)
        # the residual stream everywhere: what holds at one block does at the others
        way = readout.way
        edits: dict[str, Tensor] = {role: there[role][block, position] for role in ROLES}
        done = readout.run({"clean": clean[block, position], **edits})
        before = done["clean"].ld.double().numpy(force=True)
        for role in ROLES:
            after = done[role].ld.double().numpy(force=True)
            change = boot.total(after - before) / abs(float(before.sum()))
            low, high = change.interval()
            yield {
                "block": block,
                "position": position,
                "attribute": role,
                "effect": float(change),
                "low": low,
                "high": high,
                "flipped": float((done[role].top != done["clean"].top).double().mean()),
                "ld": float(before.mean()),
                "n": len(before),
            }
        readout.forget()


def draw_figure(table: pd.DataFrame, path: Path, title: str) -> None:
    """Effect over blocks, one panel a position, with intervals."""
    from matplotlib.figure import Figure

    positions = list(table.position.unique())
    figure = Figure(figsize=(3 * len(positions), 2.8), layout="constrained")
    for number, position in enumerate(positions, 1):
        axes = figure.add_subplot(1, len(positions), number)
        for color, role in zip(("#0072b2", "#d55e00", "#7f7f7f"), ROLES, strict=True):
            rows = table.loc[(table.position == position) & (table.attribute == role)].sort_values(by="block")
            axes.plot(
                rows.block, rows.effect, color=color, label=role.upper() if role != "pos" else "position"
            )
            axes.fill_between(rows.block, rows.low, rows.high, color=color, alpha=0.25, linewidth=0)
        axes.axhline(0, color="black", linewidth=0.5)
        axes.set(title=f"at {position}", xlabel="block", ylim=(-2.2, 0.8))
    figure.axes[0].set_ylabel("change of LD / LD")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--n", type=int, default=400)
    parser.add_argument("--budget", default="standard")
    parser.add_argument("--blocks", type=int, nargs="*", help="Default: all.")
    parser.add_argument("--positions", nargs="*", default=list(NamesSpec.positions))
    parser.add_argument("--out", type=Path, default=Path("results/smollm2-135m"))
    chosen = parser.parse_args()
    model = load_model(chosen.model, device=chosen.device)
    with exact(model.device):
        drawn = draw_prompts(model, chosen.budget, 0, chosen.n)
        blocks = chosen.blocks or list(range(model.n_layers))
        rows = []
        for row in effects(model, *drawn, blocks, chosen.positions):
            rows.append(row)
            print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    table = pd.DataFrame(rows)
    chosen.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(chosen.out / "sites.csv", index=False, float_format="%.5f")
    draw_figure(
        table, chosen.out / "sites.png", f"A source's residual patched in: {model.name}, {chosen.n} prompts"
    )


if __name__ == "__main__":
    main()
