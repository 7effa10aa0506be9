"""Trains the audit's SAEs: `python -m saebench.studies.audit.train --out DIR --workers 16`.

One process and one thread an SAE. Every finished run is one file under `DIR/runs`; a run whose file is
there is not trained again. `--pack` then joins them into a few files, in half precision where the SAEs are
those of a language model or wide.
"""

import argparse
import json
import os
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from saebench.audit.standing import weights_of_now
from saebench.studies.audit.plan import BATCH, LM_LR, LR, SAMPLES, Run, language, synthetic


def file_of(run: Run, out: Path) -> Path:
    return out / "runs" / f"{run.file}.safetensors"


def pool_of(out: Path) -> Path:
    """Where the bundled model's activations are stored; those of another one lie elsewhere."""
    return out / f"pool-{weights_of_now('trajectory.parquet')}.safetensors"


def one(run: Run, out: str) -> str:
    """Trains one run and writes its SAEs, the one at the end and its snapshots."""
    import torch

    torch.set_num_threads(1)
    kept: dict[int, Any] = {}
    takes = {step: lambda sae, step=step: kept.__setitem__(step, sae) for step in run.snapshots}
    train = _on_pool if run.family.pooled else _on_draws
    kept[run.steps] = train(run, Path(out), takes)
    save(kept, file_of(run, Path(out)))
    return run.name


@cache
def _generator(family: str) -> Any:
    from saebench.studies.scene import generator

    return generator(family)


def _on_draws(run: Run, out: Path, takes: Any) -> Any:
    from saebench.synthetic.training import Recipe, fit

    recipe = Recipe(run.architecture, run.width, run.sparsity, run.seed, SAMPLES, BATCH, LR)
    return fit(_generator(run.family.name), recipe, snapshots=takes)


def _on_pool(run: Run, out: Path, takes: Any) -> Any:
    from safetensors.torch import load_file

    from saebench.dictionaries.training import shuffled_batches, train_sae

    pool = load_file(pool_of(out))["pool"]
    return train_sae(
        run.architecture,
        shuffled_batches(pool, BATCH, run.seed),
        pool.shape[1],
        run.width,
        sparsity=run.sparsity,
        steps=run.steps,
        batch=BATCH,
        lr=LM_LR[run.architecture],
        seed=run.seed,
        progress=False,
        snapshots=takes,
    )


def make_pool(out: str) -> str:
    """The language model's activations at every token of fresh sentences, as its bundled SAEs saw them."""
    import torch
    from safetensors.torch import save_file

    from saebench.models.known import BUNDLED
    from saebench.planting.making import open_planted
    from saebench.studies.demo.saes import POOL_SENTENCES, activation_pool

    torch.set_num_threads(1)
    bundled = open_planted(BUNDLED)
    pool = activation_pool(bundled.halves, bundled.world.tokenizer, POOL_SENTENCES, seed=11)
    file = pool_of(Path(out))
    part = file.with_suffix(".part")
    save_file({"pool": pool}, part)
    part.replace(file)
    return file.name


def save(kept: dict[int, Any], path: Path) -> None:
    """SAEs by training step in one file; their configurations stand in its metadata."""
    from safetensors.torch import save_file

    tensors = {
        f"{step}/{name}": t.contiguous() for step, sae in kept.items() for name, t in sae.state_dict().items()
    }
    metadata = {str(step): json.dumps(sae.cfg.to_dict()) for step, sae in kept.items()}
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata)
    part.replace(path)


def load(path: Path, prefix: str = "") -> dict[int, Any]:
    """The SAEs of a run by training step, in float32."""
    from sae_lens import SAE
    from safetensors import safe_open

    found = {}
    with safe_open(path, "pt") as file:
        configs = {k.removeprefix(prefix): v for k, v in file.metadata().items() if k.startswith(prefix)}
        for step, config in configs.items():
            start = f"{prefix}{step}/"
            state = {k.removeprefix(start): file.get_tensor(k) for k in file.keys() if k.startswith(start)}  # noqa: SIM118
            sae = SAE.from_dict(json.loads(config))
            sae.load_state_dict({name: t.float() for name, t in state.items()})
            found[int(step)] = sae.eval()
    return found


def pack(runs: list[Run], out: Path, to: Path) -> None:
    """Joins the runs' files, in half precision where their family says so."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    to.mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys(run.pack for run in runs):
        tensors, metadata = {}, {}
        for run in (r for r in runs if r.pack == name and file_of(r, out).exists()):
            with safe_open(file_of(run, out), "pt") as file:
                metadata |= {f"{run.name}/{k}": v for k, v in file.metadata().items()}
                for k in file.keys():  # noqa: SIM118
                    t = file.get_tensor(k)
                    tensors[f"{run.name}/{k}"] = t.half() if run.family.half else t
        save_file(tensors, to / f"{name}.safetensors", metadata)


def unpack(runs: list[Run], packs: Path, out: Path) -> None:
    """Puts packed runs back where `train` leaves them."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    (out / "runs").mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys(run.pack for run in runs):
        with safe_open(packs / f"{name}.safetensors", "pt") as file:
            keys = {r.name: r for r in runs if r.pack == name}
            configs, tensors = {n: {} for n in keys}, {n: {} for n in keys}
            for k, v in file.metadata().items():
                start, _, step = k.rpartition("/")
                configs[start][step] = v
            for k in file.keys():  # noqa: SIM118
                start, step, parameter = k.rsplit("/", 2)
                tensors[start][f"{step}/{parameter}"] = file.get_tensor(k)
            for n, run in keys.items():
                if tensors[n]:
                    save_file(tensors[n], file_of(run, out), configs[n])


def train(runs: list[Run], out: Path, workers: int, minutes: float) -> None:
    """Trains what is not there yet. The language model's runs, the longest, go before all that can wait."""
    (out / "runs").mkdir(parents=True, exist_ok=True)
    todo = [run for run in runs if not file_of(run, out).exists()]
    long = [run for run in todo if run.family.pooled]
    short = [run for run in todo if not run.family.pooled]
    started = time.monotonic()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as processes:

        def submit(some: list[Run]) -> dict[Future, str]:
            return {processes.submit(one, run, str(out)): run.name for run in some}

        waiting: list[Run] = []
        pool = pool_of(out)
        if long and not pool.exists():
            jobs: dict[Future, str] = {processes.submit(make_pool, str(out)): pool.name}
            jobs |= submit([run for run in short if run.seed == 0])
            waiting = [*long, *(run for run in short if run.seed != 0)]
        else:
            jobs = submit([*long, *short])
        done = 0
        while jobs:
            finished, _ = wait(jobs, return_when=FIRST_COMPLETED)
            names = [jobs.pop(job) for job in finished if job.cancelled() or job.result()]
            done += len(names)
            print(
                f"{time.monotonic() - started:.0f} s, {done}: {', '.join(names)}", file=sys.stderr, flush=True
            )
            if time.monotonic() - started > 60 * minutes:
                processes.shutdown(wait=False, cancel_futures=True)
                waiting = []
            if pool.name in names:
                jobs |= submit(waiting)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--minutes", type=float, default=1e6, help="begin nothing new after so long")
    parser.add_argument(
        "--families", default="", help="comma-separated; default: all, and the language model"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pack", type=Path, help="only join the runs into a few files in this directory")
    parser.add_argument("--unpack", type=Path, help="only take them apart again from this directory")
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    runs = [*language(), *synthetic()]
    chosen = set(filter(None, asked.families.split(",")))
    runs = [r for r in runs if r.seed < asked.seeds and (not chosen or r.family.name in chosen)]
    if asked.pack:
        pack(runs, asked.out, asked.pack)
    elif asked.unpack:
        unpack(runs, asked.unpack, asked.out)
    else:
        train(runs, asked.out, asked.workers, asked.minutes)


if __name__ == "__main__":
    main()
