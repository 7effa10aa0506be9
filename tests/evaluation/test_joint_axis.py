"""Several attributes edited at once where somebody asks for it: at one site, at several, and what it leaves alone."""

import numpy as np
import pytest
from command import run

import saebench
from saebench.errors import OptionError
from saebench.records import store
from saebench.records.outcomes import Key
from saebench.regression.compare import compare
from saebench.reporting.leaderboard.boards import collect
from saebench.scoring.joint import AXIS, SIZES

END, S2 = "blocks.1.hook_resid_pre@end", "blocks.1.hook_resid_pre@s2"
SET = "s+pos"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("joint")


@pytest.fixture(scope="module")
def plain(out):
    return saebench.evaluate("demo:topk", budget="tiny", out=out)


@pytest.fixture(scope="module")
def asked(out, plain):
    return saebench.evaluate("demo:topk", budget="tiny", out=out, joint_edits=["pos+s", "s+pos"])


def scores(result, name, edit, k=None):
    found = [s for s in result.scores if (s.axis, s.attribute, s.name) == (AXIS, SET, name)]
    return next(s for s in found if (s.edit, s.k) == (edit, k))


def test_nothing_else_moves(plain, asked, out):
    assert asked.id != plain.id and asked.axis_versions == {**plain.axis_versions, AXIS: 1}
    assert asked.axes == plain.axes
    rest = [s for s in asked.scores if s.axis != AXIS]
    assert rest == list(plain.scores) and len(asked.scores) > len(rest)
    # so they stand on one board, where the newer row holds all of the older one, and may be compared
    (table,) = collect(out, out / "leaderboard").tables
    assert [row.result.id for row in table.rows] == [asked.id]
    paths = {store.load(path).result.id: path for path in store.find(out)}
    assert not any(d.difference for d in compare(paths[asked.id], paths[plain.id]).judged)


def test_every_score_has_its_bounds(asked):
    assert {s.attribute for s in asked.scores if s.axis == AXIS} == {SET}
    for edit in ("agnostic", "aware"):
        for k in SIZES:
            success = scores(asked, "edit_success", edit, k)
            assert success.ci[0] <= success.value <= success.ci[1]
            assert success.floor == scores(asked, "edit_success", "none").value
            assert success.ceiling == scores(asked, "edit_success", "supervised").value
            moved = scores(asked, "edit_effect", edit, k)
            assert moved.floor == 0 and moved.ceiling == scores(asked, "edit_effect", "supervised").value
        # an aware edit of size e exchanges e latents of either attribute, out and in
        most = {"agnostic": 6, "aware": 4 * 6}[edit]
        assert 0 < scores(asked, "edit_success", edit, 6).n_changed <= most


def test_sizes_are_per_site_and_all_of_all_sites_is_the_source_patch():
    both = saebench.evaluate("control:identity", site=f"{END} & {S2}", budget="tiny", joint_edits=[SET])
    assert both.outcomes.parts.keys() == {END, S2}
    assert scores(both, "edit_effect", "full", None).value == pytest.approx(1, abs=1e-3)
    changed = both.outcomes[Key(AXIS, "n_changed", SET, "agnostic", 1)]
    assert changed.max() == 2
    # what one site does alone is not what both do: S leaves one of them early
    assert not any(key.axis == AXIS for part in both.outcomes.parts.values() for key in part.columns)


def test_transcoders_and_what_only_edits_have_joint_edits_too():
    site = "blocks.0.hook_mlp_out@end"
    result = saebench.evaluate("demo:mlp-transcoder", site=site, budget="tiny", joint_edits=[SET])
    assert scores(result, "edit_success", "aware", 6).value is not None
    patch = saebench.evaluate("control:source-patch", site=site, budget="tiny", joint_edits=[SET])
    outcomes = patch.outcomes
    source = outcomes[Key("task", "ld", SET, "source")]
    assert np.allclose(outcomes[Key(AXIS, "ld", SET, "intervention")], source, atol=1e-4)


@pytest.mark.parametrize(
    "task, asked, message",
    [
        ("ioi", "s+posi", "Did you mean 'pos'"),
        ("ravel", "country+continent", "not made to change several attributes at once"),
    ],
)
def test_a_wrong_set_is_one_paragraph(capsys, task, asked, message):
    code, _, err = run(capsys, "evaluate", "control:mean", "--task", task, "--joint-edits", asked)
    assert code == 2 and message in " ".join(err.split())
    with pytest.raises(OptionError):
        saebench.evaluate("control:mean", task, joint_edits=asked)
