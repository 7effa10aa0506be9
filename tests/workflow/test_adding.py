"""What adding something costs: each is added to a copy of the tree, its places counted, and seen everywhere."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

SHOWN = Path(__file__).with_name("show_added.py")

AXIS = {
    "scoring/shine.py": '''"""Shine: half of the activations' share."""

from saebench.records.outcomes import Key
from saebench.scoring.base import Context, Entry, Headline
from saebench.scoring.detection import scalar

AXIS = "shine"


def score(ctx: Context) -> tuple[Headline, list[Entry]]:
    value = ctx.mean(Key(AXIS, "light"))
    return Headline(value, scalar(0.0, value), scalar(1.0, value), ctx.test.n), []
''',
    "axes/shine.py": '''"""Shine: measured as one half, with a prompt's parity."""

import torch

from saebench.axes.base import Bench, Measure, Subject, Tick
from saebench.records.outcomes import Key, Outcomes
from saebench.scoring.shine import AXIS


def measure(subject: Subject, bench: Bench, out: Outcomes, seed: int, tick: Tick) -> None:
    out.add(Key(AXIS, "light"), torch.arange(len(bench.section.test)) % 2)


MEASURE = Measure(measure)
''',
    "scoring/axes.py": (
        (
            "_LIST = (\n",
            '_LIST = (\n    Axis("shine", "shine", import_module("saebench.scoring.shine").score, 7),\n',
        ),
        (
            "from typing import NamedTuple\n",
            "from importlib import import_module\nfrom typing import NamedTuple\n",
        ),
    ),
}
KIND = {
    "spec.py": (
        (
            "SPECS: dict[str, type[Spec]] = {",
            'class NumbersSpec(SyntheticSpec):\n    """Numbers."""\n\n    kind: Literal["numbers"]\n\n\n'
            'SPECS: dict[str, type[Spec]] = {"numbers": NumbersSpec, ',
        ),
    ),
    "kinds/numbers.py": '''"""Numbers: drawn like other synthetic data, with a note."""

from dataclasses import replace

from saebench.kinds import synthetic


def build(task, model, site, settings):
    return replace(synthetic.build(task, model, site, settings), notes=("made of numbers",))
''',
    "kinds/__init__.py": (
        (
            "KINDS: dict[str, Kind] = {\n",
            "from saebench.kinds import numbers\n\nKINDS: dict[str, Kind] = {\n"
            '    "numbers": Kind(numbers.build, generator_on),\n',
        ),
    ),
}
CONTROL = {
    "dictionaries/zero.py": '''"""Zero: reconstructs nothing."""

import torch

from saebench.dictionary import Dictionary, Encoding


class Zero(Dictionary):
    name = "control:zero"

    def __init__(self, width):
        self.W_dec = torch.zeros(2, width)

    def encode(self, acts):
        return Encoding(acts.new_zeros(len(acts), 2), acts.new_zeros(acts.shape[1]))


def make(bench, value, seed):
    return Zero(bench.section.d_in)
''',
    "evaluation/controls.py": (
        (
            "CONTROLS: dict[str, Control] = {\n",
            'CONTROLS: dict[str, Control] = {\n    "zero": Control('
            '"saebench.dictionaries.zero:make", "nothing at all", in_all=_once),\n',
        ),
    ),
}
FORMAT = {
    "checkpoints/stacked.py": '''"""Stacked: encoder and decoder in one tensor."""

from saebench.checkpoints.base import Contents, Parts
from saebench.checkpoints.files import read_tensors


def recognise(contents: Contents) -> bool:
    return len(contents.having("stacked")) == 1


def load(contents: Contents, architecture: str | None) -> Parts:
    (weights,) = contents.having("stacked")
    encoder, decoder = read_tensors(weights)["stacked"]
    n, d = decoder.shape
    state = {"W_enc": encoder.T, "W_dec": decoder, "b_enc": decoder.new_zeros(n), "b_dec": decoder.new_zeros(d)}
    return Parts({"architecture": "standard", "d_in": d, "d_sae": n}, state)
''',
    "checkpoints/__init__.py": (
        (
            "FORMATS: dict[str, Format] = {\n",
            "from saebench.checkpoints import stacked\n\nFORMATS: dict[str, Format] = {\n"
            '    "stacked": Format(stacked.recognise, stacked.load, "one tensor of two"),\n',
        ),
    ),
}
OPTION = {
    "evaluation/options.py": (
        (
            "    seed: int = option(",
            '    whisper: str | None = option(None, "Said of every result.")\n    seed: int = option(',
        ),
    ),
    "evaluation/arena.py": (
        (
            "warnings=(*realised.warnings,",
            "warnings=(*([options.whisper] if options.whisper else []), *realised.warnings,",
        ),
    ),
}
PLACES = {
    "axis": (AXIS, 3),
    "kind": (KIND, 3),
    "control": (CONTROL, 2),
    "format": (FORMAT, 3),
    "option": (OPTION, 3),
}
"""What is added: the files it touches, and how many it may touch."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A copy of the project with one of each added."""
    folder = tmp_path_factory.mktemp("copy")
    hidden = shutil.ignore_patterns("__pycache__", "studies")
    shutil.copytree(ROOT / "saebench", folder / "saebench", ignore=hidden)
    shutil.copytree(ROOT / "tasks", folder / "tasks")
    for places, _ in PLACES.values():
        for name, change in places.items():
            path = folder / "saebench" / name
            if isinstance(change, str):
                assert not path.exists()
                path.write_text(change, encoding="utf-8")
                continue
            text = path.read_text(encoding="utf-8")
            for old, new in change:
                assert text.count(old) == 1, (name, old)
                text = text.replace(old, new)
            path.write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("what", PLACES)
def test_few_places_are_touched(what):
    places, most = PLACES[what]
    assert len(places) <= most


def test_what_was_added_shows_everywhere(tree, tmp_path):
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tree}{os.pathsep}{ROOT / 'tests' / 'helpers'}",
        "SAEBENCH_CACHE": str(tmp_path / "cache"),
    }
    command = [sys.executable, "-W", "ignore", str(SHOWN), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "all shown"
