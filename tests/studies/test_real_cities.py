"""RAVEL's sites and pairs on the bundled model, where it is known what they must show."""

import numpy as np
import pytest
import torch

from saebench.cross_section import CrossSection
from saebench.kinds.base import Settings
from saebench.kinds.entities.sections import build
from saebench.models.language_model import LanguageModel
from saebench.models.loading import load_model
from saebench.site import Site
from saebench.spec import load_task
from saebench.studies.real.cities import draw, name_length, patched, summaries
from saebench.studies.real.pairs import ARMS, DrawnPairs, Sources, hits


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return load_model("demo", device="cpu")


@pytest.fixture(scope="module")
def section(model) -> CrossSection:
    return build(
        load_task("ravel"), model, Site.parse("blocks.1.hook_resid_pre@entity"), Settings("tiny")
    ).section


def test_a_city_is_exchanged_where_it_stands_and_nowhere_else(model):
    drawn = draw(model, "tiny", 0)
    for prompt in drawn.prompts:
        name = prompt.tokens[
            prompt.name_end + 1 - name_length(prompt, drawn.facts, model) : prompt.name_end + 1
        ]
        city = drawn.facts.entities["select"][prompt.entity].name
        assert model.tokenizer.decode(name).split() == city.split()
    one = {
        name: np.array(
            [
                name_length(p, drawn.facts, model) == name_length(q, drawn.facts, model) == 1
                for p, q in zip(drawn.prompts, listed, strict=True)
            ]
        )
        for name, listed in drawn.sources.items()
    }
    found = {
        (block, position): list(summaries(drawn, right, one))
        for block, position, right in patched(model, drawn, [0, 1], ["entity", "end"])
    }
    attributes = [a.name for a in drawn.facts.attributes]
    assert [row["attribute"] for row in found[0, "entity"]] == [*attributes, "all"]
    *each, whole = found[0, "entity"]
    # where a name is one token it is all that tells the city: its source answers every question; the last of
    # several does not
    assert all(row["cause_one_token"] == 1 for row in found[0, "entity"]) and whole["cause"] < 1
    assert whole["kept"] < 0.5 and whole["n"] == sum(row["n"] for row in each) == len(drawn.prompts)
    # a word that asks, in other words: the city is not there
    assert found[0, "end"][-1]["cause"] == 0


def test_sources_drawn_anew_ask_the_same_about_another_value(section):
    sources, generator = Sources(section, section.fit), torch.Generator().manual_seed(0)
    rows = torch.arange(len(section.fit)).repeat(3)
    for at, attribute in enumerate(section.attributes):
        edited = torch.full_like(rows, at)
        drawn = sources.draw(rows, edited, generator)
        fit, name = section.fit, attribute.name
        assert (fit.query[drawn] == fit.query[rows]).all()
        given = fit.source_labels[name][drawn, at]
        assert (given != fit.labels[rows, at]).all() and (drawn != rows).any()
        wanted, asked = sources.wanted(rows, edited, drawn), fit.query[rows] == at
        # where nothing is asked of the edited attribute the prompt's own answer stays, else the source's counts
        assert (wanted == fit.expected[name][rows])[~asked].all()
        token = {int(v): int(t) for v, t in zip(given[asked], wanted[asked], strict=True)}
        assert len(set(token.values())) == len(token) > 1, "a value has one token of its own"
        right = fit.labels[rows, at][asked].tolist()
        answers = fit.readout.answer[rows][asked].tolist()
        assert all(token.get(v, a) == a for v, a in zip(right, answers, strict=True))


def test_half_of_the_cities_keep_to_themselves(section):
    kept = torch.arange(1000) % 2 == 0
    sources, arm = Sources(section, section.fit, kept), ARMS[-1]
    pairs = DrawnPairs(section, sources, 0, arm.fresh)
    rows, attribute, _ = pairs.draw(64)
    assert (section.fit.cluster[rows] % 2 == 0).all()
    names = [a.name for a in section.attributes]
    units = torch.stack([section.fit.source_units[n][:, 0] for n in names], 1)
    assert (units[pairs.source, attribute] % 2 == 0).all()


def test_the_whole_activation_of_a_source_gives_its_answer(section):
    every = torch.eye(section.d_in).expand(len(section.attributes), -1, -1)
    for fresh in (False, True):
        right = hits(section, section.fit, every, Sources(section, section.fit), fresh, 0)
        for at, hit in enumerate(right.values()):
            assert hit[section.fit.asks(at).numpy()].mean() > 0.9
