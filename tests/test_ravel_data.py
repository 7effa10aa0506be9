"""The published RAVEL data: small files of its form, and every way they can be wrong."""

import json
from pathlib import Path

import pytest

from saebench.cli import main
from saebench.errors import TaskError
from saebench.kinds.ravel_data import FILES, choose, load_ravel

ENTITIES = {
    "Lyon": ("France", "Europe", "train"), "Porto": ("Portugal", "Europe", "val"),
    "Osaka": ("Japan", "Asia", "test"), "Lille": ("France", "Europe", "test"),
}  # fmt: skip
TEMPLATES = {
    "Country": {"%s is a city in": "train", "People in %s live in": "val", "The flag of %s is of": "test"},
    "Continent": {"%s is on the continent of": "train", "Near %s, all over": "test"},
}  # fmt: skip


def content() -> dict[str, dict]:
    """The five files of entity type `city`, by name."""
    values = {
        e: {"Country": c, "Continent": k, "Latitude": "1"} for e, (c, k, _) in ENTITIES.items()
    }
    prompts = {a: list(templates) for a, templates in TEMPLATES.items()}
    context = {
        "We saw %s today.": {"split": "train", "entity": None},
        "%s again": {"split": "test", "entity": "Osaka"},
    }
    splits = {entity: split for entity, (_, _, split) in ENTITIES.items()}
    phrase_splits = {t: s for templates in TEMPLATES.values() for t, s in templates.items()}
    parts = (values, prompts, context, splits, phrase_splits)
    return {name.format("city"): part for name, part in zip(FILES, parts, strict=True)}


def write(folder: Path, files: dict) -> Path:
    for name, part in files.items():
        (folder / name).write_text(part if isinstance(part, str) else json.dumps(part))
    return folder


def test_files_become_a_task(tmp_path):
    task = load_ravel(str(write(tmp_path, content())))[0]
    assert task.name == "ravel/city" and task.spec.attributes == ("Country", "Continent")
    assert {r["entity"]: r["split"] for r in task.rows("")} == {
        "Lyon": "fit", "Porto": "select", "Osaka": "test", "Lille": "test"}  # fmt: skip
    country = task.spec.templates["Country"]
    assert country.fit == ("{entity} is a city in",)
    assert country.select == ("People in {entity} live in",)
    assert task.spec.context == {"fit": ("We saw {entity} today.",), "select": (), "test": ()}


def test_any_subset_of_attributes_and_all_types(tmp_path):
    files = content()
    files |= {name.replace("city", "verb"): part for name, part in content().items()}
    folder = str(write(tmp_path, files))
    assert [t.name for t in choose("ravel", folder)] == ["ravel/city", "ravel/verb"]
    [verb] = choose("ravel/verb", folder, ["Continent"])
    assert verb.spec.attributes == ("Continent",)
    assert verb.sha256 != choose("ravel/verb", folder)[0].sha256
    with pytest.raises(TaskError, match="Did you mean 'ravel/verb'"):
        choose("ravel/verbs", folder)


def broken(change) -> dict:
    files = content()
    change(files)
    return files


A, P, W, E, S = (name.format("city") for name in FILES)
CASES = {
    "a file is missing": (lambda f: f.pop(S), (S, "five files")),
    "a template without %s": (lambda f: f[P]["Country"].append("It lies in"), (P, "It lies in")),
    "a text without %s": (lambda f: f[W].update({"Nothing": {"split": "val"}}), (W, "Nothing")),
    "an entity without a value": (lambda f: f[A]["Osaka"].pop("Country"), (A, "Osaka", "Country")),
    "an empty value": (lambda f: f[A]["Osaka"].update(Continent=" "), (A, "Osaka", "Continent")),
    "an entity without a split": (lambda f: f[E].pop("Lyon"), (E, "Lyon")),
    "a template without a split": (lambda f: f[S].pop("%s is a city in"), (S, "%s is a city in")),
    "no template to fit on": (
        lambda f: f[S].update({"%s is on the continent of": "test"}), (S, "Continent", "train")),
    "two entities of the same name": (
        lambda f: f.update({A: '{"Lyon": {"Country": "France"}, "Lyon": {"Country": "Peru"}}'}),
        (A, "Lyon", "twice")),
    "not JSON": (lambda f: f.update({E: "{"}), (E, "not valid JSON")),
    "a list": (lambda f: f.update({E: "[1]"}), (E, "list")),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_named_with_its_file(name, tmp_path, capsys):
    change, words = CASES[name]
    folder = write(tmp_path, broken(change))
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "control:identity", "--ravel-data", str(folder), "--out", str(tmp_path)])
    message = capsys.readouterr().err
    assert stop.value.code == 2
    assert "Traceback" not in message and len(message.strip().splitlines()) == 1
    assert all(word in message for word in words), message


@pytest.mark.parametrize("where", ["nowhere", "."])
def test_no_data_is_said(where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TaskError, match="ravel_city_entity_attributes"):
        load_ravel(where)
