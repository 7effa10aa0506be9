"""The full-size task: built once, then read from the cache, streamed and trained on in at most 4 GiB."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from saebench.spec import SyntheticSpec, load_task
from saebench.synthetic import scale

# One of the hundred steps that push features apart: sizes, cache and memory are those of the task.
SCRIPT = """
import json, sys, time
from pathlib import Path
from saebench.spec import Task, load_task
from saebench.synthetic.families import make_generator
from saebench.synthetic.training import Recipe, fit

def peak():
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 2**20

plain = load_task("synthetic/scale")
parameters = plain.spec.parameters | {"steps": 1}
task = Task(plain.folder, plain.spec.model_copy(update={"parameters": parameters}))
digests = []
for _ in range(2):
    print("asked for", file=sys.stderr, flush=True)
    made = make_generator(task)
    digests.append(made.sha256)
for _ in zip(range(5), made.batches(4096, 0)):
    pass
streamed = peak()
fit(made, Recipe("topk", 256, 25, samples=4096, batch=1024))
print(json.dumps({
    "digests": digests, "streamed": streamed, "trained": peak(),
    "features": made.n_features, "true_l0": made.true_l0(),
}))
"""


@pytest.mark.slow
def test_full_size_is_built_once_and_streams_in_four_gibibytes(tmp_path):
    task = load_task("synthetic/scale").spec
    assert isinstance(task, SyntheticSpec)
    size = {n: task.parameters[n] for n in ("features", "d_in", "roots", "steps")}
    assert size == {"features": 16384, "d_in": 768, "roots": 128, "steps": 100}
    env = os.environ | {"SAEBENCH_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, timeout=900, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    _, built, loaded = done.stderr.split("asked for")
    assert "Orthogonalizing" in built, "progress is shown while it is built"
    assert "Orthogonalizing" not in loaded and len(set(found["digests"])) == 1
    assert len(list((tmp_path / "synthetic").iterdir())) == 1
    assert found["features"] == 16384 and 30 < found["true_l0"] < 38
    assert found["streamed"] <= 4 and found["trained"] <= 4


def test_of_two_builders_the_first_wins_and_nothing_is_left_behind(tmp_path, monkeypatch):
    from sae_lens.synthetic import SyntheticModel

    monkeypatch.setenv("SAEBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(scale, "_WORTH_CACHING", 0)
    spec = scale.Scale.model_validate({"features": 84, "d_in": 16, "roots": 4, "steps": 1, "probes": 2})
    save = SyntheticModel.save

    def overtaken(self, part):
        save(self, part)
        shutil.copytree(part, part.with_name(part.name.split(".")[0]))

    monkeypatch.setattr(SyntheticModel, "save", overtaken)
    built = spec.build("mine", 0)
    (kept,) = (tmp_path / "synthetic").iterdir()
    assert kept.name.startswith("scale-84x16-") and not kept.suffix
    monkeypatch.setattr(SyntheticModel, "save", None)
    torch.testing.assert_close(spec.build("mine", 0).D, built.D, rtol=0, atol=0)
