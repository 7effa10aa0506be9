"""The SAEs of `results/smollm2-135m`: each site's activations are captured once, then all are trained on them.

`python -m saebench.studies.real.saes --docs docs.parquet --out saes` trains all; `--only NAME…` some of
them. Each is what `saebench train` makes of the same options: `commands()` prints them. `saes.json` holds
digests, held-out figures, times and machines.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import cache, lru_cache
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm

from saebench.dictionaries.training import ARCHITECTURES
from saebench.models.language_model import LanguageModel
from saebench.models.loading import load_model
from saebench.site import Site
from saebench.training.run import EVERY, Recipe, open_stream, train
from saebench.training.sources import open_source
from saebench.training.stream import Stream

MODEL = "smollm2-135m"
WIDTH = 4608
CONTEXT = 128
END = "blocks.26.hook_resid_pre"
SUBJECT = "blocks.14.hook_resid_pre"
CITY = "blocks.18.hook_resid_pre"
ANSWER = "blocks.24.hook_resid_pre"
TASK_TEXT: dict[str, Any] = {"tokens": 4_000_000, "distinct": 100_000}
WEB_TEXT: dict[str, Any] = {"tokens": 6_000_000, "distinct": 1_500_000}
# What two CPU cores do in a few minutes each.
CITY_TEXT: dict[str, Any] = {"tokens": 1_000_000, "distinct": 250_000, "batch": 1024, "dtype": "bfloat16"}
# Two sparsities each: k, or weights of the penalty, chosen to give from 10 to 100 active latents.
SPARSITIES = {
    "topk": (16, 64),
    "batchtopk": (16, 64),
    "matryoshka": (16, 64),
    "standard": (12.0, 4.0),
    "gated": (12.0, 4.0),
    "jumprelu": (0.5, 0.1),
}
SUBJECT_SPARSITIES = {"topk": 16, "standard": 4.0, "batchtopk": 16}
CITY_SPARSITIES = {"topk": 64, "standard": 4.0, "batchtopk": 64}


class Plan(NamedTuple):
    """One SAE: where, on what, how."""

    site: str
    data: tuple[str, ...]
    recipe: Recipe

    @property
    def pool(self) -> tuple[str, tuple[str, ...]]:
        """What its activations are: SAEs with the same share them."""
        return self.site, self.data


class Hooks(NamedTuple):
    """Where SAEs are trained: at IOI's end and second subject, and for RAVEL where facts are and are the answer."""

    end: str = END
    subject: str = SUBJECT
    city: str = CITY
    answer: str = ANSWER


def plans(docs: str, scale: float = 1.0, width: int = WIDTH, hooks: Hooks | None = None) -> list[Plan]:
    """All SAEs. `scale` shrinks budgets, for a rehearsal."""

    def plan(site: str, data: Sequence[str], architecture: str, sparsity: float, seed: int = 0) -> Plan:
        given = TASK_TEXT if "@" in site else CITY_TEXT if "ravel" in data else WEB_TEXT
        sizes = {name: max(4096, int(scale * given[name])) for name in ("tokens", "distinct")}
        how: dict[str, Any] = {"batch": 2048} | given | sizes
        return Plan(site, tuple(data), Recipe(architecture, width, sparsity, seed=seed, **how))

    at = hooks or Hooks()
    end, subject = f"{at.end}@end", f"{at.subject}@s2"
    both = [(a, s) for a, pair in SPARSITIES.items() for s in pair]
    return [
        *(plan(end, ["ioi"], a, s) for a, s in both),
        *(plan(end, ["ioi"], "topk", 16, seed) for seed in (1, 2)),
        *(plan(at.end, [docs], a, 64) for a in ("topk", "batchtopk")),
        *(plan(subject, ["ioi"], a, s) for a, s in SUBJECT_SPARSITIES.items()),
        *(plan(h, ["ravel", docs], a, s) for h in (at.city, at.answer) for a, s in CITY_SPARSITIES.items()),
    ]


def commands(chosen: Sequence[Plan]) -> Iterator[str]:
    """The command that makes each of them."""
    flags = {"k": "--k", "l1_coefficient": "--l1", "l0_coefficient": "--l0"}
    for site, data, r in chosen:
        flag = flags[ARCHITECTURES[r.architecture].sparsity]
        sources = " ".join(f"--data {name}" for name in data)
        yield (
            f"saebench train --model {MODEL} --site {site} {sources} --architecture {r.architecture}"
            f" --width {r.width} {flag} {r.sparsity:g} --tokens {r.tokens} --distinct {r.distinct}"
            f" --batch {r.batch} --seed {r.seed}" + (f" --dtype {r.dtype}" if r.dtype != Recipe.dtype else "")
        )


def stream_of(model: LanguageModel, plan: Plan) -> Stream:
    """The stream of a plan, as `saebench train` opens it."""
    source = open_source(plan.data, model, CONTEXT, plan.recipe.distinct or plan.recipe.tokens)
    return open_stream(model, source, Site.parse(plan.site, EVERY), plan.recipe)


@cache
def loaded(name: str, device: str, dtype: str) -> LanguageModel:
    """A process's model."""
    return load_model(name, device=device, dtype=dtype)


@lru_cache(maxsize=1)
def opened(name: str, first: Plan, pool: str, device: str) -> Stream:
    """The stream of the SAEs that share a pool: a process reads texts and activations once for all of them."""
    model = loaded(name, device, first.recipe.dtype)
    return replace(stream_of(model, first), kept=load_file(pool, device=str(model.device))["acts"])


def train_one(name: str, plan: Plan, first: Plan, pool: str, out: str, device: str) -> dict[str, Any]:
    """Trains an SAE on captured activations; `first` is the pool's first plan."""
    stream = replace(opened(name, first, pool, device), seed=plan.recipe.seed)
    started = time.perf_counter()
    path, fit = train(stream, plan.recipe, Path(out))
    return {
        "path": path.relative_to(out).as_posix(),
        "sha256": hashlib.sha256((path / "sae_weights.safetensors").read_bytes()).hexdigest(),
        "fvu": fit.fvu,
        "l0": fit.l0,
        "dead": fit.dead,
        "seconds": round(time.perf_counter() - started, 1),
        "device": torch.cuda.get_device_name() if stream.model.device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "command": next(commands([plan])),
    }


def train_all(
    name: str, chosen: Sequence[Plan], out: Path, device: str, workers: int
) -> list[dict[str, Any]]:
    """Captures every pool, and trains `workers` SAEs at a time meanwhile; one that fails stops no other."""
    pools: dict[Any, list[Plan]] = {}
    for plan in chosen:
        pools.setdefault(plan.pool, []).append(plan)
    rows: list[dict[str, Any]] = []
    failed: list[BaseException] = []
    with TemporaryDirectory() as scratch, ProcessPoolExecutor(workers, get_context("spawn")) as processes:
        jobs = []
        for number, group in enumerate(tqdm(pools.values(), desc="capturing")):
            pool = str(Path(scratch) / f"{number}.safetensors")
            model = loaded(name, device, group[0].recipe.dtype)
            save_file({"acts": stream_of(model, group[0]).capture(0).cpu().contiguous()}, pool)
            jobs += [
                processes.submit(train_one, name, plan, group[0], pool, str(out), device) for plan in group
            ]
        for job in tqdm(as_completed(jobs), total=len(jobs), desc="training"):
            error = job.exception()
            if error is None:
                rows.append(job.result())
                write(rows, out)
            else:
                failed.append(error)
    for error in failed:
        raise error
    return rows


def write(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """What has been trained so far."""
    out.mkdir(parents=True, exist_ok=True)
    found = {"saes": sorted(rows, key=lambda row: row["path"])}
    (out / "saes.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--docs", default="docs.parquet", help="What docs_text wrote.")
    parser.add_argument("--out", type=Path, default=Path("saebench-saes"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", nargs="*", type=int, help="Numbers of the SAEs to train. Default: all.")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument(
        "--hooks", nargs="+", default=Hooks(), metavar="HOOK", help="End, subject, city, answer."
    )
    parser.add_argument("--list", action="store_true", help="Print the commands and stop.")
    given = parser.parse_args()
    chosen = plans(given.docs, given.scale, given.width, Hooks(*given.hooks))
    chosen = [chosen[i] for i in given.only] if given.only else chosen
    if given.list:
        print(*commands(chosen), sep="\n")
        return
    for row in train_all(given.model, chosen, given.out, given.device, given.workers):
        print(f"{row['path']}: FVU {row['fvu']:.4f}, L0 {row['l0']:.1f}, {row['seconds']} s")


if __name__ == "__main__":
    main()
