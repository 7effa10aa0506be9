"""What goes wrong, and when: `python -m saebench.studies.curves [CURVE…]`.

One function a curve: what one parameter of a family does to one phenomenon. Rows are written to
`<out>/<curve>.csv`, figures to `<out>/<curve>.png`. Where architectures are compared, intervals are
over seeds: one SAE supports a statement about itself alone.

Every point is trained with several seeds, from random directions and from the true features: what
both starts end in is the objective's, what only the random one ends in is the optimiser's.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pandas as pd
import torch

from saebench.measures import recovery as rec
from saebench.studies.calibration import levels
from saebench.studies.figures import draw
from saebench.studies.rows import Row, paired, write
from saebench.studies.scene import Scene, cells, explained, generator, top
from saebench.synthetic.training import Recipe, fit

SAMPLES = 20_000
SEEDS = 3
MANY_SEEDS = 12
"""Where architectures are compared: the sample is the SAE seed."""
ZIPF = {
    "features": 256,
    "d_in": 64,
    "roots": 8,
    "exponent": 1.5,
    "max_prob": 0.5,
    "min_prob": 1e-5,
    "rank": 0,
}
START = {False: "random", True: "truth"}


def occlusion() -> Iterator[Row]:
    """Coverage of the strong and the weak group against their norm ratio."""
    for ratio in (1.0, 1.5, 2.0, 3.0, 4.0):
        scene = Scene(generator("occlusion", ratio=ratio), budget="standard")
        for from_truth, seed in product(START, range(SEEDS)):
            recipe = Recipe("topk", 256, 4, seed, samples=600_000, lr=3e-3, from_truth=from_truth)
            found = scene.read(fit(scene.made, recipe), "interpretability")
            row: Row = {"ratio": ratio, "start": START[from_truth], "seed": seed}
            for group in ("strong", "weak"):
                row |= cells(found["coverage@0.5", group], group)
            for name in ("explained_variance", "matched_cosine"):
                row |= cells(found[name, ""], name)
            yield row


def hedging() -> Iterator[Row]:
    """Explained variance and hedging against ρ, with k below, at and above the true L0 of 4."""
    for rho in (0.0, 0.2, 0.4):
        made = generator("correlated", rho=[rho], spread=0.0)
        sample = made.sample(SAMPLES, 5)
        x, D = made.acts(sample), made.D
        for k in (2, 4, 8):
            true = explained(x, top(sample.codes, k) @ D)
            for from_truth, seed in product(START, range(SEEDS)):
                recipe = Recipe("topk", 20, k, seed, samples=300_000, lr=3e-3, from_truth=from_truth)
                sae = fit(made, recipe)
                with torch.no_grad():
                    seen = explained(x, sae.encode(x) @ sae.W_dec)
                matching = rec.match(rec.cosines(D, sae.W_dec.detach()))
                # with one ρ for all pairs, hedging is the mean lean towards the other features
                lean = rec.mixing(D, sae.W_dec.detach(), matching).mean()
                yield {
                    "rho": rho,
                    "k": k,
                    "start": START[from_truth],
                    "seed": seed,
                    "explained_variance": seen,
                    "truth_explained_variance": true,
                    "hedging": float(lean),
                }


def absorption() -> Iterator[Row]:
    """Absorption of three architectures at equal L0 against P(child | parent)."""
    for given in (0.2, 0.4, 0.6, 0.8):
        made = generator("hierarchical", child_given_parent=given)
        scene, k = Scene(made, budget="full"), made.true_l0()
        plain = Recipe("standard", made.n_features, 1.0, samples=300_000, lr=3e-3)
        (found_l1,) = levels(made, plain, [k])
        sparsity = {"batchtopk": k, "matryoshka": k, "standard": found_l1.sparsity}
        seeds = MANY_SEEDS if given >= 0.6 else SEEDS
        runs = [(False, seed) for seed in range(seeds)] + [(True, seed) for seed in range(SEEDS)]
        for (architecture, value), (from_truth, seed) in product(sparsity.items(), runs):
            recipe = Recipe(
                architecture, made.n_features, value, seed, samples=300_000, lr=3e-3, from_truth=from_truth
            )
            sae = fit(made, recipe)
            found = scene.read(sae)
            row: Row = {
                "child_given_parent": given,
                "architecture": architecture,
                "start": START[from_truth],
                "seed": seed,
                "l0": scene.l0(sae),
                "true_l0": k,
            }
            for name in ("absorption", "matched_cosine", "explained_variance", "feature_f1"):
                row[name] = float(found[name, ""])
            yield row


def zipf() -> Iterator[Row]:
    """A hierarchy with Zipf firing: most variance explained, most features not recovered."""
    scene = Scene(generator("scale-16th", **ZIPF), budget="full")
    names = (
        "explained_variance",
        "matched_cosine",
        "matched_cosine_calibrated",
        "matched_cosine_frequent",
        "frequent_features",
        "recovered@0.8",
    )
    for from_truth, seed in product(START, range(SEEDS)):
        recipe = Recipe("topk", 256, 8, seed, samples=1_000_000, from_truth=from_truth)
        found = scene.read(fit(scene.made, recipe))
        row: Row = {"start": START[from_truth], "seed": seed, "true_l0": scene.made.true_l0()}
        for name in names:
            row |= cells(found[name, ""], name)
        yield row


def splitting() -> Iterator[Row]:
    """n90 of the sign of a wide binary feature against sparsity, topk and L1 at the same L0s."""
    scene = Scene(generator("splitting"), budget="standard")
    wanted = (1, 4, 16)
    plain = Recipe("standard", 100, 1.0, samples=600_000, lr=3e-3)
    found_l1 = levels(scene.made, plain, wanted)
    settings = [("topk", k, float(k)) for k in wanted]
    settings += [("standard", round(level.wanted), level.sparsity) for level in found_l1]
    for (architecture, l0, sparsity), from_truth in product(settings, START):
        for seed in range(SEEDS):
            recipe = Recipe(
                architecture, 100, sparsity, seed, samples=600_000, lr=3e-3, from_truth=from_truth
            )
            yield {"architecture": architecture, "wanted_l0": l0} | _split(scene, recipe)


def splitting_noise() -> Iterator[Row]:
    """The same against the noise, whose norm is ten times its value (‖μ‖ is 2): topk with k = 1, and L1.

    L1 weights are given, not searched: latents of the same direction share a code at no cost, so that
    an L0 of 1 is found only where the penalty switches off nearly everything.
    """
    for noise in (0.1, 0.25, 0.5, 1.0):
        scene = Scene(generator("splitting", noise=noise), budget="standard")
        for architecture, value in (("topk", 1.0), ("standard", 2.0), ("standard", 4.0), ("standard", 8.0)):
            for seed in range(SEEDS):
                recipe = Recipe(architecture, 100, value, seed, samples=300_000, lr=3e-3)
                yield {"noise": noise, "architecture": architecture} | _split(scene, recipe)


def _split(scene: Scene, recipe: Recipe) -> Row:
    """How many latents take a sign, and what the SAE paid by its own objective."""
    sae = fit(scene.made, recipe)
    found = scene.read(sae, "oversplitting")
    l1 = recipe.sparsity if recipe.architecture == "standard" else 0.0
    row: Row = {
        "sparsity": recipe.sparsity,
        "start": START[recipe.from_truth],
        "seed": recipe.seed,
        "l0": scene.l0(sae),
        "objective": scene.objective(sae, l1),
        "nearest_cosine": float(found["mmcs_recall", ""]),
    }
    row |= cells(found["inverse_n90", "sign"], "inverse_n90")
    for name in ("detected", "n90", "union_f1_star"):
        row[name] = float(found[name, "sign"]) if (name, "sign") in found else None
    return row


def composition() -> Iterator[Row]:
    """Composition against how often one pair is boosted: latents for the parts, one more, one a pair."""
    for boost in (0.0, 0.2, 0.4, 0.6):
        scene = Scene(generator("composed", boost=boost))
        pair = scene.made.D[0] + scene.made.D[10]
        for (width, k), from_truth in product(((20, 2), (21, 2), (100, 1)), START):
            for seed in range(SEEDS):
                recipe = Recipe("topk", width, k, seed, samples=300_000, lr=3e-3, from_truth=from_truth)
                sae = fit(scene.made, recipe)
                found = scene.read(sae)
                near = rec.cosines(pair[None], sae.W_dec.detach()).max()
                row: Row = {"boost": boost, "width": width, "k": k, "start": START[from_truth], "seed": seed}
                for name in ("composition", "pair_composition"):
                    row |= cells(found[name, ""], name)
                yield row | {"boosted_pair_cosine": float(near)}


CURVES: dict[str, Callable[[], Iterator[Row]]] = {
    "occlusion": occlusion,
    "hedging": hedging,
    "absorption": absorption,
    "zipf": zipf,
    "splitting": splitting,
    "splitting_noise": splitting_noise,
    "composition": composition,
}


def make(name: str, out: Path) -> None:
    """Trains one curve's SAEs; writes its table, and draws it."""
    rows = []
    for row in CURVES[name]():
        rows.append(row)
        print(name, row, file=sys.stderr, flush=True)
    write(rows, out / f"{name}.csv")
    if name == "absorption":
        found = pd.DataFrame([row for row in rows if row["start"] == "random"])
        differences = paired(found, "child_given_parent", name, "matryoshka")
        write(list(differences), out / "absorption_paired.csv")
    draw(name, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("curves", nargs="*", help=f"of {', '.join(CURVES)}; default: all")
    parser.add_argument("--out", type=Path, default=Path("results") / "synthetic")
    parser.add_argument("--figures", action="store_true", help="only draw what has been measured")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for name in asked.curves or CURVES:
        if asked.figures:
            draw(name, asked.out)
        else:
            make(name, asked.out)


if __name__ == "__main__":
    main()
