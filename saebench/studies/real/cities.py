"""Where a city's facts can be moved in RAVEL: every block × position, by patching the source's activation.

`python -m saebench.studies.real.cities --out results/smollm2-135m` writes `cities.csv` and a figure. Prompts and
sources are those of `select`, which no score is measured on. *Cause*: the prompts that ask for the
attribute whose answer becomes the source's; *kept*: those that ask for another one and keep their own. No
edit has cause 0 and keeps all, since only prompts that are answered rightly are asked.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool
from torch import Tensor

from saebench.kinds.base import Settings
from saebench.kinds.entities.asking import SIZES, answers_of, ask, best_asked, known
from saebench.kinds.entities.facts import Facts
from saebench.kinds.entities.prompts import Prompt, draw_prompts
from saebench.kinds.entities.sections import draw_source, write_source
from saebench.models.devices import exact, few_threads
from saebench.models.language_model import LanguageModel
from saebench.models.loading import load_model
from saebench.patching import PatchedReadout, Placement, capture
from saebench.scoring.control import average
from saebench.scoring.estimates import Bootstrap, Estimate
from saebench.site import Site
from saebench.spec import EntitiesSpec, load_task

SPLIT = "select"
POSITIONS = EntitiesSpec.positions


class Drawn(NamedTuple):
    """Prompts that are answered rightly, and for each attribute a source of every prompt."""

    facts: Facts
    prompts: list[Prompt]
    sources: dict[str, list[Prompt]]
    expected: dict[str, Tensor]
    """The answer after a perfect edit of each attribute."""

    @property
    def query(self) -> np.ndarray:
        return np.array([p.query for p in self.prompts])


def draw(model: LanguageModel, budget: str, seed: int) -> Drawn:
    """The prompts of `select` as an evaluation asks them, each with sources for all attributes."""
    task, settings, size = load_task("ravel"), Settings(budget, seed), SIZES.of(budget)
    site = Site(f"blocks.{model.n_layers - 1}.hook_resid_post", "end")
    facts = best_asked(task, model, site, size, settings)
    entities, rng = facts.entities[SPLIT], np.random.default_rng([seed, 23])
    asked = draw_prompts(entities, facts.phrases[SPLIT], size.select, model, rng)
    found = ask(asked, entities, facts, model, site)
    kept = found.kept
    answer, query = answers_of(kept, entities, facts), torch.tensor([p.query for p in kept])
    sources, expected = {}, {}
    for at, attribute in enumerate(facts.attributes):
        pool = known(found, at)
        drawn = [draw_source(at, entities[p.entity], pool, entities, rng) for p in kept]
        sources[attribute.name] = [
            write_source(p, i, SPLIT, facts, model, site, rng) for p, i in zip(kept, drawn, strict=True)
        ]
        wanted = facts.answers[at][torch.tensor([entities[i].labels[at] for i in drawn])]
        expected[attribute.name] = torch.where(query == at, wanted, answer)
    return Drawn(facts, kept, sources, expected)


def name_length(prompt: Prompt, facts: Facts, model: LanguageModel) -> int:
    """How many tokens the city's name has in a prompt."""
    template = facts.templates[prompt.template]
    return prompt.name_end + 1 - len(model.tokens(template.partition("{")[0].rstrip()))


Hits = dict[str, Bool[np.ndarray, "n"]]


def patched(
    model: LanguageModel, drawn: Drawn, blocks: Sequence[int], positions: Sequence[str]
) -> Iterator[tuple[int, str, Hits]]:
    """For every block and position: by attribute, which prompts give the wanted answer with its source patched in."""
    tokens = [p.tokens for p in drawn.prompts]
    places = {(block, name): _place(drawn.prompts, block, name) for name in positions for block in blocks}
    there = {
        name: capture(model, [p.tokens for p in listed], {key: _place(listed, *key) for key in places})
        for name, listed in drawn.sources.items()
    }
    # only the arg-max is read, so the two tokens that are compared may be any
    blank = torch.zeros(len(tokens), dtype=torch.long)
    way = None
    for (block, position), place in places.items():
        readout = PatchedReadout(model, tokens, [place], blank, blank, way=way)
        # the residual stream everywhere: what holds at one block does at the others
        way = readout.way
        done = readout.run({name: acts[block, position] for name, acts in there.items()})
        tops = {name: drawn.facts.canonical[run.top.cpu()] for name, run in done.items()}
        hits = {name: (top == drawn.expected[name]).numpy(force=True) for name, top in tops.items()}
        yield block, position, hits
        readout.forget()


def _place(prompts: Sequence[Prompt], block: int, position: str) -> Placement:
    return Placement(f"blocks.{block}.hook_resid_pre", torch.tensor([p.at(position) for p in prompts]))


def summaries(drawn: Drawn, hits: Hits, short: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """Cause and kept of every attribute and their means, over cities; cause also where both names are one token."""
    boot = Bootstrap(np.array([p.entity for p in drawn.prompts]))
    asks = {a.name: drawn.query == at for at, a in enumerate(drawn.facts.attributes)}
    shares = {
        "cause": {name: share(boot, hit, asks[name]) for name, hit in hits.items()},
        "kept": {name: share(boot, hit, ~asks[name]) for name, hit in hits.items()},
        "cause_one_token": {name: share(boot, hit, asks[name] & short[name]) for name, hit in hits.items()},
    }
    for listed in (*([name] for name in asks), list(asks)):
        row: dict[str, Any] = {"attribute": listed[0] if len(listed) == 1 else "all"}
        for label, by_name in shares.items():
            value = average([by_name[name] for name in listed])
            low, high = value.interval()
            row |= {label: float(value), f"{label}_low": low, f"{label}_high": high}
        row["n"] = sum(int(asks[name].sum()) for name in listed)
        row["n_one_token"] = sum(int((asks[name] & short[name]).sum()) for name in listed)
        yield row


def share(boot: Bootstrap, hit: np.ndarray, where: np.ndarray) -> Estimate:
    """Share of hits among marked prompts."""
    value = boot.mean(hit, where)
    assert isinstance(value, Estimate), "a question for every attribute was answered rightly"
    return value


def draw_figure(table: pd.DataFrame, path: Path, title: str) -> None:
    """Cause and kept over blocks, one panel a position, with intervals."""
    from matplotlib.figure import Figure

    positions = list(table.position.unique())
    figure = Figure(figsize=(4.2 * len(positions), 3), layout="constrained")
    colors = dict(zip(table.attribute.unique(), ("#0072b2", "#d55e00", "#009e73", "black"), strict=False))
    for number, position in enumerate(positions, 1):
        axes = figure.add_subplot(1, len(positions), number)
        for (name, color), (score, style) in product(colors.items(), (("cause", "-"), ("kept", "--"))):
            rows = table.loc[(table.position == position) & (table.attribute == name)].sort_values(by="block")
            axes.plot(rows.block, rows[score], style, color=color, label=f"{name}, {score}")
            if score == "cause" and name == "all":
                low, high = rows[f"{score}_low"], rows[f"{score}_high"]
                axes.fill_between(rows.block, low, high, color=color, alpha=0.15, linewidth=0)
        axes.set(title=f"at {position}", xlabel="block", ylim=(0, 1))
    figure.axes[0].set_ylabel("share of prompts")
    figure.axes[-1].legend(frameon=False, fontsize=7)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--budget", default="standard")
    parser.add_argument("--blocks", type=int, nargs="*", help="Default: all.")
    parser.add_argument("--positions", nargs="*", default=list(POSITIONS))
    parser.add_argument("--out", type=Path, default=Path("results/smollm2-135m"))
    chosen = parser.parse_args()
    model = load_model(chosen.model, device=chosen.device, dtype=chosen.dtype)
    rows = []
    with exact(model.device), few_threads(model.d_model):
        drawn = draw(model, chosen.budget, 0)
        brief = np.array([name_length(p, drawn.facts, model) == 1 for p in drawn.prompts])
        short = {
            name: brief & [name_length(p, drawn.facts, model) == 1 for p in listed]
            for name, listed in drawn.sources.items()
        }
        blocks = chosen.blocks or range(model.n_layers)
        for block, position, hits in patched(model, drawn, blocks, chosen.positions):
            for row in summaries(drawn, hits, short):
                rows.append({"block": block, "position": position, **row})
                print(
                    {k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True
                )
    table = pd.DataFrame(rows)
    chosen.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(chosen.out / "cities.csv", index=False, float_format="%.5f")
    count = f"{len(drawn.prompts)} prompts of {SPLIT}"
    draw_figure(table, chosen.out / "cities.png", f"A source's residual patched in: {model.name}, {count}")


if __name__ == "__main__":
    main()
