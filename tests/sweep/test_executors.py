"""Wherever units are worked off, the results are the same."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from command import run

from saebench.cli import main
from saebench.records import store

pytestmark = pytest.mark.slow
SWEEP = [
    "demo:topk",
    "demo:standard",
    "control:mean",
    "control:identity",
    "--task",
    "ioi",
    "--budget",
    "tiny",
]
EXECUTORS = {
    "processes": ("sweep", "--workers", "2"),
    "ray": ("sweep", "--ray", "auto", "--workers", "2"),
    "evaluate": ("evaluate", "--workers", "2"),
}


def scored(out: Path) -> dict[str, object]:
    """Results without when and where they were made, and outcomes byte by byte."""
    files = {}
    for path in store.find(out):
        document = json.loads(path.read_text("utf-8"))
        del document["created"], document["provenance"]
        files[path.name] = document
        files[path.stem] = path.with_suffix(".parquet").read_bytes()
    return files


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> dict[str, object]:
    out = tmp_path_factory.mktemp("here")
    with pytest.raises(SystemExit) as stop:
        main(["sweep", *SWEEP, "--out", str(out)])
    assert stop.value.code == 0
    return scored(out)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_results_are_those_of_this_process(executor, here, tmp_path, capsys, monkeypatch):
    if executor == "ray" and find_spec("ray") is None:
        pytest.skip("needs ray: pip install 'saebench[ray]'")
    verb, *words = EXECUTORS[executor]
    code, _, err = run(capsys, verb, *SWEEP, *words, "--out", str(tmp_path))
    assert code == 0, err
    assert scored(tmp_path) == here and len(here) == 8
