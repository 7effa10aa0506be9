"""SAEs of every architecture on every small family: `python -m saebench.studies.baselines`.

One CSV row a trained SAE, with the five axes, the recovery scores and their intervals. The three
sparsities are L0s: the true one, half and twice of it. What gives them is searched once per family and
architecture, on seed 0, and stands in `calibration.csv`, also where an L0 cannot be had: such a level
has no rows. Rows that stand in the files already are kept as long as the task's digest and the axes'
versions are the same, so that the run can be stopped and resumed.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from saebench.evaluation.api import make_arena
from saebench.evaluation.contestants import from_object
from saebench.records.result import Result
from saebench.spec import load_task
from saebench.studies import calibration
from saebench.studies.audit.plan import FAMILIES as AUDITED
from saebench.studies.audit.plan import Run
from saebench.studies.audit.train import file_of, load
from saebench.studies.baseline_figures import draw
from saebench.studies.rows import Row, read, write
from saebench.synthetic.generator import Generator
from saebench.synthetic.training import DIGEST_KEY, TASK_KEY, Recipe, fit

FAMILIES = tuple(AUDITED)
ARCHITECTURES = ("standard", "gated", "topk", "batchtopk", "jumprelu", "matryoshka")
SHARES = (1.0, 0.5, 2.0)
"""Of the true L0; the first is run first."""
SAMPLES = 300_000
_NAMES = (
    "l0",
    "fvu",
    "matched_cosine",
    "matched_cosine_calibrated",
    "mmcs_recall",
    "mmcs_precision",
    "recovered@0.8",
    "feature_f1",
    "uniqueness",
    "dead_latents",
    "shrinkage",
    "explained_variance",
    "absorption",
    "leakage",
    "hedging",
    "composition",
    "pair_composition",
)


Key = tuple[str, ...]


class Family:
    """A task with its arena and the identity of everything measured on it."""

    def __init__(self, name: str) -> None:
        self.task = load_task(f"synthetic/{name}")
        self.arena = make_arena(self.task)
        made = self.arena.model
        assert isinstance(made, Generator)
        self.made = made
        self.true_l0 = self.made.true_l0()

    def recipe(self, architecture: str, sparsity: float = 1.0, seed: int = 0) -> Recipe:
        width = max(self.made.n_features, 16)
        return Recipe(architecture, width, sparsity, seed, samples=SAMPLES, lr=3e-3)

    def blank(self, architecture: str, share: float) -> Row:
        """What makes two rows of calibration the same."""
        recipe = self.recipe(architecture)
        return {
            "task": self.task.name,
            "task_sha256": self.task.sha256[:12],
            "architecture": architecture,
            "width": recipe.width,
            "samples": recipe.samples,
            "share_of_true_l0": share,
        }

    @property
    def versions(self) -> str:
        return " ".join(f"{name}={v}" for name, v in self.arena.versions.items())


def wanted(row: Row) -> bool:
    """Whether a row of calibration has an SAE: its L0 was reached, and by no other level before."""
    return row["note"] == ""


def calibrate(family: Family, architecture: str) -> Iterator[Row]:
    """One row a level: the sparsity, the L0 it gives, and why there is none where there is none."""
    targets = [share * family.true_l0 for share in SHARES]
    found = calibration.levels(family.made, family.recipe(architecture), targets)
    seen: set[float] = set()
    for share, level in zip(SHARES, found, strict=True):
        note = ""
        if level.sparsity in seen:
            note = "the same sparsity as another level"
        elif not level.reached:
            note = "the closest that was found differs by more than a quarter"
        seen.add(level.sparsity)
        row = family.blank(architecture, share)
        yield row | {"wanted_l0": level.wanted, "sparsity": level.sparsity, "l0": level.l0, "note": note}


def key(row: Row) -> Key:
    """What makes two rows the same SAE, or with fewer columns the same level of calibration."""
    names = (
        "task",
        "task_sha256",
        "architecture",
        "width",
        "samples",
        "share_of_true_l0",
        "sparsity",
        "seed",
        "versions",
    )
    # floats as `write` leaves them in the file
    return tuple(f"{v:.6g}" if isinstance(v := row.get(n, ""), float) else str(v) for n in names)


def row_of(result: Result) -> Row:
    """The numbers of one result on one line."""
    row: Row = {}
    for name, axis in result.axes.items():
        row |= {name: axis.normalized}
        row |= dict(zip((f"{name}_low", f"{name}_high"), axis.ci or (None, None), strict=True))
    for name in _NAMES:
        score = next((s for s in result.scores if s.name == name and s.edit is None), None)
        low, high = (score and score.ci) or (None, None)
        row |= {name: score and score.value, f"{name}_low": low, f"{name}_high": high}
    return row


def calibrated(families: Mapping[str, Family], path: Path) -> list[Row]:
    """The levels of all families; what is not in the file yet is searched and written."""
    found = {
        key(family.blank(architecture, share)): (family, architecture)
        for family in families.values()
        for architecture in ARCHITECTURES
        for share in SHARES
    }
    blanks = ("task", "task_sha256", "architecture", "width", "samples", "share_of_true_l0")
    rows = {key({n: row[n] for n in blanks}): row for row in read(path)}
    rows = {k: row for k, row in rows.items() if k in found or row["task"] not in families}
    for wanted_key, (family, architecture) in found.items():
        if wanted_key in rows:
            continue
        print(f"sparsities of {architecture}, {family.task.name}", file=sys.stderr, flush=True)
        for row in calibrate(family, architecture):
            rows[key({n: row[n] for n in blanks})] = row
        write([rows[k] for k in sorted(rows)], path)
    return [rows[k] for k in found]


def plan(families: Mapping[str, Family], levels: list[Row], seeds: int) -> dict[Key, Row]:
    """The SAEs to train, the true L0 first: what identifies each of them."""
    out: dict[Key, Row] = {}
    for share in SHARES:
        for seed in range(seeds):
            for level in levels:
                if float(level["share_of_true_l0"]) != share or not wanted(level):
                    continue
                family = families[level["task"]]
                blank = family.blank(level["architecture"], share) | {
                    "sparsity": float(level["sparsity"]),
                    "seed": seed,
                    "versions": family.versions,
                }
                out[key(blank)] = blank
    return out


def run(folder: Path, names: list[str], seeds: int, saes: Path | None = None) -> None:
    """Trains and scores what is not in the files yet; writes after every SAE."""
    families = {(f := Family(name)).task.name: f for name in names}
    todo = plan(families, calibrated(families, folder / "calibration.csv"), seeds)
    path = folder / "baselines.csv"
    rows = {key(row): row for row in read(path)}
    rows = {k: row for k, row in rows.items() if k in todo or row["task"] not in families}
    for i, (name, blank) in enumerate(todo.items()):
        if name in rows:
            continue
        family = families[blank["task"]]
        recipe = family.recipe(blank["architecture"], blank["sparsity"], blank["seed"])
        sae = found(recipe, family, float(blank["share_of_true_l0"]), saes)
        rows[name] = blank | _numbers(family, sae)
        write([rows[k] for k in sorted(rows)], path)
        print(f"{i + 1}/{len(todo)}", family.task.name, recipe.name, file=sys.stderr, flush=True)


def found(recipe: Recipe, family: Family, share: float, saes: Path | None) -> Any:
    """The SAE of a recipe: the audit trains the same ones, so that those are taken where they are."""
    if saes is not None:
        of = AUDITED[family.task.name.removeprefix("synthetic/")]
        of_audit = Run(of, recipe.architecture, share, recipe.sparsity, recipe.width, recipe.seed)
        path = file_of(of_audit, saes)
        if path.is_file():
            return load(path)[of_audit.steps]
    return fit(family.made, recipe)


def _numbers(family: Family, sae: Any) -> Row:
    arena = family.arena
    site = arena.sites([], None)[0]
    sae.cfg.metadata[TASK_KEY] = family.task.name
    sae.cfg.metadata[DIGEST_KEY] = family.task.sha256
    result = arena.score(arena.realise(from_object(sae), site), site).result
    return {"true_l0": family.true_l0} | row_of(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--figures", action="store_true", help="only draw what has been measured")
    parser.add_argument("--out", type=Path, default=Path("results/synthetic"))
    parser.add_argument(
        "--saes", type=Path, help="score the SAEs that `saebench.studies.audit.train` left there"
    )
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    if not asked.figures:
        run(asked.out, asked.families, asked.seeds, asked.saes)
    draw(asked.out)


if __name__ == "__main__":
    main()
