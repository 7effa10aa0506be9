"""What SAEs do on the zoo: trains and scores them, some at once. `python -m saebench.studies.planted.study`.

Six architectures × two sparsities × two seeds on every model of `MODELS`, and the controls, on the five
axes and on what was recovered of the planted subspaces. Every piece of work leaves a file, so that a run
that was killed goes on where it stopped; at the end they become `scores.csv` and `models.csv`.
"""

import argparse
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from saebench.studies.planted import zoo

LEFT_OUT = ("dependence-half", "norm-2", "plain-llama", "rank-4", "untaught")
"""Models of the zoo without SAEs: steps between others, and the one that has to be refused."""
CONTROLS = (
    "oracle",
    "supervised",
    "identity",
    "mean",
    "pca:8",
    "random:8:256",
    "das",
    "source-patch",
    "no-edit",
)
PARTS = (("standard", "gated", "topk"), ("batchtopk", "jumprelu", "matryoshka"), ("controls",))


class Job(NamedTuple):
    """A model and what is scored on it; the controls, or SAEs of some architectures."""

    model: str
    part: tuple[str, ...]

    @property
    def file(self) -> str:
        return f"{self.model}--{'-'.join(self.part)}.csv"


def jobs() -> list[Job]:
    """Everything that is to be done, the controls of every model first."""
    models = [name for name in zoo.names() if name not in LEFT_OUT]
    return [Job(model, part) for part in PARTS[::-1] for model in models]


def run(job: Job, models: Path, rows: Path) -> str:
    """Scores one job and writes its rows. Runs in its own process, on one thread."""
    import pandas as pd
    import torch

    from saebench.records.files import write_text

    torch.set_num_threads(1)
    table = pd.DataFrame(score(job, models / job.model))
    write_text(rows / job.file, table.to_csv(index=False))
    return job.file


def score(job: Job, folder: Path) -> Iterator[dict[str, Any]]:
    """Rows of everything in a job."""
    from saebench.evaluation.api import make_arena
    from saebench.evaluation.contestants import control, from_object
    from saebench.evaluation.options import Options
    from saebench.planting.making import open_planted
    from saebench.site import Site
    from saebench.studies.planted import saes

    opened = open_planted(folder)
    arena = make_arena(str(folder / "task"), str(folder), Options(device="cpu"))
    site = Site(opened.world.spec.model.hook, "entity")
    if job.part == ("controls",):
        for name in CONTROLS:
            result = arena.score_or_reuse(control(name), site, None)
            yield from _rows(job.model, result, name, None)
        return
    pool = saes.text_activations(opened)
    for architecture in job.part:
        for recipe in saes.recipes(architecture):
            sae = saes.train(recipe, pool)
            result = arena.score_or_reuse(from_object(sae), site, None)
            yield from _rows(job.model, result, recipe.name, recipe)


def _rows(model: str, result: Any, name: str, recipe: Any) -> Iterator[dict[str, Any]]:
    """Headlines and scores without an edit or size, one a row."""
    same = {
        "model": model,
        "dictionary": name,
        "architecture": recipe.architecture if recipe else "control",
        "sparsity": recipe.sparsity if recipe else None,
        "seed": recipe.seed if recipe else None,
    }
    for axis, headline in result.axes.items():
        low, high = headline.ci or (None, None)
        yield {
            **same,
            "axis": axis,
            "score": "headline",
            "attribute": None,
            "value": headline.value,
            "normalized": headline.normalized,
            "low": low,
            "high": high,
            "floor": headline.floor,
            "ceiling": headline.ceiling,
            "reason": headline.reason,
        }
    for one in result.scores:
        if _kept(one):
            low, high = one.ci or (None, None)
            yield {
                **same,
                "axis": one.axis,
                "score": one.name,
                "attribute": one.attribute,
                "edit": one.edit,
                "k": one.k,
                "value": one.value,
                "normalized": one.normalized,
                "low": low,
                "high": high,
                "floor": one.floor,
                "ceiling": one.ceiling,
                "reason": one.reason,
            }


def _kept(score: Any) -> bool:
    """Whether a score goes into the table: all without an edit, and those that figures and text use."""
    if score.edit is None and score.k is None:
        return True
    facts = score.name in ("cause", "isolate", "disentangle") and score.edit in ("mask", "das", "own")
    return facts or score.name.startswith("das_") or (score.name, score.edit) == ("edit_fidelity", "writers")


def run_all(models: Path, out: Path, workers: int, only: list[str] | None = None) -> None:
    """Does what is not done yet, then writes the tables."""
    rows = out / "rows"
    rows.mkdir(parents=True, exist_ok=True)
    left = [job for job in jobs() if not (rows / job.file).exists() and (not only or job.model in only)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as processes:
        running = {processes.submit(run, job, models, rows): job for job in left}
        for done in tqdm(as_completed(running), total=len(running), desc="jobs"):
            if done.exception():
                tqdm.write(f"{running[done].file}: {done.exception()!r}")
    write_tables(models, out)


def write_tables(models: Path, out: Path) -> None:
    """`scores.csv` of all rows, and `models.csv` with what every spec asked for and its certificate shows."""
    import pandas as pd

    from saebench.planting.making import read_certificate
    from saebench.planting.spec import read_spec
    from saebench.records.files import write_text

    parts = [pd.read_csv(path) for path in sorted((out / "rows").glob("*.csv"))]
    if parts:
        every = pd.concat(parts).sort_values(["model", "architecture", "dictionary"], kind="stable")
        write_text(out / "scores.csv", every.to_csv(index=False, float_format="%.5g"))
    described = []
    for name in zoo.names():
        certificate = read_certificate(models / name)
        if certificate is None:
            continue
        spec = read_spec(zoo.SPECS / f"{name}.toml")
        for variable, figures in certificate.variables.items():
            asked = spec.variables[variable]
            described.append(
                {
                    "model": name,
                    "certified": certificate.certified,
                    "parameters": certificate.parameters,
                    "superposition": certificate.superposition,
                    "coherence": certificate.coherence,
                    "variable": variable,
                    "values": asked.n_values,
                    "rank": asked.dimensions,
                    "norm": asked.norm,
                    "present": asked.present,
                    "used": asked.used,
                    "dependence": certificate.dependence.get(f"{variable} follows {asked.follows}"),
                    **{f"measured_{k}": v for k, v in figures.model_dump().items()},
                }
            )
    write_text(out / "models.csv", pd.DataFrame(described).to_csv(index=False, float_format="%.5g"))


def pack(models: Path, out: Path) -> None:
    """The folders of all models as one archive, to be carried elsewhere."""
    import tarfile

    with tarfile.open(out / "zoo.tar.gz", "w:gz") as archive:
        archive.add(models, "zoo")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m saebench.studies.planted.study",
        description="Plant the zoo, train SAEs on it and score them.",
        epilog="example: python -m saebench.studies.planted.study --workers 16 --out results/planted",
    )
    parser.add_argument("--models", type=Path, default=zoo.CACHE, help=f"the zoo (default {zoo.CACHE})")
    parser.add_argument("--out", type=Path, default=Path("results/planted"), help="where tables go")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--only", action="append", choices=zoo.names(), help="a model (repeatable)")
    parser.add_argument("--tables", action="store_true", help="only write the tables of what is done")
    parser.add_argument("--pack", action="store_true", help="also write the models as zoo.tar.gz")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if options.tables:
        write_tables(options.models, options.out)
        return
    zoo.plant_all(options.models, options.workers, options.only)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.pack:
        pack(options.models, options.out)
    run_all(options.models, options.out, options.workers, options.only)


if __name__ == "__main__":
    main()
