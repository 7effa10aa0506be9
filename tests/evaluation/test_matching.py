"""Where a dictionary belongs: its place, its model, its name beside others."""

import pytest
import sae_files as f
import torch
from command import run

from saebench.dictionaries.codes import encode_split
from saebench.dictionary import Known
from saebench.errors import CheckpointError, SiteError, TrainingDataError
from saebench.evaluation.api import make_arena
from saebench.evaluation.contestants import control, from_object, resolve, told_apart
from saebench.evaluation.options import Options
from saebench.site import Site

pytestmark = pytest.mark.usefixtures("few_prompts")


@pytest.fixture(scope="module")
def arena():
    return make_arena("ioi")


class Mine:
    """What a researcher has in memory."""

    def __init__(self, d_in=96, **facts):
        self.W_dec = torch.eye(d_in)
        self.cfg = facts

    def encode(self, x):
        return x.relu()

    def decode(self, codes):
        return codes @ self.W_dec


def test_an_sae_that_names_no_place_is_not_scored_at_the_tasks(arena):
    nowhere = from_object(Mine())
    with pytest.raises(SiteError, match="--site"):
        arena.require_place(nowhere, None)
    arena.require_place(nowhere, "blocks.1.hook_resid_pre@end")
    # controls belong to no place
    arena.require_place(control("identity"), None)


@pytest.mark.parametrize(
    "facts", [{"hook_name": "blocks.2.hook_resid_post"}, {"hook_point": "model.layers.2"}]
)
def test_a_place_that_an_object_names_in_its_config_is_where_it_is_scored(facts, arena):
    mine = from_object(Mine(**facts))
    arena.require_place(mine, None)
    assert [s.hook for s in arena.sites([mine.hook], None)] == ["blocks.2.hook_resid_post"]


def test_a_head_is_part_of_the_place(arena):
    mine = from_object(Mine(24, hook_name="blocks.1.attn.hook_z", hook_head_index=0))
    (site,) = arena.sites([mine.hook], None)
    assert (site.hook, site.head, site.place) == ("blocks.1.attn.hook_z", 0, mine.hook)
    assert any(s.head == 0 for s in arena.sites([mine.hook], "all"))


def test_a_checkpoint_without_a_place_is_one_line_and_the_rest_goes_on(tmp_path, capsys):
    w = {k: v for k, v in f.weights().items() if k in f.NAMES["standard"]}
    nowhere = f.plain(tmp_path / "mine", w)
    words = (
        "evaluate",
        str(nowhere),
        "--architecture",
        "standard",
        "control:mean",
        "--budget",
        "tiny",
        "--out",
        str(tmp_path / "o"),
    )
    code, out, err = run(capsys, *words, "--format", "json")
    assert code == 2 and "--site" in err and "1 of 2 not scored" in err
    assert '"control:mean"' in out


HERE = Site.parse("blocks.1.hook_resid_pre@end")


@pytest.mark.parametrize(
    ("hook", "strange"),
    [
        ("blocks.1.hook_resid_pre", False),
        ("blocks.0.hook_resid_post", False),
        ("model.layers.0", False),
        (None, False),
        ("blocks.2.hook_resid_pre", True),
        ("blocks.1.hook_mlp_out", True),
    ],
)
def test_an_sae_of_another_place_is_said_and_strict_refuses_it(hook, strange, arena):
    mine = from_object(Mine(hook_name=hook))
    found = arena._strangeness(mine, HERE)
    assert bool(found) == strange and all(HERE.hook in line for line in found)
    if strange:
        with pytest.raises(TrainingDataError, match="--strict"):
            make_arena("ioi", options=Options(strict=True))._strangeness(mine, HERE)


@pytest.mark.parametrize("facts", [{"model_name": "pythia-160m-deduped"}, {"prepend_bos": False}])
def test_an_sae_of_another_model_is_said_and_strict_refuses_it(facts, arena):
    mine = from_object(Mine(**facts))
    (said,) = arena._strangeness(mine, HERE)
    assert "demo" in said
    strict = make_arena("ioi", options=Options(strict=True))
    with pytest.raises(TrainingDataError, match="--strict"):
        strict._strangeness(mine, HERE)
    assert strict._strangeness(from_object(Mine(model_name="demo", prepend_bos=True)), HERE) == []


def test_checkpoints_of_one_name_are_told_apart(tmp_path):
    for run_ in ("a", "b"):
        for name in ("mine", "other"):
            f.sae_lens(tmp_path / run_ / "x" / name, "standard", f.weights())
    specs = [str(tmp_path / r / "x" / "mine") for r in ("a", "b")] + [str(tmp_path / "a" / "x" / "other")]
    found = told_apart([c for spec in specs for c in resolve(spec)])
    assert [c.name for c in found] == ["a/x/mine", "b/x/mine", "other"]


def test_outputs_that_overflow_are_no_scores(tmp_path):
    state = f.weights()
    state["W_enc"] = state["W_enc"] * 1e30
    state["W_dec"] = state["W_dec"] * 1e30
    (contestant,) = resolve(str(f.sae_lens(tmp_path / "large", "standard", state)))
    dictionary = contestant.weights.load("cpu").dictionary
    labels = torch.zeros(40, 1, dtype=torch.long)
    with pytest.raises(CheckpointError, match="not finite on"):
        encode_split(dictionary, f.acts(), Known(labels))


def test_sites_of_other_tools_names():
    assert str(Site.parse("model.layers.2@end")) == "blocks.2.hook_resid_post@end"
    assert str(Site.parse("blocks.1.hook_z[3]@end")) == "blocks.1.attn.hook_z[3]@end"
