"""The CI recipe, and the commands shown in the documents: what they call exists, with these options."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from paths import ROOT

from saebench.cli import app

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))


def steps(path: Path) -> list[dict]:
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def scripts(path: Path) -> list[str]:
    return [step["run"] for step in steps(path) if "run" in step]


def shown(path: Path) -> Iterator[str]:
    """Blocks of commands, Python left out, and commands within a sentence."""
    text = path.read_text(encoding="utf-8")
    block = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
    yield from (body for kind, body in block.findall(text) if not kind)
    yield from re.findall(r"`((?:saebench|make) [^`\n]+)`", block.sub("", text))


def commands(script: str, program: str) -> Iterator[list[str]]:
    """The words behind every call of a program at the start of a line."""
    for line in script.replace("\\\n", " ").splitlines():
        match = re.match(rf"\s*(?:- run: )?(?:\S*/)?{program}\s+(\S.*)$", line)
        if match:
            # a sentence of explanation may stand behind two spaces and a #
            yield shlex.split(re.split(r"\s(?:2>|&&|\|\|| +#)", match[1])[0], comments=True)


def misfit(words: list[str]) -> str | None:
    """What is wrong with a call of saebench; None if its verb and options exist."""
    command: Any = typer.main.get_command(app)
    words = list(words)
    while hasattr(command, "commands"):
        if not words or words[0] not in command.commands:
            return f"no verb {words[:1]}"
        command = command.commands[words.pop(0)]
    known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    unknown = {word.split("=")[0] for word in words if word.startswith("--")} - known
    return f"no option {unknown}" if unknown else None


@pytest.mark.parametrize("path", [*WORKFLOWS, *DOCUMENTS], ids=lambda p: p.name)
def test_what_is_called_exists(path: Path) -> None:
    texts = scripts(path) if path.suffix == ".yml" else list(shown(path))
    for text in texts:
        for words in commands(text, "saebench"):
            assert misfit(words) is None, (words, misfit(words))
        for words in commands(text, "make"):
            assert words[0] in TARGETS, words


def test_the_recipe_has_what_it_promises() -> None:
    (path,) = [p for p in WORKFLOWS if p.name == "sae-quality.yml"]
    calls = [words for script in scripts(path) for words in commands(script, "saebench")]
    assert [words[0] for words in calls] == ["evaluate", "regress"]
    assert {"--baseline", "--tolerances", "--markdown", "--junit", "--json"} <= {*calls[1]}
    assert [w for script in scripts(path) for w in commands(script, "make")] == [["setup"]]


def test_wrong_calls_are_seen() -> None:
    """The twin."""
    assert misfit(["evalute", "x"]) and misfit(["regress", "x", "--base", "y"])
    assert misfit(["results", "lst"]) and misfit(["results", "list", "--all"])
    assert misfit(["evaluate", "x", "--task", "ioi"]) is None
    (words,) = commands("  .venv/bin/saebench regress a \\\n  --markdown b 2> c || code=$?", "saebench")
    assert words == ["regress", "a", "--markdown", "b"]


def test_the_default_baseline_is_one_committed_file() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/sae-quality.yml").read_text())
    # YAML reads the key `on` as true
    pattern = workflow[True]["workflow_dispatch"]["inputs"]["baseline"]["default"]
    assert len(list(ROOT.glob(pattern))) == 1
    assert pattern in workflow["env"]["BASELINE"]


STUB = """#!/bin/bash
# stands for saebench: writes what regress would write, and leaves with the code it is told
while [ $# -gt 0 ]; do
  case $1 in --markdown) [ "$RC" = 2 ] || echo verdict > "$2";; esac
  shift
done
[ "$RC" = 2 ] && echo "saebench: another task" >&2
exit "$RC"
"""


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_comparing_step_keeps_the_three_codes_apart(code: int, tmp_path: Path) -> None:
    """The scripts of the workflow themselves, run by bash as the runner does."""
    path = ROOT / ".github/workflows/sae-quality.yml"
    named = {step.get("name"): step for step in steps(path)}
    stub = tmp_path / ".venv" / "bin" / "saebench"
    stub.parent.mkdir(parents=True)
    stub.write_text(STUB)
    stub.chmod(0o755)
    (tmp_path / "base.json").touch()
    env = {
        "PATH": os.environ["PATH"],
        "RC": str(code),
        "BASELINE": "base*.json",
        "TASK": "ioi",
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
    }
    shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]
    subprocess.run([*shell, named["Compare with the baseline"]["run"]], cwd=tmp_path, env=env, check=True)
    assert (tmp_path / "output").read_text() == f"code={code}\n"
    said = (tmp_path / "summary").read_text()
    assert said == (tmp_path / "verdict.md").read_text()
    assert ("another task" in said) == ("could not be compared" in said) == (code == 2)
    last = [*shell, named["Verdict"]["run"]]
    assert subprocess.run(last, env=env | {"CODE": str(code)}).returncode == code
