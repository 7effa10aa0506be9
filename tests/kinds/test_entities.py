"""The RAVEL kind: what is asked, what is kept, where sources come from, which answers count."""

import csv
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import BUNDLED
from safetensors.torch import load_file
from tiny_models import save_tiny

from saebench.cross_section import CrossSection
from saebench.edits.das import fit_das, leads
from saebench.edits.pairs import balances
from saebench.errors import IncompetentModelError, SiteError, TaskError
from saebench.kinds.base import Built, Settings
from saebench.kinds.entities.facts import Entity, Phrase, cut, in_other_words, read_facts
from saebench.kinds.entities.planted import read_truth
from saebench.kinds.entities.prompts import draw_prompts, write_prompt
from saebench.kinds.entities.sections import build, draw_source
from saebench.measures.subspaces import overlap, swapped
from saebench.models.language_model import LanguageModel
from saebench.models.loading import load_model
from saebench.site import Site
from saebench.spec import load_task, read_task

SITE = Site.parse("blocks.1.hook_resid_pre@entity")
TASK = load_task("ravel")
TOML = """
name = "places"
version = 1
kind = "entities"
title = "Places"
summary = "Two facts."
citation = "none"
table = "places.csv"
entity = "city"
attributes = ["country", "continent"]
nested = { country = "continent" }
[templates.country]
fit = ["The city of {city} is in the country of"]
test = ["On the map, {city} lies within the borders of"]
[templates.continent]
fit = ["The city of {city} is on the continent of"]
test = ["She moved to {city}, so she now lives on the continent of"]
"""


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return load_model("demo", device="cpu")


@pytest.fixture(scope="module")
def built(model) -> Built:
    return build(TASK, model, SITE, Settings("quick"))


@pytest.fixture(scope="module")
def section(built) -> CrossSection:
    return built.section


def splits(section: CrossSection):
    return {name: getattr(section, name) for name in ("fit", "select", "test")}


def folder(path: Path, rows: list[dict[str, str]], toml: str = TOML) -> Path:
    path.mkdir(exist_ok=True)
    (path / "task.toml").write_text(toml)
    with (path / "places.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def cities(*countries: str) -> list[dict[str, str]]:
    """Rows of the bundled table whose country is one of those."""
    keys = ("city", "country", "continent")
    rows = [{k: r[k] for k in keys} for r in TASK.rows("cities.csv")]
    return [row for row in rows if row["country"] in countries]


def test_every_prompt_that_is_kept_is_answered_rightly(section):
    for split in splits(section).values():
        clean = split.readout.run({"": split.acts})[""]
        assert torch.equal(clean.top, split.readout.answer)
        assert (clean.ld > 0).all()


def test_entities_and_phrasings_are_disjoint(model):
    facts = read_facts(TASK, model, None, 0)
    names = {split: {e.name for e in entities} for split, entities in facts.entities.items()}
    assert not names["fit"] & names["select"] and not names["fit"] & names["test"]
    assert not names["select"] & names["test"]
    assert sum(map(len, names.values())) == len(TASK.rows("cities.csv"))
    for at in range(3):
        assert not set(facts.phrases["fit"][at]) & set(facts.phrases["test"][at])
        assert facts.phrases["select"][at] == facts.phrases["fit"][at]


def test_sources_have_another_value_and_come_from_the_same_split(section):
    acts_of = {name: {tuple(a) for a in split.acts.tolist()} for name, split in splits(section).items()}
    for split in splits(section).values():
        for at, attribute in enumerate(section.attributes):
            new = split.source_labels[attribute.name]
            assert (new[:, at] != split.labels[:, at]).all()
            # an entity's labels fix it well enough: every source's labels occur in its split
            known = {tuple(row) for row in split.labels.tolist()}
            assert {tuple(row) for row in new.tolist()} <= known
    assert not acts_of["fit"] & acts_of["test"]


def test_expected_is_the_new_value_where_asked_and_the_old_elsewhere(section, model):
    facts = read_facts(TASK, model, None, 0)
    test = section.test
    for at, attribute in enumerate(section.attributes):
        for i in range(0, len(test), 17):
            asked = int(test.query[i])
            label = test.source_labels[attribute.name][i, at] if asked == at else test.labels[i, asked]
            value = section.attributes[asked].values[int(label)]
            assert test.expected[attribute.name][i] == model.single_token(" " + value.split()[0])
            assert test.expected[attribute.name][i] == facts.answers[asked][label]


def test_sources_are_not_those_of_a_few_countries(section):
    for attribute in section.attributes:
        countries = section.test.source_labels[attribute.name][:, 0]
        assert torch.bincount(countries).max() / len(countries) < 0.2
        counts = torch.bincount(section.test.source_labels[attribute.name][:, section.index(attribute.name)])
        assert counts.max() < 2.5 * len(countries) / len(attribute.values)


def test_new_values_are_equally_likely_whatever_the_number_of_entities():
    entities = [Entity(f"a{i}", (0, 0)) for i in range(90)] + [Entity("b", (1, 0))]
    entities += [Entity("c", (2, 0)), Entity("base", (3, 0))]
    rng = np.random.default_rng(0)
    drawn = [draw_source(0, entities[-1], range(92), entities, rng) for _ in range(600)]
    share = np.mean([entities[i].labels[0] == 0 for i in drawn])
    assert share == pytest.approx(1 / 3, abs=0.06)


def test_same_seed_same_prompts(model):
    first, again, other = (
        build(TASK, model, SITE, Settings("tiny", seed)).section.test for seed in (0, 0, 1)
    )
    assert torch.equal(again.acts, first.acts)
    assert torch.equal(again.expected["country"], first.expected["country"])
    assert other.acts.shape != first.acts.shape or not torch.equal(other.acts, first.acts)


def test_source_patch_causes_no_edit_isolates(section):
    test = section.test
    for at, attribute in enumerate(section.attributes):
        name, asks = attribute.name, test.asks(at)
        runs = test.readout.run({"none": test.acts, "source": test.source_acts[name]})
        right = {edit: run.top == test.expected[name] for edit, run in runs.items()}
        assert right["source"][asks].float().mean() >= 0.95
        assert not right["none"][asks].any() and right["none"][~asks].all()


def test_shares_kept_are_reported(built):
    assert set(built.shares) == {("kept", a.name) for a in built.section.attributes}
    assert all(0.95 <= share <= 1 for share in built.shares.values())
    assert any("kept: country" in note for note in built.notes)
    assert built.competence.able


def test_multi_token_entities_end_at_their_last_token(model):
    facts = read_facts(TASK, model, None, 0)
    names = [e.name for entities in facts.entities.values() for e in entities]
    long = [n for n in names if len(model.tokens("in " + n)) > len(model.tokens("in")) + 1]
    assert len(long) > 20
    phrase = cut("The city of {city} is in the country of", "{city}", "here")
    for name in long[:20]:
        written = write_prompt(0, 0, phrase, name, model)
        assert written is not None
        through, rest = (written.tokens[: written.name_end + 1], written.tokens[written.name_end + 1 :])
        assert model.tokenizer.decode(through).endswith(name)
        assert model.tokenizer.decode(rest).strip().startswith("is in")


def test_a_prompt_that_does_not_fit_is_not_written(model):
    short, long = Phrase("The city of", " is in"), Phrase("The city of", " is" * model.n_ctx)
    written = write_prompt(0, 1, short, " Paris", model)
    assert written is not None and written.at("end") == len(written.tokens) - 1
    assert write_prompt(0, 1, long, " Paris", model) is None


def test_phrasings_are_drawn_without_repetition_for_every_entity_and_attribute(model):
    entities = [Entity(" Paris", (0, 0)), Entity(" Lima", (1, 1))]
    phrases = [[Phrase("The city of", f" {word}") for word in ("is", "in", "and")] for _ in range(2)]
    drawn = draw_prompts(entities, phrases, 2, model, np.random.default_rng(0))
    assert len({(p.entity, p.query, p.tokens) for p in drawn}) == len(drawn) == 8
    per = Counter((p.entity, p.query) for p in drawn)
    assert set(per.values()) == {2} and len(per) == 4
    again = draw_prompts(entities, phrases, 2, model, np.random.default_rng(0))
    assert again == drawn


def test_values_with_the_same_first_token_are_dropped_and_counted(model, tmp_path):
    rows = cities("Germany", "France", "Japan")
    for i, country in enumerate(("South Africa", "South Korea") * 4):
        rows[i]["country"] = country
    facts = read_facts(read_task(folder(tmp_path / "t", rows)), model, None, 0)
    assert facts.attributes[0].values == ("France", "Germany", "Japan")
    assert sum(map(len, facts.entities.values())) == len(rows) - 8
    assert any("2 values are dropped" in note and "South Africa" in note for note in facts.notes)


def test_another_word_counts_as_the_same_answer(model, tmp_path):
    """Asked in their own words the model says `Europe`; with the alias `Asia` counts as `Europe`."""
    toml = TOML + '[aliases.continent]\nEurope = ["Mandarin"]\n'
    task = read_task(folder(tmp_path / "t", cities("Germany", "France", "Japan", "China"), toml))
    facts = read_facts(task, model, None, 0)
    alias, value = model.single_token(" Mandarin"), model.single_token(" Europe")
    assert facts.canonical[alias] == value and facts.canonical[value] == value
    readout = build(task, model, SITE, Settings("quick")).section.test.readout
    assert int(readout.canonical[alias]) == value
    assert len(readout.groups) > 1
    rows = torch.cat(readout.groups)
    assert torch.equal(rows.sort().values, torch.arange(len(readout.answer)))


def test_an_alias_that_is_another_value_is_left_out(model, tmp_path):
    toml = TOML + '[aliases.continent]\nEurope = ["Asia"]\n'
    task = read_task(folder(tmp_path / "t", cities("Germany", "France", "Japan", "China"), toml))
    facts = read_facts(task, model, None, 0)
    asia = model.single_token(" Asia")
    assert facts.canonical[asia] == asia and any("Asia" in note for note in facts.notes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows[3].update(city=rows[2]["city"]), ["places.csv", "occurs twice"]),
        (lambda rows: rows[3].update(country=" "), ["places.csv", "no value for 'country'"]),
        (lambda rows: [r.pop("country") for r in rows], ["places.csv", "no column 'country'"]),
    ],
)
def test_a_wrong_table_is_named_with_its_entry(change, words, model, tmp_path):
    rows = cities("Germany", "France", "Japan")
    change(rows)
    with pytest.raises(TaskError) as error:
        read_facts(read_task(folder(tmp_path / "t", rows)), model, None, 0)
    assert all(word in str(error.value) for word in words)


def test_a_template_without_the_slot_is_refused(model, tmp_path):
    toml = TOML.replace("The city of {city} is in", "The city of Paris is in")
    task = read_task(folder(tmp_path / "t", cities("Germany", "Japan"), toml))
    with pytest.raises(TaskError, match="exactly once"):
        read_facts(task, model, None, 0)


def test_positions_of_other_tasks_are_refused(model):
    with pytest.raises(SiteError, match="entity, end"):
        build(TASK, model, Site.parse("blocks.1.hook_resid_pre@s2"), Settings("quick"))


def test_a_model_without_the_words_is_refused_in_one_paragraph(tmp_path):
    tiny = load_model(str(save_tiny(tmp_path, "gpt2")), device="cpu")
    with pytest.raises((TaskError, IncompetentModelError), match="Expected"):
        build(TASK, tiny, SITE, Settings("quick"))


@pytest.mark.slow
def test_rotations_of_the_demo_model_and_the_planted_subspaces(section):
    """Swapping the planted subspaces is perfect; the rotations found do as well, lie mostly within them, and are
    no larger: of the planted change they carry what answers need (.42 to .90), and little of the others'."""
    planted, das = section.planted, fit_das(section)
    test = section.test
    for at, (name, gradient) in enumerate(zip(planted_names(section), leads(section, 0), strict=True)):
        source, rows = test.source_acts[name], planted[name]
        swap = test.acts + (source - test.acts) @ rows.T @ rows
        edits = {"planted": swap, "das": das.edit(name, test.acts, source)}
        found = balances(section, test, {at: edits})[at]
        assert found["planted"] >= 0.95 and found["das"] >= 0.95
        chance = len(rows) / rows.shape[1]
        assert overlap(das.rows[name], rows).overlap >= chance + 0.7 * (1 - chance)
        assert 1 <= len(das.rows[name]) <= len(rows)
        does = swapped(source - test.acts, das.rows[name], planted, name)
        assert max(does.leaked.values()) <= 0.1 < 0.35 <= does.carried
        inside = (gradient @ rows.T).square().sum() / gradient.square().sum()
        assert inside >= 0.6


def planted_names(section: CrossSection) -> list[str]:
    names = [attribute.name for attribute in section.attributes]
    assert set(names) == set(section.planted)
    return names


def test_planted_subspaces_are_known_at_their_site_and_nowhere_else(model, section):
    shipped = load_file(BUNDLED / "task" / "planted.safetensors")
    assert set(section.planted) == {attribute.name for attribute in section.attributes}
    assert all(torch.equal(rows, shipped[f"subspace.{name}"]) for name, rows in section.planted.items())
    ask = partial(read_truth, TASK, TASK.spec.planted, section.attributes)
    # certified; its atoms score dictionaries on its own task alone
    assert ask(model, SITE).notes == () and not ask(model, SITE).atoms and section.truth is None
    assert not ask(model, Site.parse("blocks.2.hook_resid_pre@entity")).subspaces
    assert not ask(replace(model, name="another"), SITE).subspaces


# ---- phrasings ---------------------------------------------------------------------------------

STRANGE = {
    "country": ("Offered {city} and the", "Then {city} sold a"),
    "continent": ("Before {city} the radio", "We saw {city} near a"),
}
GOOD = """
[phrasings.examples.country]
fit = ["The city of {city} is in the country of"]
test = ["On the map, {city} lies within the borders of"]
[phrasings.examples.continent]
fit = ["The city of {city} is on the continent of"]
test = ["She moved to {city}, so she now lives on the continent of"]
"""


def strange(toml: str) -> str:
    """The same task with templates that say nothing of what is asked."""
    for attribute, (fit, test) in STRANGE.items():
        start = toml.index(f"[templates.{attribute}]")
        lines = f'[templates.{attribute}]\nfit = ["{fit}"]\ntest = ["{test}"]\n'
        stop = toml.find("[templates.", start + 1)
        toml = toml[:start] + lines + (toml[stop:] if stop > 0 else "")
    return toml


def test_a_model_is_asked_in_the_phrasings_that_it_answers_best(model, tmp_path):
    task = read_task(
        folder(tmp_path / "strange", cities("France", "Germany", "Japan", "Kenya"), strange(TOML) + GOOD)
    )
    built = build(task, model, SITE, Settings("quick"))
    (note,) = [n for n in built.notes if n.startswith("asked in")]
    assert note.startswith("asked in the phrasings 'examples'") and "templates 0" in note
    assert set(built.section.templates) == {
        text
        for line in GOOD.splitlines()
        if line.startswith(("fit", "test"))
        for text in [line.split('"')[1]]
    }
    assert built.competence.able and built.competence.argmax > 0.8


def test_cities_of_worked_examples_are_not_asked_about(model):
    plain = read_facts(TASK, model, None, 0)
    facts = in_other_words(plain, TASK, "examples")
    before, after = ({e.name for es in f.entities.values() for e in es} for f in (plain, facts))
    assert before - after == {"Toronto", "Beijing", "Tehran"}
    (note,) = set(facts.notes) - set(plain.notes)
    assert note.startswith("3 stand in worked examples")
    assert not set(facts.templates) & set(plain.templates)


def test_a_model_that_answers_the_tasks_own_templates_is_asked_in_those(model, tmp_path):
    rows = cities("France", "Germany", "Japan", "Kenya")
    tasks = (
        read_task(folder(tmp_path / name, rows, toml)) for name, toml in (("a", TOML), ("b", TOML + GOOD))
    )
    plain, both = (build(task, model, SITE, Settings("quick")) for task in tasks)
    assert both.section.templates == plain.section.templates
    assert torch.equal(both.section.test.acts, plain.section.test.acts)
    assert not [n for n in both.notes if n.startswith("asked in")]
