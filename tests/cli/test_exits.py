"""An exit code says what it says: 1 is a check that failed, never a crash or a terminal's alphabet."""

import os
import subprocess
import sys

import pytest
from command import run
from paths import RESULTS

from saebench.cli import at_home
from saebench.records import store


def a_result() -> str:
    return str(next(p for p in store.find(RESULTS) if p.name.startswith("ioi")))


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "utf-8"])
def test_a_sound_candidate_passes_the_gate_on_every_terminal(encoding):
    words = [sys.executable, "-m", "saebench", "regress", a_result(), "--baseline", a_result()]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(words, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr.decode(encoding)
    assert done.stdout


def test_a_crash_is_not_a_check_that_failed(capsys, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("saebench.regression.compare.regress", broken)
    code, _, err = run(capsys, "regress", a_result(), "--baseline", a_result())
    assert code == 2 and "ZeroDivisionError" in err and "this is a bug" in err


@pytest.mark.parametrize("device", ["mps", "xpu", "cuda:7", "nonsense", "meta7"])
def test_a_device_that_is_not_there_is_one_paragraph(device, capsys, tmp_path):
    code, _, err = run(capsys, "evaluate", "control:mean", "--device", device, "--out", str(tmp_path))
    assert code == 2 and device in err and "Traceback" not in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "words", [["results", "list"], ["results", "verify"], ["leaderboard"], ["figures"], ["disentangle"]]
)
def test_a_results_directory_that_is_not_there(words, capsys, tmp_path):
    code, out, err = run(capsys, *words, str(tmp_path / "nowhere"))
    assert code == 2 and "There is no results directory" in err and not out


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (["show", "~/r.json"], "/r.json"),
        (["regress", "x", "--baseline=~/r.json"], "~"),
        (["leaderboard", "~/none"], "/none"),
    ],
)
def test_a_quoted_home_is_the_home_everywhere(words, read, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    code, _, err = run(capsys, *words)
    assert code == 2 and (f"{tmp_path}{read}" in err or read == "~") and "'~" not in err
    assert at_home("--out=~/x") == f"--out={tmp_path}/x" and at_home("a~b") == "a~b"
