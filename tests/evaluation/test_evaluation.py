"""From a name to a result, on the bundled model: the same road for disk, memory and controls."""

import json
import shutil

import pytest
import torch

import saebench
from saebench import checkpoints
from saebench.errors import IncompetentModelError, OptionError, SiteError, TaskError
from saebench.evaluation.api import make_arena
from saebench.evaluation.contestants import control, resolve
from saebench.evaluation.options import Options
from saebench.kinds.names.prompts import split_distances
from saebench.kinds.names.sections import draw
from saebench.models.loading import load_model
from saebench.records import store
from saebench.site import Site

pytestmark = pytest.mark.usefixtures("few_prompts")

SITE = "blocks.1.hook_resid_pre@end"


@pytest.fixture(scope="module")
def arena():
    return make_arena("ioi", options=Options(budget="tiny"))


@pytest.fixture(scope="module")
def topk(arena):
    (contestant,) = resolve("demo:topk")
    return arena.score(arena.realise(contestant, Site.parse(SITE)), Site.parse(SITE))


def numbers(result) -> str:
    """Everything of a result but when and where it was made."""
    return result.model_dump_json(exclude={"created", "provenance", "dictionary"}, by_alias=True)


def test_the_same_inputs_give_the_same_bytes(arena, topk):
    (contestant,) = resolve("demo:topk")
    fresh = make_arena("ioi", options=Options(budget="tiny"))
    again = fresh.score(fresh.realise(contestant, Site.parse(SITE)), Site.parse(SITE))
    assert numbers(again.result) == numbers(topk.result)
    assert again.result.id == topk.result.id


def test_an_object_in_memory_scores_as_it_does_from_disk(topk):
    from sae_lens import SAE

    sae = SAE.load_from_disk(checkpoints.DEMO / "topk")

    class Mine:
        """What a researcher has in a training loop: three names."""

        W_dec = sae.W_dec
        encode, decode = staticmethod(sae.encode), staticmethod(sae.decode)

    found = saebench.evaluate(Mine(), task="ioi", model="demo", site=SITE, budget="tiny")
    for name, axis in topk.result.axes.items():
        assert found.axes[name].value == pytest.approx(axis.value, abs=1e-6), name
    assert len(found.scores) == len(topk.result.scores)


def test_another_seed_is_another_result(topk):
    arena = make_arena("ioi", options=Options(budget="tiny", seed=1))
    site = Site.parse(SITE)
    other = arena.score(arena.realise(control("mean"), site), site)
    mine = make_arena("ioi", options=Options(budget="tiny"))
    assert other.result.id != mine.id(other.result.dictionary.sha256, site)


def test_the_supervised_edit_changes_the_answer(topk):
    found = {
        (s.attribute, s.edit): s.value for s in topk.result.scores if s.name == "edit_success" and s.k is None
    }
    assert found["io", "source"] == 1 and found["io", "none"] == 0
    assert found["io", "supervised"] is not None and found["io", "supervised"] >= 0.9


def test_a_finished_result_is_reused_and_force_scores_again(arena, tmp_path):
    site = Site.parse(SITE)
    first = arena.score_or_reuse(control("mean"), site, tmp_path)
    assert store.lookup(tmp_path, first.id) is not None
    assert arena.score_or_reuse(control("mean"), site, tmp_path) == first
    again = arena.score_or_reuse(control("mean"), site, tmp_path, force=True)
    assert again.provenance.seconds != first.provenance.seconds
    assert numbers(again) == numbers(first)


def test_the_same_weights_elsewhere_have_one_result_under_the_name_asked_for(arena, topk, tmp_path):
    store.save(topk.result, topk.outcomes, tmp_path / "out")
    shutil.copytree(checkpoints.DEMO / "topk", tmp_path / "mine")
    (mine,) = resolve(str(tmp_path / "mine"))
    found = arena.score_or_reuse(mine, Site.parse(SITE), tmp_path / "out")
    assert found.id == topk.result.id and len(store.find(tmp_path / "out")) == 1
    assert (found.dictionary.name, topk.result.dictionary.name) == ("mine", "demo:topk")
    assert numbers(found) == numbers(topk.result)


def test_a_result_is_strict_json_and_reads_back(topk, tmp_path):
    path = store.save(topk.result, topk.outcomes, tmp_path)
    assert store.load(path).result == topk.result
    document = json.loads(topk.result.json_line())
    assert document["schema"] == "saebench.result/1"
    assert set(document["axes"]) == {
        "approximation",
        "control",
        "interpretability",
        "occlusion",
        "oversplitting",
    }


def test_pairs_of_names_never_cross_splits_and_every_name_is_in_each():
    model = load_model("demo")
    from saebench.spec import load_task

    words, _, batches = draw(load_task("ioi"), model, "tiny", 0)
    pairs = {}
    for split, batch in batches.items():
        everything = [*batch.cases, *(c for cases, _ in batch.sources.values() for c in cases)]
        pairs[split] = {frozenset((c.io, c.s)) for c in everything}
        for role in ("io", "s"):
            counts = torch.bincount(torch.tensor([getattr(c, role) for c in batch.cases]))
            assert len(counts) == len(words.names) and len(set(counts.tolist())) == 1
    assert not pairs["fit"] & pairs["select"]
    assert not pairs["fit"] & pairs["test"]
    assert not pairs["select"] & pairs["test"]


def test_counterfactuals_change_one_attribute_and_keep_the_rest():
    model = load_model("demo")
    from saebench.spec import load_task

    words, _, batches = draw(load_task("ioi"), model, "tiny", 0)
    test = batches["test"]
    for attribute, (cases, prompts) in test.sources.items():
        for base, source, written in zip(test.cases, cases, prompts, strict=True):
            changed = {f for f in base._fields if getattr(base, f) != getattr(source, f)}
            assert changed == {attribute}
            tokens = model.tokenizer.decode(written.tokens)
            assert words.names[source.s] in tokens and words.names[source.io] in tokens


@pytest.mark.parametrize("n", [20, 21, 30, 80])
def test_distances_are_dealt_in_pairs_and_all_of_them(n):
    import numpy as np

    parts = split_distances(n, np.random.default_rng(0))
    dealt = sorted(d for part in parts.values() for d in part)
    assert dealt == list(range(1, n))
    for part in parts.values():
        assert {n - d for d in part} == set(part)


def test_an_incompetent_model_is_refused_and_marked_when_forced(shared_models):
    with pytest.raises(TaskError, match="one token"):
        make_arena("ioi", str(shared_models / "stories260k")).bench(Site.parse(SITE))


def test_competence_is_measured(monkeypatch):
    from saebench.kinds import base

    monkeypatch.setattr(base.Competence, "able", property(lambda self: False))
    arena = make_arena("ioi", options=Options(budget="tiny"))
    with pytest.raises(IncompetentModelError, match="chance 50%"):
        arena.bench(Site.parse(SITE))
    forced = make_arena("ioi", options=Options(budget="tiny", allow_incompetent=True))
    site = Site.parse(SITE)
    result = forced.score(forced.realise(control("mean"), site), site).result
    assert any("not competent" in warning for warning in result.warnings)


def test_wrong_options_name_the_choice(arena):
    with pytest.raises(OptionError, match="quick"):
        Options(budget="quik")
    with pytest.raises(OptionError, match="coupled"):
        make_arena("ioi", options=Options(parametrization="couple")).bench(Site.parse(SITE))
    with pytest.raises(SiteError, match="takes activations of width"):
        (contestant,) = resolve("demo:topk")
        bench = arena.bench(Site.parse("blocks.2.attn.hook_z[0]@end"))
        contestant.at(bench[1])


def test_names_is_the_bad_parametrization_it_is_kept_as():
    # of mean atoms, as in the paper; least squares writes the same by either
    good, bad = (
        make_arena("ioi", options=Options(budget="tiny", parametrization=p, supervised="mean"))
        for p in ("independent", "names")
    )
    site = Site.parse(SITE)
    success = []
    for arena in (good, bad):
        result = arena.score(arena.realise(control("no-edit"), site), site).result
        success.append(next(s.value for s in result.scores if s.attribute == "io" and s.edit == "supervised"))
    assert success[0] >= 0.9 > success[1]


def test_all_sites_are_those_of_the_residual_stream_each_once():
    """A block's resid_post is the next one's resid_pre, unless an SAE names it."""
    arena = make_arena("ravel")
    found = [str(site) for site in arena.sites([None], "all")]
    parts = [f"blocks.{i}.hook_resid_{part}@entity" for i in range(4) for part in ("pre", "mid")]
    assert found == [*parts, "blocks.3.hook_resid_post@entity"]
    named = arena.sites(["blocks.1.hook_resid_post"], "all")
    assert [str(s) for s in named if str(s) not in found] == ["blocks.1.hook_resid_post@entity"]
