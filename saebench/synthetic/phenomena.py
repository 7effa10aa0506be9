"""Curves of what goes wrong, and when: `python -m saebench.synthetic.phenomena [CURVE…]`.

Each curve changes one parameter of a family, trains SAEs at every point and reads one phenomenon.
Rows are written to `<out>/<curve>.csv`, figures to `<out>/<curve>.png`. Where several seeds are
trained, intervals are over seeds: one SAE supports a statement about itself alone.
"""

import argparse
import csv
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saebench.axes import interpretability, oversplitting, recovery
from saebench.axes.base import Subject, make_bench
from saebench.dictionaries.objects import from_object
from saebench.dictionaries.supervised import fit_supervised
from saebench.kinds.base import Settings
from saebench.kinds.synthetic import build
from saebench.outcomes import Outcomes
from saebench.scoring import score
from saebench.site import Site
from saebench.spec import load_task
from saebench.stats import Estimate
from saebench.synthetic import recovery as rec
from saebench.synthetic.families import make_generator
from saebench.synthetic.generator import Generator
from saebench.synthetic.oracle import Oracle
from saebench.synthetic.training import Recipe, fit

Row = dict[str, Any]
SAMPLES = 20_000
ZIPF = {"features": 256, "d_in": 64, "roots": 8, "exponent": 1.5, "max_prob": 0.5, "min_prob": 1e-5,
        "rank": 0}  # fmt: skip


def generator(family: str, **overrides: Any) -> Generator:
    return make_generator(load_task(f"synthetic/{family}"), overrides)


class Scene:
    """A generator with its cross-section, on which SAEs are measured."""

    def __init__(self, made: Generator, seed: int = 0, budget: str = "quick") -> None:
        self.made = made
        task = load_task("synthetic/independent")
        self.section = build(
            task, made, Site("synthetic", "sample"), Settings(budget, seed)
        ).section
        truth = self.section.truth
        assert isinstance(truth, Oracle)
        self.bench = make_bench(self.section, truth, fit_supervised(self.section))

    def read(self, sae: Any, *axes: Any) -> dict[tuple[str, str], Estimate]:
        """Estimates by name and attribute of the recovery scores and of the axes given."""
        out = Outcomes(self.bench.outcomes.cluster, self.bench.outcomes.attributes)
        out.merge(self.bench.outcomes)
        subject = Subject(from_object(sae), self.section)
        for axis in (*axes, recovery):
            axis.measure(subject, self.bench, out, 0, lambda _: None)
        return {
            (e.name, e.attribute or ""): e.value
            for e in score(out).entries
            if isinstance(e.value, Estimate)
        }


def cells(estimate: Estimate, name: str) -> Row:
    low, high = estimate.interval()
    return {name: float(estimate), f"{name}_low": low, f"{name}_high": high}


def occlusion() -> Iterator[Row]:
    """Coverage of the strong and the weak group against their norm ratio, from random and from truth."""
    for ratio in (1.0, 1.5, 2.0, 3.0, 4.0):
        scene = Scene(generator("occlusion", ratio=ratio), budget="standard")
        for from_truth in (False, True):
            recipe = Recipe("topk", 256, 4, samples=600_000, lr=3e-3, from_truth=from_truth)
            found = scene.read(fit(scene.made, recipe), interpretability)
            row = {"ratio": ratio, "start": "truth" if from_truth else "random"}
            for group in ("strong", "weak"):
                row |= cells(found["coverage@0.5", group], group)
            row |= cells(found["explained_variance", ""], "explained_variance")
            yield row | cells(found["matched_cosine", ""], "matched_cosine")


def hedging() -> Iterator[Row]:
    """Explained variance and hedging against ρ, with k below, at and above the true L0 of 4."""
    for rho in (0.0, 0.2, 0.4):
        made = generator("correlated", rho=[rho], spread=0.0)
        sample = made.sample(SAMPLES, 5)
        x, D = made.acts(sample), made.D
        for k in (2, 4, 8):
            kept = top(sample.codes, k)
            true = explained(x, kept @ D)
            for seed in range(3):
                recipe = Recipe("topk", 20, k, seed, samples=300_000, lr=3e-3, from_truth=True)
                sae = fit(made, recipe)
                with torch.no_grad():
                    seen = explained(x, sae.encode(x) @ sae.W_dec)
                matching = rec.match(rec.cosines(D, sae.W_dec.detach()))
                # with one ρ for all pairs, hedging is the mean lean towards the other features
                lean = rec.mixing(D, sae.W_dec.detach(), matching).mean()
                yield {"rho": rho, "k": k, "seed": seed, "explained_variance": seen,
                       "truth_explained_variance": true, "hedging": float(lean)}  # fmt: skip


def top(codes: Tensor, k: int) -> Tensor:
    """The k largest codes of every row, the rest 0."""
    value, index = codes.topk(k, 1)
    return torch.zeros_like(codes).scatter(1, index, value)


def explained(x: Tensor, without_bias: Tensor) -> float:
    """Explained variance with the bias refitted: the mean error costs nothing."""
    rest = (x - without_bias).double()
    spread = (x.double() - x.double().mean(0)).square().sum()
    return float(1 - (rest - rest.mean(0)).square().sum() / spread)


def equal_l0(made: Generator, wanted: float, width: int, samples: int) -> float:
    """The L1 weight whose SAE has the wanted L0, by bisection on a logarithmic scale."""
    x = made.acts(made.sample(4000, 6))
    low, high = np.log(0.02), np.log(20.0)
    for _ in range(6):
        middle = (low + high) / 2
        sae = fit(made, Recipe("standard", width, float(np.exp(middle)), samples=samples, lr=3e-3))
        with torch.no_grad():
            l0 = float((sae.encode(x) != 0).sum(1).float().mean())
        low, high = (middle, high) if l0 > wanted else (low, middle)
    return float(np.exp((low + high) / 2))


def absorption() -> Iterator[Row]:
    """Absorption of three architectures at equal L0, six seeds, and against P(child | parent)."""
    for given in (0.2, 0.4, 0.6, 0.8):
        made = generator("hierarchical", child_given_parent=given)
        scene = Scene(made, budget="full")
        k, width, samples = made.true_l0(), made.n_features, 300_000
        sparsity = {"batchtopk": k, "matryoshka": k}
        if given >= 0.6:
            sparsity["standard"] = equal_l0(made, k, width, samples)
        for architecture, value in sparsity.items():
            for seed in range(6 if given >= 0.6 else 2):
                sae = fit(made, Recipe(architecture, width, value, seed, samples=samples, lr=3e-3))
                found = scene.read(sae)
                with torch.no_grad():
                    l0 = (sae.encode(scene.section.test.acts) != 0).sum(1).float().mean()
                row = {"child_given_parent": given, "architecture": architecture, "seed": seed}
                row |= {"l0": float(l0), "true_l0": k}
                for name in ("absorption", "matched_cosine", "explained_variance", "feature_f1"):
                    row[name] = float(found[name, ""])
                yield row


def zipf() -> Iterator[Row]:
    """A hierarchy with Zipf firing: most variance explained, most features not recovered."""
    scene = Scene(generator("scale-16th", **ZIPF), budget="full")
    sae = fit(scene.made, Recipe("topk", 256, 8, samples=1_000_000, lr=1e-3))
    found = scene.read(sae)
    row: Row = {"true_l0": scene.made.true_l0()}
    names = ("explained_variance", "matched_cosine", "matched_cosine_calibrated",
             "matched_cosine_frequent", "frequent_features", "recovered@0.8")  # fmt: skip
    for name in names:
        row |= cells(found[name, ""], name)
    yield row


def splitting() -> Iterator[Row]:
    """n90 of the sign of a wide binary feature against sparsity."""
    scene = Scene(generator("splitting"), budget="standard")
    settings = [("topk", k) for k in (1, 4, 16)] + [("standard", v) for v in (4.0, 8.0, 16.0)]
    for architecture, sparsity in settings:
        sae = fit(scene.made, Recipe(architecture, 100, sparsity, samples=600_000, lr=3e-3))
        found = scene.read(sae, oversplitting)
        row: Row = {"architecture": architecture, "sparsity": sparsity}
        with torch.no_grad():
            row["l0"] = float((sae.encode(scene.section.test.acts) != 0).sum(1).float().mean())
        row |= cells(found["inverse_n90", "sign"], "inverse_n90")
        row["detected"] = float(found["detected", "sign"])
        if ("n90", "sign") in found:
            row["n90"] = float(found["n90", "sign"])
            row["union_f1_star"] = float(found["union_f1_star", "sign"])
        yield row


def composition() -> Iterator[Row]:
    """Composition against how often one pair is boosted; width for parts, and for all pairs."""
    for boost in (0.0, 0.2, 0.4, 0.6):
        scene = Scene(generator("composed", boost=boost))
        for width, k in ((20, 2), (100, 1)):
            for seed in range(2):
                sae = fit(scene.made, Recipe("topk", width, k, seed, samples=300_000, lr=3e-3))
                found = scene.read(sae)
                pair = scene.made.D[0] + scene.made.D[10]
                near = rec.cosines(pair[None], sae.W_dec.detach()).max()
                row: Row = {"boost": boost, "width": width, "k": k, "seed": seed}
                row |= cells(found["composition", ""], "composition")
                yield row | {"boosted_pair_cosine": float(near)}


CURVES: dict[str, Callable[[], Iterator[Row]]] = {
    "occlusion": occlusion,
    "hedging": hedging,
    "absorption": absorption,
    "zipf": zipf,
    "splitting": splitting,
    "composition": composition,
}


def write(rows: list[Row], path: Path) -> None:
    """Rows as CSV, columns in order of first use; whoever stops this finds the old file or the new."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    part = path.with_name(f"{path.name}.part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )
    part.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("curves", nargs="*", help=f"of {', '.join(CURVES)}; default: all")
    parser.add_argument("--out", type=Path, default=Path("results") / "synthetic")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    import pandas as pd

    from saebench.synthetic.figures import draw
    from saebench.synthetic.seeds import paired

    for name in asked.curves or CURVES:
        rows = []
        for row in CURVES[name]():
            rows.append(row)
            print(name, row, file=sys.stderr, flush=True)
        write(rows, asked.out / f"{name}.csv")
        if name == "absorption":
            differences = paired(pd.DataFrame(rows), "child_given_parent", name, "matryoshka")
            write(list(differences), asked.out / "absorption_paired.csv")
        draw(name, asked.out)


if __name__ == "__main__":
    main()
