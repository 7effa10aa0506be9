"""Scores the audit's SAEs: `python -m saebench.studies.audit.score --saes DIR --out DIR --workers 16`.

One row an SAE: recovery of the true features, the five axes, the headlines of version 1 from the same
outcomes, every further score that is one number, and other benchmarks' scores. A run's rows are one file
under `--rows`, written at once; what is there already is kept. At the end all rows are joined to
`<out>/truth.csv`, the snapshots of the language model's SAEs to `trajectory.parquet`, and with `--boards` what
the families' boards need (nulls, changed SAEs, cheats) to `families.parquet`.
"""

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from saebench.records.files import write_text
from saebench.studies.audit.plan import Family, Run, language, scratch, synthetic
from saebench.studies.audit.train import file_of, load
from saebench.studies.rows import Row, write

FIRST = "batchtopk"
RESAMPLES = 200
"""Rows of the truth hold values alone, and what resamples decide (is a denominator credibly there?) needs few."""


@cache
def _place(family: Family) -> Any:
    from saebench.audit.stand import Stand
    from saebench.studies.audit.peers import Concepts

    stand = Stand(family.task, "demo", 0, "quick")
    return stand, Concepts.of(stand.bench.section)


def row_of(sae: Any, family: Family) -> Row:
    """Every number of one SAE."""
    from saebench.dictionaries.objects import from_object
    from saebench.scoring.estimates import Estimate
    from saebench.studies.audit.peers import Views, peers
    from saebench.studies.audit.version_one import headlines

    stand, concepts = _place(family)
    dictionary, section = from_object(sae), stand.bench.section
    outcomes, scored = stand.scored(dictionary, n_resamples=RESAMPLES)
    row: Row = {"true_l0": stand.arena.model.true_l0()}
    for name, headline in scored.axes.items():
        shown = headline.normalized
        row[name] = float(shown) if isinstance(shown, Estimate) else None
    row |= headlines(outcomes)
    for entry in scored.entries:
        if entry.attribute is None and entry.edit is None and entry.k is None:
            row[f"{entry.axis}/{entry.name}"] = (
                float(entry.value) if isinstance(entry.value, Estimate) else None
            )
            if entry.name == "matched_cosine":
                calibrated = entry.normalized
                row["recovery/matched_cosine_calibrated"] = (
                    float(calibrated) if isinstance(calibrated, Estimate) else None
                )
    fit, test = section.fit.acts, section.test.acts
    views = Views(dictionary.encode(fit).codes, dictionary.encode(test).codes, fit, test, dictionary.W_dec)
    return row | peers(views, concepts)


def _snapshot(run: Run, sae: Any, step: int) -> list[Any]:
    """Where one SAE of a trajectory stands."""
    from saebench.dictionaries.objects import from_object

    stand, _ = _place(run.family)
    return stand.rows(
        from_object(sae), "snapshot", f"{run.name}/{step}", of=run.name, seed=run.seed, step=step
    )


def _board(run: Run, sae: Any) -> list[Any]:
    """What order, specificity and gaming look at on a family's board, for its SAEs of the true L0.

    The first architecture's process also measures the ceilings and the cheats.
    """
    from saebench.audit import measuring as m
    from saebench.dictionaries.objects import from_object

    stand, _ = _place(run.family)
    dictionary = from_object(sae, name=run.name)
    own = {run.name: lambda _: dictionary}
    jobs = [*m.as_they_are(own), *m.nulls(own), *m.changed(own)]
    if run.architecture == FIRST:
        ceilings = m.by_name(["control:oracle", "control:supervised:mean"])
        jobs += [*m.as_they_are(ceilings, "ceiling"), *m.gamed(run.name, own[run.name])]
    rows = []
    for job in jobs:
        rows += stand.rows(job.make(stand), job.group, job.name, of=job.of)
    return rows


def one(run: Run, saes: str, out: str, boards: bool) -> str:
    """Scores one run's SAEs and writes their rows."""
    import torch

    torch.set_num_threads(1)
    rows, drawn = [], []
    for step, sae in sorted(load(file_of(run, Path(saes))).items()):
        blank = {"family": run.family.name, "architecture": run.architecture, "share": run.share}
        blank |= {"sparsity": run.sparsity, "width": run.width, "seed": run.seed, "step": step}
        if run.family.truth:
            rows.append(blank | row_of(sae, run.family))
        else:
            drawn += _snapshot(run, sae, step)
    if boards and run.family.truth and run.share == 1.0 and run.seed == 0:
        drawn = _board(run, load(file_of(run, Path(saes)))[run.steps])
    if drawn:
        from saebench.audit.rows import write as write_rows

        write_rows(drawn, _file(run, Path(out)).with_suffix(".parquet"))
    write_text(_file(run, Path(out)), json.dumps(rows))
    return run.name


def _file(run: Run, out: Path) -> Path:
    return out / f"{run.file}.json"


def score(runs: list[Run], saes: Path, out: Path, workers: int, minutes: float, boards: bool) -> None:
    """Scores every run whose SAEs are there and whose rows are not."""
    todo = [r for r in runs if file_of(r, saes).exists() and not _file(r, out).exists()]
    started = time.monotonic()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as processes:
        jobs = [processes.submit(one, run, str(saes), str(out), boards) for run in todo]
        for done, job in enumerate(as_completed(jobs), 1):
            if not job.cancelled():
                said = f"{time.monotonic() - started:.0f} s, {done}/{len(jobs)}: {job.result()}"
                print(said, file=sys.stderr, flush=True)
            if time.monotonic() - started > 60 * minutes:
                processes.shutdown(wait=False, cancel_futures=True)


def join(runs: list[Run], scored: Path, out: Path) -> None:
    """All rows in a table of truth, one of snapshots, and one of the families' boards, if there are any."""
    from saebench.audit.rows import Rows, read
    from saebench.audit.rows import write as write_rows
    from saebench.audit.standing import MEASURED_ON, note

    rows, drawn = [], Rows(())
    for run in runs:
        path = _file(run, scored)
        if path.exists():
            rows += json.loads(path.read_text("utf-8"))
            drawn += read(path.with_suffix(".parquet"))
    if rows:
        write(rows, out / "truth.csv")
        note(out, "truth.csv")
    snapshots, boards = drawn.where(group="snapshot"), drawn.where(lambda row: row.group != "snapshot")
    for found, name in ((snapshots, "trajectory.parquet"), (boards, "families.parquet")):
        if len(found):
            write_rows(found, out / name)
            if name in MEASURED_ON:
                note(out, name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--saes", type=Path, required=True, help="where `train` put them")
    parser.add_argument("--out", type=Path, default=Path("results/audit/after"))
    parser.add_argument("--rows", type=Path, default=Path(".audit"), help="where rows are kept meanwhile")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--minutes", type=float, default=1e6, help="begin nothing new after so long")
    parser.add_argument(
        "--families", default="", help="comma-separated; default: all, and the language model"
    )
    parser.add_argument("--seeds", default="", help="comma-separated; default: all")
    parser.add_argument(
        "--boards", action="store_true", help="the families' boards too, which take as long as the rest"
    )
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    families, seeds = (set(filter(None, words.split(","))) for words in (asked.families, asked.seeds))
    runs = [*language(), *synthetic()]
    place = scratch(asked.rows, sorted({run.family.task for run in runs}))
    place /= "with-boards" if asked.boards else "rows"
    runs = [r for r in runs if not families or r.family.name in families]
    runs = [r for r in runs if not seeds or str(r.seed) in seeds]
    for folder in (place, asked.out):
        folder.mkdir(parents=True, exist_ok=True)
    score(runs, asked.saes, place, asked.workers, asked.minutes, asked.boards)
    join(runs, place, asked.out)


if __name__ == "__main__":
    main()
