"""IOI prompts: orders within pairs, phrasings as a held-out facet, templates a model cannot do."""

import shutil
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from saebench.errors import IncompetentModelError, TaskError
from saebench.evaluation.api import make_arena
from saebench.evaluation.options import Options
from saebench.kinds.base import Settings
from saebench.kinds.names.prompts import draw_cases, split_distances
from saebench.kinds.names.sections import Drawn, build, draw, library
from saebench.kinds.names.words import Words
from saebench.kinds.templates import TemplateSkill, left_out, too_few, usable
from saebench.models.loading import load_model
from saebench.site import Site
from saebench.spec import BUNDLED, Task, load_task, read_task

SITE = Site.parse("blocks.1.hook_resid_pre@end")
STRANGE = "The {place} and the {object} of {first} or {second} and {s} and the"


@pytest.fixture(scope="module")
def model():
    return load_model("demo", device="cpu")


@pytest.fixture(scope="module")
def drawn(model) -> Drawn:
    return draw(load_task("ioi"), model, "quick", 0)


def ioi(folder: Path, templates: str, held_out: str = "") -> Task:
    """The bundled task with other templates, as TOML."""
    shutil.copytree(BUNDLED / "ioi", folder)
    text = (folder / "task.toml").read_text("utf-8")
    head, tail = text.split("templates = [")[0], text.split("[lists]")[1]
    (folder / "task.toml").write_text(f"{head}templates = {templates}\n{held_out}\n[lists]{tail}", "utf-8")
    return read_task(folder)


def orders(cases) -> dict[tuple[int, int], Counter]:
    found = defaultdict(Counter)
    for case in cases:
        found[case.io, case.s][case.pos] += 1
    return found


@pytest.mark.parametrize("n", [20, 21, 30, 47])
@pytest.mark.parametrize("turns", [24, 25])
def test_orders_are_balanced_within_every_pair_and_over_every_name(n: int, turns: int):
    """Whether a split has an even or an odd number of distances."""
    words = Words(tuple("n" * i for i in range(n)), ("t", "u"), frozenset({1}), ("p",), ("o",), ())
    lengths = set()
    for seed in range(4):
        for distances in split_distances(n, np.random.default_rng(seed)).values():
            lengths.add(len(distances) % 2)
            cases = draw_cases(n, distances, turns, words, [0], np.random.default_rng(0))
            for count in orders(cases).values():
                assert abs(count[0] - count[1]) <= 1
            by_io = np.array([[c.io, c.pos] for c in cases])
            for io in range(n):
                first = (by_io[by_io[:, 0] == io, 1] == 0).mean()
                assert abs(first - 0.5) <= 1 / turns + 1e-9
    assert lengths == {0, 1} or n % 2


def test_no_pair_of_the_bundled_task_has_one_order_only(drawn):
    for batch in drawn.batches.values():
        shown = [count for count in orders(batch.cases).values() if count.total() > 1]
        assert shown and all(len(count) == 2 for count in shown)
        by_s = [np.mean([c.pos for c in batch.cases if c.s == s]) for s in range(len(drawn.words.names))]
        assert min(by_s) >= 0.42 and max(by_s) <= 0.58


def test_phrasings_of_test_are_held_out_and_equally_often_used(drawn):
    used = {split: Counter(c.template for c in batch.cases) for split, batch in drawn.batches.items()}
    assert set(used["fit"]) == set(used["select"]) == set(drawn.words.of_split("fit"))
    assert set(used["test"]) == drawn.words.held_out
    assert not set(used["fit"]) & set(used["test"])
    for count in used.values():
        assert max(count.values()) - min(count.values()) <= 1
    spec = load_task("ioi").spec
    texts = {drawn.words.templates[i] for i in drawn.words.held_out}
    assert texts == set(spec.held_out) and len(texts) == 11


def test_a_split_knows_the_phrasing_and_the_names_of_every_prompt(model, drawn):
    section = build(load_task("ioi"), model, SITE, Settings("quick")).section
    cases = drawn.batches["test"].cases
    assert section.test.template is not None and section.test.units is not None
    assert section.test.template.tolist() == [c.template for c in cases]
    assert section.test.units.tolist() == [[c.io, c.s] for c in cases]
    assert section.templates == drawn.words.templates


# ---- templates a model cannot do ---------------------------------------------------------------


def test_the_bundled_model_does_the_task_in_every_phrasing(drawn):
    assert len(drawn.skills) == 27
    assert all(skill.accuracy >= 0.95 and skill.argmax >= 0.95 for skill in drawn.skills)


def test_a_template_the_model_cannot_do_is_left_out_and_named(tmp_path, model):
    spec = load_task("ioi").spec
    task = ioi(
        tmp_path / "ioi",
        str([STRANGE, *spec.templates[:3]]).replace("'", '"'),
        "held_out = " + str([*spec.held_out[:2]]).replace("'", '"'),
    )
    arena = make_arena(task, model, Options(budget="quick"))
    built, _ = arena.bench(SITE)
    assert [skill.able for skill in built.templates] == [False] + [True] * 5
    (note,) = [n for n in built.notes if "left out" in n]
    assert note.startswith("1 of 6 templates are left out") and STRANGE in note
    assert built.competence.able
    for split in (built.section.fit, built.section.select, built.section.test):
        assert split.template is not None and not (split.template == 0).any()


def test_too_few_templates_refuse_the_model_and_forcing_uses_them_all(tmp_path, model):
    spec = load_task("ioi").spec
    held_out = "held_out = " + str([STRANGE, spec.held_out[0]]).replace("'", '"')
    task = ioi(tmp_path / "ioi", str([*spec.templates[:3]]).replace("'", '"'), held_out)
    with pytest.raises(IncompetentModelError, match="of 2 templates held out for `test` it does 1"):
        make_arena(task, model, Options(budget="quick")).bench(SITE)
    forced = make_arena(task, model, Options(budget="quick", allow_incompetent=True))
    built, _ = forced.bench(SITE)
    assert built.section.test.template is not None
    assert set(built.section.test.template.tolist()) == {3, 4}
    assert not built.competence.able


def test_without_held_out_templates_the_last_third_is(tmp_path, model):
    spec = load_task("ioi").spec
    task = ioi(tmp_path / "ioi", str([*spec.templates[:4]]).replace("'", '"'))
    assert task.spec.test_templates == spec.templates[3:4]
    assert draw(task, model, "quick", 0).words.held_out == {3}
    with pytest.raises(TaskError, match=r"0 of 0\s+to fit on and 1 of 1"):
        draw(ioi(tmp_path / "one", str([*spec.templates[:1]]).replace("'", '"')), model, "quick", 0)
    twice = f'held_out = ["{spec.templates[0]}"]'
    with pytest.raises(TaskError, match="among templates and among held_out"):
        ioi(tmp_path / "twice", str([*spec.templates[:3]]).replace("'", '"'), twice)


def skill(accuracy: float, held_out: bool = False) -> TemplateSkill:
    return TemplateSkill("a template", held_out, accuracy, accuracy, 40)


def test_the_gate_by_hand():
    good = [skill(0.8), skill(0.95), skill(1.0, True), skill(0.9, True)]
    assert too_few(good) is None and left_out(good) is None and usable(good) == (0, 1, 2, 3)
    some = [skill(0.79), *good]
    assert usable(some) == (1, 2, 3, 4) and too_few(some) is None
    assert "1 of 5 templates" in (left_out(some) or "") and "79%" in (left_out(some) or "")
    assert too_few([skill(0.9), skill(0.5), *good[2:]]) is not None
    # a task that lists one held-out template needs that one
    assert too_few([*good[:2], skill(0.9, True)]) is None
    assert too_few([*good[:2], skill(0.7, True)]) is not None
    # ahead of the other name is not enough: a third word may be likelier than either
    assert not TemplateSkill("a template", False, 1.0, 0.79, 40).able


def test_the_library_says_where_a_name_stands_and_whose_it_is():
    words = Words(
        ("Ann", "Bob", "Cleo"), ("t", "u"), frozenset({1}), ("p",), ("o",), (), frozenset({"Ann", "Cleo"})
    )
    labels = torch.tensor([[0, 1, 0], [1, 2, 1]])  # Ann before Bob; Cleo before Bob, who receives
    found = {listed.name: listed.of(labels).tolist() for listed in library(words)}
    assert found == {
        "name anywhere": [[0, 1], [1, 2]],
        "name first": [[0], [2]],
        "name second": [[1], [1]],
        "io gender": [[1], [0]],
        "s gender": [[0], [1]],
    }
    assert len(library(words._replace(women=frozenset()))) == 3
