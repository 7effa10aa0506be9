"""Planting from a table, with other text beside the questions."""

import csv
import re
from pathlib import Path
from random import Random

import pytest
import torch
from command import run as command
from paths import BUNDLED, DEMO, ROOT
from transformers import AutoTokenizer

from saebench.demo import corpus
from saebench.planting import making
from saebench.planting.beside import certify_answers, draw_rows, interchanged
from saebench.planting.interchange import Prompts, at_entity, lengths, token_ids
from saebench.planting.making import open_planted, plant, read_certificate
from saebench.planting.network import Halves, new_model
from saebench.planting.reading import read_spec
from saebench.planting.world import make_world

HEAD = """name = "small"
entities = { table = "towns.csv", column = "town" }
[model]
d_model = 16
heads = 2
[training]
steps = 2
batch = 16
[variables.land]
[variables.coast]
"""
TEXTS = """
[[text]]
task = "ioi"
share = 0.3
held_out_pairs = 0.1
at_site = true
[[text]]
share = 0.2
templates = ["They saw {entity}, not {entity2}.", "Here is the {thing} of {entity}."]
lists = { thing = ["map", "old map"] }
"""
LANDS = ("Ar", "Bor", "New Cor")


def write(folder: Path, spec: str = HEAD, **columns: list[str]) -> Path:
    """A spec and its table of 42 towns, a third of them of two or three words."""
    towns = [
        f"T{chr(97 + i % 26)}{'xy'[i // 26]}" + (" Old Port" if i % 6 == 0 else " Bay" if i % 6 == 3 else "")
        for i in range(42)
    ]
    table = {
        "town": towns,
        "land": [LANDS[i % 3] for i in range(42)],
        "coast": ["east" if i % 3 else "west" for i in range(42)],
        **columns,
    }
    with (folder / "towns.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(table)
        rows.writerows(zip(*table.values(), strict=True))
    path = folder / "small.toml"
    path.write_text(spec)
    return path


def test_questions_about_entities_of_several_words_are_what_a_tokenizer_makes_of_them(tmp_path: Path):
    world = make_world(read_spec(write(tmp_path)))
    texts = [world.spec.phrasings(v).train[i] for v, i in (("land", 0), ("land", 7), ("coast", 3))]
    template = torch.tensor([3, 10, 3 + 20 + 3])  # three texts of filler, then twenty of a variable
    prompts = Prompts(template, torch.tensor([0, 1, 3]))
    ids, length, site = (f(world, prompts) for f in (token_ids, lengths, at_entity))
    for row, text, entity in zip(range(3), texts, (0, 1, 3), strict=True):
        wanted = world.tokenizer(text.replace("{entity}", world.entities[entity]))["input_ids"]
        assert ids[row, 1 : length[row]].tolist() == wanted
        assert (ids[row, length[row] :] == world.tokenizer.pad_token_id).all()
        last = world.entities[entity].split()[-1]
        assert world.tokenizer.decode([int(ids[row, site[row]])]).strip() == last
    assert [len(name.split()) for name in (world.entities[0], world.entities[1])] == [3, 1]


def test_values_are_the_table_s_and_answers_their_first_words(tmp_path: Path):
    world = make_world(read_spec(write(tmp_path)))
    for at, name in enumerate(("land", "coast")):
        given = world.spec.table[name]
        assert [world.values[at][label] for label in world.labels[:, at]] == list(given)
    answers = world.tokenizer.batch_decode(world.answer_ids[0][:, None])
    assert sorted(answers) == [" Ar", " Bor", " New"]
    spelled = world.answers[world.spec.table["land"].index("New Cor"), 0]
    assert world.tokenizer.decode(spelled) == " New Cor"


BROKEN = {
    "column": (HEAD.replace('"town"', '"twon"'), {}, "no column for the entities.*twon"),
    "variable": (HEAD + "[variables.size]\n", {}, "no column for the variable 'size'"),
    "file": (HEAD.replace("towns.csv", "none.csv"), {}, "cannot be read"),
    "entry": (HEAD.replace(', column = "town"', ""), {}, "entities has table"),
    "twice": (HEAD, {"town": ["Bay"] * 42}, "lists 'Bay' twice"),
    "empty": (HEAD, {"land": ["Ar", *[""] * 41]}, "has no land"),
    "alike": (HEAD, {"land": ["New Ar", "New Bor"] * 21}, "begin with 'New'"),
    "letters": (HEAD, {"land": ["St. Ar", "Bor"] * 21}, "should match pattern"),
    "present": (HEAD + "present = 0.5\n", {}, "no `present`"),
    "values": (HEAD + "values = ['east', 'north']\n", {}, "differ in north, west"),
    "nested": (HEAD + "follows = 'land'\nnested = true\n", {"coast": list("abcdefg") * 6}, "has two of"),
    "list": (HEAD + TEXTS.replace("thing =", "thong ="), {}, "different words of 'thing'"),
    "share": (HEAD + TEXTS.replace("0.3", "0.7"), {}, "take 0.9"),
    "kind": (HEAD + TEXTS.replace('"ioi"', '"ravel"'), {}, "of the kind 'entities'"),
    "both": (HEAD + TEXTS.replace("at_site", "answered"), {}, "has its answered from there"),
    "asks": (HEAD + TEXTS + "at_site = true\n", {}, "are for texts with answers"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_bad_table_or_text_is_one_paragraph(broken: str, tmp_path: Path, capsys):
    spec, columns, says = BROKEN[broken]
    path = write(tmp_path, spec, **columns)
    code, out, err = command(capsys, "plant", str(path), "--out", str(tmp_path / "out"))
    assert code == 2 and not out and "Traceback" not in err
    assert re.search(says, " ".join(err.split())), err


def test_held_out_pairs_never_meet_and_are_what_the_certificate_asks_about(tmp_path: Path):
    ioi = read_spec(write(tmp_path, HEAD + TEXTS)).text[0]
    rng, names = Random(0), set(ioi.lists["name"])
    for held_out in (False, True):
        for _ in range(400):
            text = ioi.draw(rng, (), held_out).text.replace(",", "").replace(".", "")
            assert (frozenset(names & set(text.split())) in ioi.apart) == held_out


def test_answers_slip_as_often_as_stated_in_training_and_never_in_the_certificate(tmp_path: Path):
    slipping = TEXTS.replace("at_site = true", "slips = 0.1\nat_site = true")
    ioi = read_spec(write(tmp_path, HEAD + slipping)).text[0]
    for slips, low, high in ((True, 0.07, 0.13), (False, 0, 0)):
        rng = Random(1)
        told = [ioi.draw(rng, (), slips=slips) for _ in range(2000)]
        # who gives is named twice in the prompt, who receives once
        given = [one.prompt.split().count(one.text.split()[-1].strip(".")) for one in told]
        assert set(given) <= {1, 2} and low <= given.count(2) / len(given) <= high


def test_the_last_token_s_residual_is_what_goes_over(tmp_path: Path):
    world = make_world(read_spec(write(tmp_path, HEAD + TEXTS)))
    halves = Halves(new_model(world.spec, len(world.tokenizer)).eval(), 1)
    rows, at_site = draw_rows(world, torch.Generator().manual_seed(0), 40)
    assert 0 < int(at_site.sum()) < 40 and ((rows.last >= 0) == at_site).all()
    asked = at_site.nonzero()[:, 0]
    with torch.no_grad():
        hidden = halves.before(rows.ids)
        kept = interchanged(halves, hidden, rows.last, asked, asked)
        assert torch.allclose(kept, halves.after(hidden[asked], rows.last[asked]), atol=1e-6)
        moved = interchanged(halves, hidden, rows.last, asked, asked.roll(1))
    assert not torch.allclose(moved, kept, atol=1e-6)
    told = certify_answers(halves, world, world.spec.text[0], 50)
    assert told.behaviour < 0.5 and told.interchange is not None


def test_a_model_with_a_table_and_texts_is_opened_again_without_their_files(tmp_path: Path, capsys):
    path = write(tmp_path, HEAD + TEXTS)
    wanted = read_spec(path)
    assert command(capsys, "plant", str(path), "--out", str(tmp_path))[0] == 1
    (tmp_path / "towns.csv").unlink()
    opened = open_planted(tmp_path / "small")
    assert opened.world.spec == wanted and opened.certificate.spec_sha256 == wanted.sha256
    assert set(opened.certificate.answers) == {"ioi"}
    assert any(failure.startswith("ioi: behaviour") for failure in opened.certificate.failures)
    with (tmp_path / "small" / "task" / "entities.csv").open(newline="") as file:
        assert [row["land"] for row in csv.DictReader(file)] == list(wanted.table["land"])


def test_a_spec_without_files_leaves_no_whole_spec_of_the_one_before(tmp_path: Path):
    folder = plant(write(tmp_path), tmp_path).folder
    assert (folder / "spec.json").exists()
    plain = HEAD.split("[variables.land]")[0].replace('{ table = "towns.csv", column = "town" }', "40")
    path = tmp_path / "small.toml"
    path.write_text(plain + "[variables.land]\nvalues = 3\n")
    plant(path, tmp_path)
    assert open_planted(folder).world.spec == read_spec(path)


def test_a_planted_model_stays_whole_where_the_next_one_cannot_be_certified(tmp_path: Path, monkeypatch):
    path = write(tmp_path)
    folder = plant(path, tmp_path).folder

    def contents() -> dict[Path, bytes]:
        files = [file for file in folder.rglob("*") if file.is_file() and file.name != making.STATE]
        return {file: file.read_bytes() for file in files}

    def stopped(*_):
        raise KeyboardInterrupt

    before = contents()
    path.write_text(HEAD.replace("steps = 2", "steps = 3"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(making, "certify", stopped)
        plant(path, tmp_path)
    assert contents() == before
    assert plant(path, tmp_path).made
    assert contents().keys() == before.keys() and contents() != before


def test_specs_without_tables_and_texts_keep_their_digest():
    twin = DEMO / "planted" / "twin-used"
    certificate = read_certificate(twin)
    assert certificate is not None and certificate.spec_sha256 == read_spec(twin / "spec.toml").sha256


def test_the_bundled_model_s_words_are_those_a_spec_of_it_makes(tmp_path: Path):
    words, ravel = corpus.words(), ROOT / "tasks" / "ravel"
    spec = f'entities = {{ table = "{ravel / "cities.csv"}", column = "city" }}\nname = "cities"\n'
    spec += "".join(f"[variables.{name}]\nrank = 4\n" for name in corpus.ATTRIBUTES)
    made = read_spec(write(tmp_path, spec + TEXTS.split("[[text]]\nshare")[0]))
    assert made.entities == tuple(row["city"] for row in words.cities)
    # the pairs that the bundled model has never seen together
    assert made.text[0].apart == words.held_out
    known = make_world(made).tokenizer.get_vocab().keys()
    saved = AutoTokenizer.from_pretrained(BUNDLED).get_vocab().keys()
    names = {f"Ġ{word}" for row in words.cities for value in row.values() for word in value.split()}
    assert names | {f"Ġ{name}" for name in words.names} <= known & saved
