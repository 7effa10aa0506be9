"""SAEs of every architecture on every small family: `python -m saebench.synthetic.baselines`.

One CSV row a trained SAE, with the five axes, the recovery scores and their intervals. Rows that
stand in the file already are kept as long as the task's digest is the same, so that the run can be
stopped and resumed.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from saebench.contestants import from_object
from saebench.evaluation import Arena, Options, load_subject
from saebench.result import Result
from saebench.spec import load_task
from saebench.synthetic.phenomena import Row, write
from saebench.synthetic.training import DIGEST_KEY, TASK_KEY, Recipe, fit

FAMILIES = ("independent", "correlated", "hierarchical", "occlusion", "splitting", "composed")
ARCHITECTURES = ("standard", "gated", "topk", "batchtopk", "jumprelu", "matryoshka")
L1, L0 = (4.0, 1.0, 2.0), (1.0, 0.5, 2.0)
SHARES = (1.0, 0.5, 2.0)
"""Of the true L0, for architectures with a k; the first of each triple is run first."""
SAMPLES = 300_000
_NAMES = ("l0", "fvu", "matched_cosine", "matched_cosine_calibrated", "mmcs_recall", "mmcs_precision",
          "recovered@0.8", "feature_f1", "uniqueness", "dead_latents", "shrinkage",
          "explained_variance", "absorption", "leakage", "hedging", "composition")  # fmt: skip


def recipes(true_l0: float, width: int, level: int, seed: int) -> Iterator[Recipe]:
    """One recipe an architecture at one of three levels of sparsity."""
    k = max(1, round(true_l0 * SHARES[level]))
    for name in ARCHITECTURES:
        sparsity = {"standard": L1, "gated": L1, "jumprelu": L0}.get(name)
        value = sparsity[level] if sparsity else float(min(k, width))
        yield Recipe(name, width, value, seed, samples=SAMPLES, lr=3e-3)


def row_of(result: Result, recipe: Recipe) -> Row:
    """The numbers of one result on one line."""
    row: Row = {
        "task": result.task.name, "task_sha256": result.task.sha256[:12],
        "architecture": recipe.architecture, "sparsity": recipe.sparsity, "seed": recipe.seed,
        "width": recipe.width,
    }  # fmt: skip
    for name, axis in result.axes.items():
        row |= {name: axis.normalized}
        row |= dict(zip((f"{name}_low", f"{name}_high"), axis.ci or (None, None), strict=True))
    for name in _NAMES:
        score = next((s for s in result.scores if s.name == name and s.edit is None), None)
        low, high = (score and score.ci) or (None, None)
        row |= {name: score and score.value}
        if score and score.axis == "recovery":
            row |= {f"{name}_low": low, f"{name}_high": high}
    return row


def key(row: Row) -> tuple[str, ...]:
    """What makes two rows the same SAE."""
    names = ("task", "task_sha256", "architecture", "sparsity", "seed", "width")
    return tuple(f"{v:g}" if isinstance(v := row[n], float) else str(v) for n in names)


def run(path: Path, families: list[str], levels: int, seeds: int) -> None:
    """Trains and scores what is not in the file yet; writes after every SAE."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    rows: list[Row] = list(csv.DictReader(text.splitlines()))
    known = {key(row) for row in rows}
    arenas: dict[str, Arena] = {}
    for level in range(levels):
        for seed in range(seeds):
            for name in families:
                if name not in arenas:
                    task = load_task(f"synthetic/{name}")
                    arenas[name] = Arena(task, load_subject(task), Options())
                rows += _family(arenas[name], level, seed, known, path, rows)


def _family(
    arena: Arena, level: int, seed: int, known: set[tuple[str, ...]], path: Path, rows: list[Row]
) -> list[Row]:
    made, task, found = arena.model, arena.task, []
    site = arena.sites([], None)[0]
    width = max(made.n_features, 16)  # type: ignore[union-attr]
    for recipe in recipes(made.true_l0(), width, level, seed):  # type: ignore[union-attr]
        blank: Row = {"task": task.name, "task_sha256": task.sha256[:12], "width": width,
                      "architecture": recipe.architecture, "sparsity": recipe.sparsity,
                      "seed": seed}  # fmt: skip
        if key(blank) in known:
            continue
        sae = fit(made, recipe)  # type: ignore[arg-type]
        sae.cfg.metadata[TASK_KEY], sae.cfg.metadata[DIGEST_KEY] = task.name, task.sha256
        result = arena.score(arena.realise(from_object(sae), site), site).result
        found.append(row_of(result, recipe))
        write(sorted([*rows, *found], key=key), path)
        print(task.name, recipe.name, file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    parser.add_argument("--levels", type=int, default=3, help="of sparsity: 1, 2 or 3")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("results/synthetic/baselines.csv"))
    asked = parser.parse_args()
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    run(asked.out, asked.families, asked.levels, asked.seeds)


if __name__ == "__main__":
    main()
