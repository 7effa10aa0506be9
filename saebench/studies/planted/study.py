"""What SAEs do on the zoo: trains and scores them. `python -m saebench.studies.planted.study`.

Six architectures × two sparsities × two seeds on every model, and the controls, on the five axes and on
what was recovered of the planted subspaces. What every dictionary scores is written as soon as it is known,
so that a run that was killed goes on where it stopped; at the end it becomes the tables of `--out`. What an
axis of another version scored is scored again.
"""

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from saebench.studies.planted import zoo
from saebench.studies.planted.tables import CONTROLS, current

ORDER = (
    "plain",
    *(f"dependence-{share}" for share in ("full", "nested", "most", "half")),
    *(f"superposition-{share}" for share in ("050", "100", "150", "200")),
    *("norm-8", "norm-4", "norm-2", "rank-2", "rank-7", "rank-4"),
    *("twin-used", "twin-unused", "copies", "conjunction", "hidden-follower", "circular", "plain-llama"),
)
"""What is scored first; `untaught` has no planted truth and no SAEs."""
WORK = zoo.CACHE.parent / "planted-study"
Row = dict[str, Any]


def run(model: str, models: Path, work: Path, seeds: Sequence[int]) -> str:
    """Scores on one model what is not scored yet. Runs in its own process, on one thread."""
    import pandas as pd
    import torch

    from saebench.records.files import write_text

    torch.set_num_threads(1)
    file = work / f"{model}.csv"
    rows: list[Row] = current(pd.read_csv(file)).to_dict("records") if file.exists() else []
    for found in score(models / model, {row["dictionary"] for row in rows}, seeds):
        rows += [{"model": model, **row} for row in found]
        write_text(file, pd.DataFrame(rows).to_csv(index=False, float_format="%.5g"))
    return model


def score(folder: Path, done: set[str], seeds: Sequence[int]) -> Iterator[list[Row]]:
    """Rows of one dictionary after another, all on one bench; those in `done` are left out."""
    from saebench.evaluation.api import make_arena
    from saebench.evaluation.options import Options
    from saebench.planting.making import open_planted
    from saebench.site import Site

    todo = [found for found in _dictionaries(folder, seeds) if found[0] not in done]
    if not todo:
        return
    arena = make_arena(str(folder / "task"), str(folder), Options(device="cpu"))
    site = Site(open_planted(folder).world.spec.model.hook, "entity")
    for name, of, make in todo:
        result = arena.score_or_reuse(make(), site, None)
        yield [{"dictionary": name, **of, **row} for row in _rows(result)]


def _dictionaries(folder: Path, seeds: Sequence[int]) -> Iterator[tuple[str, Row, Callable[[], Any]]]:
    """Names of controls and SAEs, what they are, and how each is made when its turn comes."""
    from functools import cache, partial

    from saebench.evaluation.contestants import control, from_object
    from saebench.planting.making import open_planted
    from saebench.studies.planted import saes

    @cache
    def pool() -> Any:
        return saes.text_activations(open_planted(folder))

    for name in CONTROLS:
        yield name, {"architecture": "control", "sparsity": None, "seed": None}, partial(control, name)
    for recipe in saes.recipes(seeds):
        yield recipe.name, recipe._asdict(), lambda recipe=recipe: from_object(saes.train(recipe, pool()))


def _rows(result: Any) -> Iterator[Row]:
    """Headlines, and the scores that figures, tables and text use, one a row."""
    for axis, headline in result.axes.items():
        of = {"axis": axis, "version": result.axis_versions.get(axis)}
        yield {**of, "score": "headline", "attribute": None, **_numbers(headline)}
    for one in result.scores:
        if one.name in KEPT.get((one.axis, one.edit), ()) and one.k is None:
            of = {"axis": one.axis, "version": result.axis_versions.get(one.axis)}
            yield {**of, "score": one.name, "attribute": one.attribute, **_numbers(one)}


KEPT: dict[tuple[str, str | None], tuple[str, ...]] = {
    ("approximation", None): ("fvu", "l0", "sufficiency", "necessity"),
    ("interpretability", None): ("read_write", "written", "purity"),
    ("occlusion", None): ("attribute_reconstruction",),
    ("subspaces", None): ("subspace_overlap", "atom_cosine", "atom_f1"),
    # what stands for control on tasks with facts: the learned mask, or a labelled dictionary's own edit
    **{("control", edit): ("cause", "isolate", "disentangle") for edit in ("mask", "own", "intervention")},
    ("task", None): ("effect",),
}
"""Scores that are written down, by axis and kind of edit."""


def _numbers(found: Any) -> Row:
    low, high = found.ci or (None, None)
    names = ("value", "normalized", "floor", "ceiling", "reason")
    return {**{name: getattr(found, name) for name in names}, "low": low, "high": high}


def run_all(
    models: Path, work: Path, workers: int, seeds: Sequence[int], only: list[str] | None = None
) -> None:
    """Scores every model that is there, some at once."""
    work.mkdir(parents=True, exist_ok=True)
    there = [name for name in ORDER if (models / name / "certificate.json").exists()]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as processes:
        chosen = [name for name in there if not only or name in only]
        running = {processes.submit(run, name, models, work, seeds): name for name in chosen}
        for done in tqdm(as_completed(running), total=len(running), desc="models"):
            if done.exception():
                tqdm.write(f"{running[done]}: {done.exception()!r}")


def main() -> None:
    """Command line."""
    from saebench.studies.planted import tables
    from saebench.studies.planted.saes import SEEDS

    parser = argparse.ArgumentParser(
        prog="python -m saebench.studies.planted.study",
        description="Plant the zoo, train SAEs on it and score them.",
        epilog="example: python -m saebench.studies.planted.study --workers 2 --only plain",
    )
    parser.add_argument("--models", type=Path, default=zoo.CACHE, help=f"the zoo (default {zoo.CACHE})")
    parser.add_argument("--work", type=Path, default=WORK, help=f"what is scored so far (default {WORK})")
    parser.add_argument("--out", type=Path, default=Path("results/planted"), help="where tables go")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--only", action="append", choices=ORDER, help="a model (repeatable)")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="SAE seeds (default 2)")
    parser.add_argument("--tables", action="store_true", help="only write the tables of what is done")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if not options.tables:
        zoo.plant_all(options.models, options.workers, options.only)
        run_all(options.models, options.work, options.workers, range(options.seeds), options.only)
    options.out.mkdir(parents=True, exist_ok=True)
    tables.write(options.models, options.work, options.out)


if __name__ == "__main__":
    main()
