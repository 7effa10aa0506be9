"""Of the SAEs of one command, one is in memory at a time."""

import gc
import weakref

from command import run
from tiny_task import write_sae, write_task

from saebench.evaluation.contestants import Checkpoint
from saebench.records import store


def test_weights_are_read_when_they_are_needed_and_let_go(tmp_path, capsys, monkeypatch):
    tasks = write_task(tmp_path / "tasks")
    saes = [str(write_sae(tmp_path / f"sae{seed}", seed)) for seed in range(2)]
    original, ours, alive = Checkpoint.load, [], []

    def load(self, device):
        gc.collect()
        alive.append(sum(rows() is not None for rows in ours))
        loaded = original(self, device)
        ours.append(weakref.ref(loaded.dictionary.W_dec))
        return loaded

    monkeypatch.setattr(Checkpoint, "load", load)
    words = ["evaluate", *saes, "--task", "tiny", "--tasks", str(tasks), "--architecture", "standard"]
    words += ["--force-mismatch", "--budget", "tiny", "--out", str(tmp_path / "out"), "--format", "json"]
    code, _, err = run(capsys, *words)
    assert code == 0, err
    # once to be looked at, once to be scored; nothing of another is there at any of those times
    assert alive == [0] * 4 and len(store.find(tmp_path / "out")) == 2
