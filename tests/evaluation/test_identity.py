"""A result's id changes with everything it is made of, and with nothing else."""

from dataclasses import fields, replace

import pytest

from saebench.evaluation import arena as arenas
from saebench.evaluation.arena import Arena
from saebench.evaluation.options import Options
from saebench.evaluation.sources import Source
from saebench.models.facts import ModelFacts
from saebench.scoring.axes import EVERY
from saebench.site import Site
from saebench.spec import load_task

SITE = Site.parse("blocks.1.hook_resid_pre@entity")
MOVES = {"budget": "full", "seed": 1, "supervised": "mse", "parametrization": "coupled"}
"""Options that change numbers by themselves."""
ELSEWHERE = {
    "device": "its kind is in the id as that of the model",
    "dtype": "in the id as that of the model",
    "tasks": "the task's digest is in the id",
    "ravel_data": "the task's digest is in the id",
    "ravel_attributes": "the task's digest is in the id",
    "architecture": "the dictionary's digest is in the id",
    "memory": "numbers do not depend on the size of a batch",
    "allow_incompetent": "whether a number is shown at all",
    "strict": "whether a number is shown at all",
    "joint_edits": "in the id of tasks that have such sources: see the test of its own",
    "force_mismatch": "whether a number is shown at all",
}


def arena(task: str = "ravel", **changes) -> Arena:
    known = {"facts": ModelFacts("demo", "m" * 64, ()), "dtype": "torch.float32", "device": "cpu"}
    source = {name: changes.pop(name) for name in known if name in changes}
    return Arena(load_task(task), Source(**known | source, load=pytest.fail), Options(**changes))


def test_every_option_is_in_the_id_or_has_a_reason_not_to_be():
    assert {field.name for field in fields(Options)} == MOVES.keys() | ELSEWHERE.keys()


@pytest.mark.parametrize("name", MOVES)
def test_options_that_change_numbers_change_the_id(name):
    assert arena(**{name: MOVES[name]}).id("x", SITE) != arena().id("x", SITE)


@pytest.mark.parametrize("change", [{"memory": "2GB"}, {"allow_incompetent": True}, {"force_mismatch": True}])
def test_other_options_do_not(change):
    assert arena(**change).id("x", SITE) == arena().id("x", SITE)


@pytest.mark.parametrize(
    "changed",
    [
        lambda: arena().id("y", SITE),
        lambda: arena().id("x", replace(SITE, position="end")),
        lambda: arena("ioi").id("x", SITE),
        lambda: arena(facts=ModelFacts("demo", "n" * 64, ())).id("x", SITE),
        lambda: arena(dtype="torch.bfloat16").id("x", SITE),
        lambda: arena(device="cuda").id("x", SITE),
    ],
    ids=["dictionary", "site", "task", "model", "dtype", "device"],
)
def test_what_is_scored_and_where_changes_the_id(changed):
    assert changed() != arena().id("x", SITE)


def test_a_model_of_the_same_weights_has_one_id_whatever_it_is_called():
    assert arena(facts=ModelFacts("mine", "m" * 64, ())).id("x", SITE) == arena().id("x", SITE)


@pytest.mark.parametrize("name", EVERY)
def test_the_version_of_an_axis_changes_the_ids_of_results_that_have_it(name, monkeypatch):
    before = {task: arena(task).id("x", SITE) for task in ("ravel", "ioi", "synthetic/occlusion")}
    monkeypatch.setitem(EVERY, name, EVERY[name]._replace(version=99))
    for task, old in before.items():
        measured = not EVERY[name].further or name in load_task(task).spec.further_axes
        assert (arena(task).id("x", SITE) != old) == measured


def leaves(settings, path=()):
    for name, value in settings.items():
        yield from leaves(value, (*path, name)) if isinstance(value, dict) else [(*path, name)]


def changed(settings, path):
    """The settings with one value replaced."""
    first, *rest = path
    return {**settings, first: changed(settings[first], rest) if rest else "another"}


@pytest.mark.parametrize("path", [(name, *p) for name, a in EVERY.items() for p in leaves(a.settings)])
def test_settings_of_an_axis_change_the_ids_of_results_that_have_it(path, monkeypatch):
    """How masks and rotations are learned; on IOI nothing is learned, and its ids stay."""
    name, *rest = path
    before = {task: arena(task).id("x", SITE) for task in ("ravel", "ioi")}
    monkeypatch.setitem(EVERY, name, EVERY[name]._replace(settings=changed(EVERY[name].settings, rest)))
    assert arena("ravel").id("x", SITE) != before["ravel"]
    assert arena("ioi").id("x", SITE) == before["ioi"]


def test_joint_edits_change_the_id_and_their_order_does_not():
    ids = [
        arena("ioi", joint_edits=sets).id("x", SITE)
        for sets in ((), ("s+pos",), ("io+s",), ("s+io",), ("io+s", "s+pos"))
    ]
    assert len({*ids}) == 4 and ids[2] == ids[3]
    assert ids[4] == arena("ioi", joint_edits=("pos+s", "io+s")).id("x", SITE)


def test_sizes_of_edits_change_the_id(monkeypatch):
    before = arena().id("x", SITE)
    monkeypatch.setattr(arenas, "EDIT_SIZES", (1, 2))
    assert arena().id("x", SITE) != before
