"""Several SAEs in one command, and the same SAE again and again in a training loop."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import saebench
from benchmarks.bench import Bench
from benchmarks.report import Table

MANY, D_IN, D_SAE, K = 10, 96, 131_072, 8
HOOK = "blocks.1.hook_resid_pre"
# What a process of its own reports when it is done: its peak of resident memory.
_MEASURED = """
import resource, sys
from saebench.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    if stop.code:
        raise
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def write_sae(folder: Path, seed: int) -> Path:
    """An untrained TopK SAE as SAELens writes it."""
    folder.mkdir()
    rows = torch.randn(D_SAE, D_IN, generator=torch.Generator().manual_seed(seed))
    rows /= rows.norm(dim=1, keepdim=True)
    state = {
        "W_enc": rows.T.contiguous(),
        "W_dec": rows,
        "b_enc": torch.zeros(D_SAE),
        "b_dec": torch.zeros(D_IN),
    }
    save_file(state, folder / "sae_weights.safetensors")
    metadata = {"hook_name": HOOK, "model_name": "demo"}
    config = {
        "architecture": "topk",
        "d_in": D_IN,
        "d_sae": D_SAE,
        "k": K,
        "dtype": "float32",
        "metadata": metadata,
    }
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


def peak(saes: list[Path], out: Path) -> float:
    """Peak memory in MB of one `saebench evaluate` of them."""
    words = [
        "evaluate",
        *map(str, saes),
        "--task",
        "ioi",
        "--budget",
        "tiny",
        "--device",
        "cpu",
        "--out",
        str(out),
    ]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _MEASURED, *words], capture_output=True, text=True, check=True
    )
    return int(done.stderr.splitlines()[-1]) / 1024


def memory_of_many(bench: Bench) -> Table:
    """Peak memory of ten SAEs in one command, against that of one."""
    with tempfile.TemporaryDirectory() as root:
        saes = [write_sae(Path(root) / f"sae{seed}", seed) for seed in range(MANY)]
        megabytes = sum(file.stat().st_size for file in saes[0].iterdir()) / 2**20
        peaks = {n: peak(saes[:n], Path(root) / f"out{n}") for n in (1, MANY)}
    rows = [{"SAEs": n, "peak MB": round(value)} for n, value in peaks.items()]
    note = (
        f"`saebench evaluate SAE…` on IOI, tiny budget; untrained TopK SAEs of {D_SAE:,} latents, {megabytes:.0f} MB"
        " each. Python, torch and the model are part of both."
    )
    return Table(
        "many", "Memory of ten SAEs in one command", note, rows, {"ten / one": peaks[MANY] / peaks[1]}
    )


def while_training(bench: Bench) -> Table:
    """The first and later calls of a loop: with what all calls share kept, and with `saebench.evaluate` each time."""
    from sae_lens import SAE

    from saebench import checkpoints

    sae = SAE.load_from_disk(checkpoints.DEMO / "topk")
    model = saebench.load_model("demo", device=str(bench.device))
    prepared = saebench.prepare("ioi", model)
    ways: dict[str, Callable[[], Any]] = {
        "`prepare(…).evaluate`": lambda: prepared.evaluate(sae),
        "`evaluate`, the model loaded": lambda: saebench.evaluate(sae, "ioi", model),
    }
    rows = []
    for name, call in ways.items():
        seconds = []
        for _ in range(1 + bench.rounds):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        rows.append({"calls": name, "first, s": seconds[0], "later, s": min(seconds[1:])})
    kept, anew = (row["later, s"] for row in rows)
    note = "The bundled TopK SAE in memory on IOI, quick budget, on the bundled model; the best of the later calls."
    summary = {"later / first": kept / rows[0]["first, s"], "kept / made anew": kept / anew}
    return Table("training", "Evaluating again and again in a training loop", note, rows, summary)
