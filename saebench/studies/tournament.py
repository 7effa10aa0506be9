"""Does a tournament keep the best? 40 SAEs, 20 seeds of prompts.

`python -m saebench.studies.tournament [AXIS [KEEP]]` trains SAEs on `synthetic/independent` at several lengths,
sparsities and seeds, and measures the axis once on the 10,000 samples of `full`. A seed then deals these samples anew:
the first 1,000 are the stage `quick`, the first 4,000 `standard`, all of them `full`, whose best are the truth. (A real
stage also makes its choices on samples of its own; here they stay.) Writes what the SAEs scored,
`results/stopping/tournament-AXIS-saes.csv`, and the tournaments, `tournament-AXIS-bestKEEP.csv`.
"""

import csv
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from saebench.axes.bench import make_bench
from saebench.dictionaries.objects import from_object
from saebench.dictionaries.supervised import fit_supervised
from saebench.kinds import KINDS
from saebench.kinds.base import Settings
from saebench.records.outcomes import Outcomes
from saebench.scoring.axes import EVERY
from saebench.scoring.base import Context
from saebench.scoring.estimates import Bootstrap, Estimate
from saebench.scoring.stopping import credibly_better, out
from saebench.site import Site
from saebench.spec import load_task
from saebench.sweep.tournament import stages
from saebench.synthetic.training import Recipe, fit

TASK = "synthetic/independent"
FOLDER = Path(__file__).parents[2] / "results" / "stopping"
LENGTHS = (5_000, 10_000, 20_000, 40_000, 80_000)
SPARSITIES = (2, 4, 6, 10)
TRAINED_SEEDS = (0, 1)
SEEDS, N_RESAMPLES = 20, 500
BUDGET = "full"


class Contestant(NamedTuple):
    """An SAE with what it did on every sample."""

    name: str
    outcomes: Outcomes


class Played(NamedTuple):
    """A tournament among all of them."""

    seed: int
    left: tuple[int, ...]
    """After every stage but the last."""
    kept: int
    """Of the true best, those that were scored to the end."""
    best_kept: bool
    saved: float
    """Share of the samples that scoring all of them at the full budget takes."""


def contestants(axis: str) -> list[Contestant]:
    """40 SAEs, trained, and measured on an axis."""
    task = load_task(TASK)
    kind = KINDS[task.spec.kind]
    model = kind.generator(task, "cpu")
    built = kind.build(task, model, Site.parse(task.spec.sites["synthetic"][0]), Settings(BUDGET))
    section = built.section
    assert section.truth is not None, "synthetic tasks bring their truth"
    bench = make_bench(section, section.truth, fit_supervised(section), facts=built.facts, axes=(axis,))
    found = []
    for recipe in recipes():
        sae = fit(model, recipe)
        name = f"k{recipe.sparsity:g}-{recipe.samples}-seed{recipe.seed}"
        found.append(Contestant(name, bench.measure(from_object(sae))))
        print(f"{time.strftime('%T')} {name}", file=sys.stderr)
    return found


def recipes() -> Iterator[Recipe]:
    for samples in LENGTHS:
        for k in SPARSITIES:
            for seed in TRAINED_SEEDS:
                yield Recipe("topk", 64, k, seed, samples, batch=256)


def headlines(
    axis: str, found: Sequence[Contestant], rows: Int[np.ndarray, "n"], seed: int
) -> list[Estimate | None]:
    """The axis's headline of everybody on some of the samples, over the same resamples; None if undefined."""
    boot, scores = Bootstrap(np.arange(len(rows)), n_resamples=N_RESAMPLES, seed=seed), []
    for one in found:
        columns = {key: values[rows] for key, values in one.outcomes.columns.items() if key.split == "test"}
        some = replace(one.outcomes, cluster={"test": np.arange(len(rows))}, columns=columns)
        headline, _ = EVERY[axis].score(Context(some, {"test": boot}))
        value = headline.normalized if headline else None
        scores.append(value if isinstance(value, Estimate) else None)
    return scores


def play(axis: str, found: Sequence[Contestant], truth: set[str], sizes: Sequence[int], seed: int) -> Played:
    """A tournament whose stages are so many samples, dealt by a seed."""
    order = np.random.default_rng(seed).permutation(sizes[-1])
    left, took, counts = list(found), 0, []
    for n in sizes[:-1]:
        took += n * len(left)
        scores = headlines(axis, left, order[:n], seed)
        judged = [at for at, score in enumerate(scores) if score is not None]
        known = [score for score in scores if score is not None]
        values, draws = np.array([float(s) for s in known]), np.stack([s.draws for s in known], axis=1)
        gone = out(credibly_better(values, draws, n, len(sizes)), len(truth))
        dropped = {judged[at] for at in np.flatnonzero(gone).tolist()}
        left = [one for at, one in enumerate(left) if at not in dropped]
        counts.append(len(left))
    took += sizes[-1] * len(left)
    kept = len(truth & {one.name for one in left})
    return Played(seed, tuple(counts), kept, kept == len(truth), 1 - took / (sizes[-1] * len(found)))


def best(scores: Sequence[float | None], names: Sequence[str], keep: int) -> set[str]:
    """Names of those with the highest scores."""
    known = [(score, name) for score, name in zip(scores, names, strict=True) if score is not None]
    return {name for _, name in sorted(known, reverse=True)[:keep]}


def main(axis: str = "approximation", keep: str = "5") -> None:
    found = contestants(axis)
    kind = KINDS[load_task(TASK).spec.kind]
    assert kind.sizes is not None, "its budgets are known"
    sizes = [kind.sizes.of(budget).test for budget in stages(BUDGET)]
    whole = headlines(axis, found, np.arange(sizes[-1]), 0)
    scores = [None if score is None else float(score) for score in whole]
    truth = best(scores, [one.name for one in found], int(keep))
    shown = ["" if score is None else f"{score:.4f}" for score in scores]
    rows = [(one.name, score) for one, score in zip(found, shown, strict=True)]
    _write(f"tournament-{axis}-saes.csv", ("sae", axis), rows)
    played = [play(axis, found, truth, sizes, seed) for seed in range(SEEDS)]
    left = [f"left_after_{budget}" for budget in stages(BUDGET)[:-1]]
    rounds = [(p.seed, *p.left, p.kept, p.best_kept, f"{p.saved:.3f}") for p in played]
    _write(f"tournament-{axis}-best{keep}.csv", ("seed", *left, "kept", "best_kept", "saved"), rounds)
    n, saved = sum(p.best_kept for p in played), np.mean([p.saved for p in played])
    print(f"{axis}: the best {keep} kept in {n} of {SEEDS}; {saved:.0%} of the samples saved")


def _write(name: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
