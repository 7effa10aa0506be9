"""Every option of `evaluate` runs to a score: the list is the declaration's, so a new one without a case fails."""

import inspect
import json
from dataclasses import fields
from typing import Any, NamedTuple

import pytest
from command import run
from ravel_files import known_cities
from tiny_task import write_sae, write_task

from saebench.cli import scoring
from saebench.errors import OptionError
from saebench.evaluation.options import Options, Request
from saebench.models.facts import DTYPES
from saebench.records import store
from saebench.reporting.exports import FORMS


class Case(NamedTuple):
    words: str
    """What is typed; words in capitals are places."""
    says: dict[str, Any] = {}  # noqa: RUF012 a NamedTuple field, never written to
    """What the result then says, by path."""


TINY = "control:mean --task tiny --tasks TASKS --out OUT"
"""On a task of eight dimensions."""
IOI = "--task ioi --out OUT"
CASES = [
    Case(
        f"{TINY} --budget quick --seed 3 --device auto --supervised mse --format json --export parquet --force",
        {"task.name": "tiny", "budget": "quick", "seed": 3, "provenance.device": "cpu"},
    ),
    Case(
        f"{TINY} --format table --export sae-bench --supervised mean --device cpu --allow-incompetent --debug"
    ),
    Case(
        "SAE --task tiny --tasks TASKS --architecture standard,no-b-dec --force-mismatch --name ../<b> --out OUT"
        " --export csv --budget tiny",
        {"dictionary.name": "../<b>", "dictionary.d_in": 8},
    ),
    Case(
        f"demo:topk --model demo --site blocks.1.hook_resid_pre@end --memory 64MB --strict {IOI}"
        " --dtype float32 --parametrization independent",
        {"model.name": "demo", "site": "blocks.1.hook_resid_pre@end", "provenance.dtype": "float32"},
    ),
    Case(f"control:mean --joint-edits s+pos,io+s+pos --workers 2 {IOI}", {"axis_versions.joint": 1}),
    Case(f"control:mean --dtype bfloat16 --parametrization coupled {IOI}", {"provenance.dtype": "bfloat16"}),
    Case(f"control:mean --dtype float16 --parametrization names {IOI}", {"provenance.dtype": "float16"}),
    Case(
        "control:mean --ravel-data RAVEL --ravel-attributes Country,Continent --out OUT",
        {"task.name": "ravel/city"},
    ),
]
CHOICES = {"dtype": DTYPES, "export": FORMS, "format": ("table", "json"), "supervised": ("mean", "mse")}
"""Options of a few words, each of which is tried."""


def flags(name: str) -> list[str]:
    """What is given for an option, over all cases."""
    typed = [case.words.split() for case in CASES]
    flag = f"--{name.replace('_', '-')}"
    return [[*words, "on"][words.index(flag) + 1] for words in typed if flag in words]


def test_every_declared_option_is_tried():
    own = set(inspect.signature(scoring.evaluate).parameters) - {"saes"}
    assert {name for name in own | {f.name for f in fields(Options)} if not flags(name)} == set()
    for name, choices in CHOICES.items():
        assert set(flags(name)) == set(choices), name


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, str]:
    """A synthetic task of eight dimensions, an SAE of that width, and published RAVEL data."""
    root = tmp_path_factory.mktemp("options")
    (root / "ravel").mkdir()
    tasks, sae = write_task(root / "tasks"), write_sae(root / "sae")
    ravel = known_cities(root / "ravel")
    return {"TASKS": str(tasks), "RAVEL": str(ravel), "SAE": str(sae)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.words)
def test_options_run_to_a_score(case, places, tmp_path, capsys, few_steps):
    words = [{**places, "OUT": str(tmp_path)}.get(word, word) for word in case.words.split()]
    words += [] if "--budget" in words else ["--budget", "tiny"]
    code, out, err = run(capsys, "evaluate", *words)
    assert code == 0, err
    [path] = store.find(tmp_path)
    document = json.loads(path.read_text())
    scored = [axis["value"] for axis in document["axes"].values() if axis["value"] is not None]
    assert len(scored) >= 3 and document["status"] == "success" and out
    for keys, value in case.says.items():
        seen = document
        for key in keys.split("."):
            seen = seen[key]
        assert seen == value, keys
    # a name may hold anything; nothing is written elsewhere
    assert not (tmp_path.parent / "<b>").exists() and path.is_relative_to(tmp_path)


@pytest.mark.parametrize(
    ("saes", "names"),
    [
        (("a", "b"), ("x",)),
        (("demo:all",), ("x",)),
        (("a",), ("",)),
        (("a",), ("x\ny",)),
        (("a", "b"), ("x", "x")),
        (("control:mean",), ("x",)),
    ],
)
def test_names_that_do_not_fit(saes, names):
    with pytest.raises(OptionError, match="--name"):
        Request(saes, names=names).named()


def test_names_stand_for_the_saes_in_their_order():
    request = Request(("a", "control:mean", "b", "a"), names=("x", "y"))
    assert request.named() == {"a": "x", "b": "y"} and Request(("a",)).named() == {}
