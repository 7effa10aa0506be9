"""The examples in docs/many.md: commands exist, the file is read, scripts parse."""

import re
import subprocess

import pytest
import typer
from paths import ROOT

from saebench.cli import app
from saebench.sweep import spec

TEXT = (ROOT / "docs" / "many.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.S)


def test_the_file_is_read(tmp_path):
    (tmp_path / "sweep.toml").write_text(blocks("toml")[0], encoding="utf-8")
    one, two = spec.read(tmp_path / "sweep.toml")
    assert one.seeds == two.seeds == (0, 1, 2) and (one.model, two.model) == ("demo", "gpt2")


def commands() -> list[list[str]]:
    lines = [line.partition("#")[0].strip() for script in blocks("bash") for line in script.splitlines()]
    return [line.removeprefix("srun ").split() for line in lines if line.startswith(("saebench ", "srun "))]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_and_their_options_exist(words):
    command = typer.main.get_command(app).commands[words[1]]
    if hasattr(command, "commands"):
        command = command.commands[words[2]]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_scripts_parse():
    for script in blocks("bash"):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    for script in blocks("python"):
        compile(script, "many.md", "exec")
    assert len(blocks("python")) == 1 and len(commands()) >= 8
