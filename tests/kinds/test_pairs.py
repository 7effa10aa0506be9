"""Pairs that sites are looked for on: sources differ in one attribute, and the null has nothing to be found."""

import numpy as np
import pytest

from saebench.errors import TaskError
from saebench.kinds import KINDS
from saebench.kinds.base import Settings
from saebench.models.loading import load_model
from saebench.patching.pairs import Number, Questions
from saebench.spec import load_task


@pytest.fixture(scope="module")
def model():
    return load_model("demo", device="cpu")


def ask(model, name: str) -> Questions:
    task = load_task(name)
    return KINDS[task.spec.kind].pairs(task, model, Settings("tiny"), Number(20, 16))


@pytest.fixture(scope="module")
def ioi(model) -> Questions:
    return ask(model, "ioi")


def word(model, passage, position: str) -> str:
    return model.tokenizer.decode([passage.tokens[passage.positions[position]]]).strip()


def test_ioi_sources_change_one_attribute(model, ioi):
    pairs = ioi.select
    assert len(pairs) == 60 and pairs.attributes == ("io", "s", "pos")
    for row in range(len(pairs)):
        base, source = pairs.base[row], pairs.source[row]
        same = {p: word(model, base, p) == word(model, source, p) for p in ("io", "s1", "s2")}
        name = pairs.attributes[pairs.attribute[row]]
        moved = {"io": {"io"}, "s": {"s1", "s2"}, "pos": set()}[name]
        assert {p for p, equal in same.items() if not equal} == moved
        flipped = [p.positions["io"] < p.positions["s1"] for p in (base, source)]
        assert (flipped[0] != flipped[1]) == (name == "pos")
        assert word(model, base, "io") == model.tokenizer.decode([int(pairs.answer[row])]).strip()


def test_attributes_share_their_base_prompts_and_splits_do_not(ioi):
    def cases(pairs):
        return {(tuple(pairs.base[i].tokens), *pairs.units[i].tolist()) for i in range(len(pairs))}

    assert len(cases(ioi.select)) == 20
    pairs = [{tuple(u) for u in side.units.tolist()} for side in (ioi.select, ioi.test)]
    assert not pairs[0] & pairs[1]


def test_on_the_null_a_third_person_gives(model, ioi):
    null = ioi.null
    assert null is not None and null.attributes == ("giver", "order") and len(null) == 32
    for row in range(len(null)):
        base, source = null.base[row], null.source[row]
        names = {word(model, base, p) for p in ("io", "s1", "s2")}
        assert len(names) == 3
        assert (word(model, base, "s2") != word(model, source, "s2")) == (null.attribute[row] == 0)
        assert {word(model, source, p) for p in ("io", "s1")} == names - {word(model, base, "s2")}


def test_ravel_sources_ask_the_same_about_another_city(model):
    found = ask(model, "ravel")
    for pairs in (found.select, found.test):
        assert set(np.unique(pairs.attribute)) == {0, 1, 2}
        for base, source in zip(pairs.base, pairs.source, strict=True):
            behind = [p.tokens[p.positions["entity"] + 1 :] for p in (base, source)]
            assert behind[0] == behind[1] and base.tokens != source.tokens
    null = found.null
    assert null is not None and not set(null.answer.tolist()) & {-1}
    asked = {tuple(p.tokens): int(a) for p, a in zip(found.test.base, found.test.answer, strict=True)}
    for base, answer, distractor in zip(null.base, null.answer, null.distractor, strict=True):
        assert asked[tuple(base.tokens)] not in (int(answer), int(distractor)) and answer != distractor


def test_a_task_that_draws_its_own_data_has_no_sites_to_look_for(model):
    with pytest.raises(TaskError, match="for tasks on language models"):
        ask(model, "synthetic/independent")
