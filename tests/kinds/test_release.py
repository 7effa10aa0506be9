"""The published RAVEL data: small files of its form, and every way they can be wrong."""

from pathlib import Path

import pandas as pd
import pytest
from ravel_files import known_cities, write

import saebench
from saebench.checkpoints import hub
from saebench.cli import main
from saebench.errors import TaskError
from saebench.kinds.entities.release import choose
from saebench.kinds.entities.release_files import FILES, HUB
from saebench.records.store import find, load

ENTITIES = {
    "Lyon": ("France", "Europe", "train"),
    "Porto": ("Portugal", "Europe", "val"),
    "Osaka": ("Japan", "Asia", "test"),
    "Lille": ("France", "Europe", "test"),
}
TEMPLATES = {
    "Country": {"%s is a city in": "train", "People in %s live in": "val", "The flag of %s is of": "test"},
    "Continent": {"%s is on the continent of": "train", "Near %s, all over": "test"},
}


def content() -> dict[str, dict]:
    """The five files of entity type `city`, by name."""
    values = {e: {"Country": c, "Continent": k, "Latitude": "1"} for e, (c, k, _) in ENTITIES.items()}
    prompts = {a: list(templates) for a, templates in TEMPLATES.items()}
    context = {
        "We saw %s today.": {"split": "train", "entity": None},
        "%s again": {"split": "test", "entity": "Osaka"},
    }
    splits = {entity: split for entity, (_, _, split) in ENTITIES.items()}
    phrase_splits = {t: s for templates in TEMPLATES.values() for t, s in templates.items()}
    parts = (values, prompts, context, splits, phrase_splits)
    return {name.format("city"): part for name, part in zip(FILES, parts, strict=True)}


def test_files_become_a_task(tmp_path):
    task = choose("ravel", str(write(tmp_path, content())))[0]
    assert task.name == "ravel/city" and task.spec.attributes == ("Country", "Continent")
    assert {r["entity"]: r["split"] for r in task.rows("")} == {
        "Lyon": "fit",
        "Porto": "select",
        "Osaka": "test",
        "Lille": "test",
    }
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


def test_attributes_of_one_type_are_not_looked_for_in_the_others(tmp_path):
    verbs = content()
    verbs[P] = {"Tense": list(TEMPLATES["Country"])}
    verbs[A] = {entity: {"Tense": "past"} for entity in ENTITIES}
    renamed = {name.replace("city", "verb"): part for name, part in verbs.items()}
    folder = str(write(tmp_path, content() | renamed))
    [verb] = choose("ravel/verb", folder, ["Tense"])
    assert verb.spec.attributes == ("Tense",)
    with pytest.raises(TaskError, match="Tense"):
        choose("ravel/city", folder, ["Tense"])


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
        lambda f: f[S].update({"%s is on the continent of": "test"}),
        (S, "Continent", "train"),
    ),
    "two entities of the same name": (
        lambda f: f.update({A: '{"Lyon": {"Country": "France"}, "Lyon": {"Country": "Peru"}}'}),
        (A, "Lyon", "twice"),
    ),
    "not JSON": (lambda f: f.update({E: "{"}), (E, "not valid JSON")),
    "a list": (lambda f: f.update({E: "[1]"}), (E, "list")),
    "an entity that is no object": (lambda f: f[A].update(Lyon=["France"]), (A, "Lyon", "dictionary")),
    "templates that are no list": (lambda f: f[P].update(Country="%s"), (P, "Country", "list")),
    "a split of another name": (lambda f: f[E].update(Lyon="dev"), (E, "Lyon", "'dev'", "'val'")),
    "a text that is no object": (lambda f: f[W].update({"%s again": "test"}), (W, "%s again", "dictionary")),
}


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
        choose("ravel", where)


def tables(folder: Path, kind: str = "city", twice: bool = False) -> Path:
    """The same data in the form of the hub's copy: a table per split, entities and prompts apart."""
    entities = [
        {
            "ID": f"{i}-0",
            "City": e,
            "URL": "https://…",
            "Country": c,
            "Continent": k,
            "Latitude": "1",
            "split": s,
        }
        for i, (e, (c, k, s)) in enumerate(ENTITIES.items())
    ]
    if twice:
        entities.append(dict(entities[0], ID="9-0", Country="Peru", split="val"))
    prompts = [
        {"Template": t, "Attribute": a, "Source": "RAVEL", "Entity": "", "split": s}
        for a, templates in TEMPLATES.items()
        for t, s in templates.items()
    ]
    for text, about in content()[W].items():
        prompts.append(
            {
                "Template": text,
                "Attribute": "Other",
                "Source": "Wikipedia",
                "Entity": about["entity"],
                "split": about["split"],
            }
        )
    for part, rows in (("entity", entities), ("prompt", prompts)):
        (folder / f"{kind}_{part}").mkdir(parents=True)
        for split, some in pd.DataFrame(rows).groupby("split"):
            file = folder / f"{kind}_{part}" / f"{split}-00000-of-00001.parquet"
            some.drop(columns="split").to_parquet(file)
    return folder


@pytest.fixture
def hub_copy(tmp_path, monkeypatch) -> Path:
    """A local copy as the hub's client leaves it; nothing is fetched."""
    folder = tmp_path / "snapshot"
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda repo, repo_type: str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def test_tables_of_the_hub_say_the_same_as_the_files(hub_copy, tmp_path):
    tables(hub_copy)
    (tmp_path / "files").mkdir()
    [ours], [theirs] = (choose("ravel", str(write(tmp_path / "files", content()))), choose("ravel", HUB))
    assert theirs.name == ours.name == "ravel/city"
    assert theirs.rows("") == ours.rows("")
    assert theirs.spec.templates == ours.spec.templates and theirs.spec.context == ours.spec.context
    assert theirs.sha256 != choose("ravel/city", HUB, ["Continent"])[0].sha256


def test_files_in_a_folder_of_the_copy_are_found(hub_copy):
    (hub_copy / "data").mkdir(parents=True)
    write(hub_copy / "data", content())
    assert [task.name for task in choose("ravel", HUB)] == ["ravel/city"]


def test_names_that_entities_share_are_left_out_of_the_tables_and_counted(tmp_path):
    [task] = choose("ravel", str(tables(tmp_path / "twice", twice=True)))
    assert [row["entity"] for row in task.rows("")] == ["Porto", "Osaka", "Lille"]
    assert task.notes == ("1 names that several entities share are left out",)
    assert choose("ravel", str(tables(tmp_path / "once")))[0].notes == ()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda f: next(f.glob("city_prompt/val*")).unlink(), ("city_prompt", "'val'")),
        (lambda f: next(f.glob("city_entity/val*")).write_text("x"), ("city_entity/val", "table")),
    ],
)
def test_wrong_tables_are_named(harm, words, tmp_path):
    harm(tables(tmp_path))
    with pytest.raises(TaskError) as caught:
        choose("ravel", str(tmp_path))
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


def test_without_a_network_the_hub_copy_is_one_paragraph(tmp_path, monkeypatch, capsys):
    def unreachable(repo, repo_type):
        raise OSError("cannot reach it\nand a second line")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "control:mean", "--ravel-data", HUB, "--out", str(tmp_path / "out")])
    message = capsys.readouterr().err
    assert stop.value.code == 2 and len(message.strip().splitlines()) == 1
    assert HUB in message and "--ravel-data DIR" in message and "Traceback" not in message


def test_the_copy_on_the_hub_can_be_read():
    if not hub.reachable():
        pytest.skip("the Hugging Face hub cannot be reached from here")
    [task] = choose("ravel/city", HUB, ["Country", "Continent", "Language"])
    rows = task.rows("")
    assert len(rows) > 2000 and {row["split"] for row in rows} == {"fit", "select", "test"}
    assert all(task.spec.templates[a].test for a in task.spec.attributes)


def test_published_data_is_scored_from_python(tmp_path, few_steps):
    folder = known_cities(tmp_path)
    result = saebench.evaluate("control:source-patch", ravel_data=folder, task="ravel/city")
    assert result.task.name == "ravel/city" and result.task.model_accuracy == 1
    assert result.task.sha256 == choose("ravel", str(folder))[0].sha256
    cause = {s.attribute: s.value for s in result.scores if s.name == "cause" and s.edit == "source"}
    assert cause["Country"] >= 0.95 and cause["Continent"] >= 0.95


def test_published_data_is_scored_from_the_command_line(tmp_path, few_steps, capsys):
    folder = known_cities(tmp_path)
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "control:mean", "--budget", "tiny", "--ravel-data", str(folder), "--out", str(out)])
    shown = capsys.readouterr().out
    assert stop.value.code == 0 and "ravel/city" in shown
    [path] = find(out)
    assert load(path).result.task.name == "ravel/city" and path.name.startswith("ravel--city--")
    assert any(s.name == "isolate" and s.edit == "das" for s in load(path).result.scores)
