"""Planting: specs, geometry, text, interventions, and a certificate that can refuse."""

from pathlib import Path

import pytest
import torch
from command import run as command

from saebench.errors import PlantingError
from saebench.planting import interchange, training
from saebench.planting import spec as planting_spec
from saebench.planting.certificate import dependence
from saebench.planting.geometry import make_geometry
from saebench.planting.interchange import Parts, draw_pairs, own_subspaces, targets, token_ids
from saebench.planting.network import Halves, new_model
from saebench.planting.reading import read_spec
from saebench.planting.spec import PlantSpec
from saebench.planting.world import SPLITS, TEST, TRAIN, World, make_world

SMALL = {"d_model": 16, "heads": 2}


def spec(variables: dict, **more) -> PlantSpec:
    return PlantSpec.model_validate({"name": "small", "variables": variables, "model": SMALL, **more})


def halves_of(made: PlantSpec) -> tuple[Halves, World]:
    world = make_world(made)
    return Halves(new_model(made, len(world.tokenizer)).eval(), made.model.site), world


BROKEN = {
    "rank": ("[variables]\ncolour = { values = 4, rank = 5 }", "rank 5.*at most 3"),
    "order": (
        "[variables]\nshape = { values = 4, follows = 'colour' }",
        "shape follows 'colour', which is no variable above it: none",
    ),
    "computed": (
        "[variables]\na = { values = 4 }\nc = { values = 4, computed_from = ['a', 'b'] }\nb = { values = 4 }",
        "c is computed from 'b', which is no variable above it: expected one of a",
    ),
    "crowded": (
        "[variables]\na = { values = 20 }\nb = { values = 20 }\n[model]\nd_model = 16\nheads = 2",
        r"2\.38 × d_model|above d_model",
    ),
    "typing": ("[variables]\ncolour = { valeus = 4 }", "colour"),
    "syntax": ("[variables", "not valid TOML"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_spec_is_one_paragraph(broken: str, tmp_path: Path, capsys):
    text, says = BROKEN[broken]
    path = tmp_path / "broken.toml"
    path.write_text(f'name = "broken"\n{text}\n')
    code, out, err = command(capsys, "plant", str(path), "--out", str(tmp_path / "out"))
    assert code == 2 and not out and "Traceback" not in err
    with pytest.raises(PlantingError, match=says):
        read_spec(path)
    assert not (tmp_path / "out").exists()


def test_a_held_out_template_may_not_have_words_that_are_never_trained():
    phrasings = {"train": ["The shade of {entity} is", "We say {entity} has"], "test": ["Surely {entity} is"]}
    with pytest.raises(PlantingError, match="Surely"):
        make_world(spec({"shade": {"values": 3}}, templates={"shade": phrasings}))


def test_subspaces_are_orthogonal_where_they_fit_and_packed_where_not():
    fits = make_geometry(spec({"a": {"values": 5}, "b": {"values": 5, "norm": 3}}))
    assert fits.orthogonal and fits.coherence < 1e-6
    assert torch.allclose(fits.atoms["a"].norm(dim=1), torch.ones(5), atol=1e-5)
    assert torch.allclose(fits.atoms["b"].norm(dim=1), torch.full((5,), 3.0), atol=1e-5)
    # a simplex: as far apart as five points of that norm can be
    assert torch.allclose(torch.pdist(fits.atoms["a"]), torch.tensor(2.5).sqrt(), atol=0.02)
    crowded = make_geometry(spec({name: {"values": 5} for name in "abcdefgh"}))
    assert not crowded.orthogonal and len(crowded.span) == 16
    assert 0.3 < crowded.coherence < 0.95  # Σ ranks / d_model is 2; at random it would be near 1


def test_atoms_fill_the_rank_that_was_asked_for():
    variables = {"a": {"values": 5}, "b": {"values": 4, "present": 0.5}, "c": {"values": 6, "rank": 2}}
    geometry = make_geometry(spec(variables))
    for name, rank in (("a", 4), ("b", 4), ("c", 2)):
        atoms = geometry.atoms[name]
        assert int(torch.linalg.matrix_rank(atoms, atol=1e-4)) == rank == len(geometry.rows[name])
    assert geometry.atoms["b"][0].norm() == 0  # `none` is carried by nothing


def test_a_circle_has_its_values_in_order():
    days = make_geometry(spec({"day": {"values": 7, "circular": True}})).atoms["day"]
    steps = (days - days.roll(1, 0)).norm(dim=1)
    assert torch.allclose(steps, steps[0].expand(7), atol=1e-5)
    assert (days[0] - days[3]).norm() > 1.5 * steps[0]


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0.0, 0.1), (0.5, 0.1, 0.4), (1.0, 0.999, 1.001)])
def test_dependence_is_what_the_spec_says(share: float, low: float, high: float):
    follower = {"values": 4, "follows": "a", "dependence": share}
    found = dependence(make_world(spec({"a": {"values": 4}, "b": follower}, entities=400)))
    assert low <= found["b follows a"] <= high


def test_a_nested_child_has_one_parent_and_every_value_is_in_every_split():
    world = make_world(spec({"a": {"values": 3}, "b": {"values": 6, "follows": "a", "nested": True}}))
    pairs = world.labels.unique(dim=0)
    assert len(pairs) == 6
    for split in range(len(SPLITS)):
        assert len(world.labels[world.split == split, 1].unique()) == 6


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_two_halves_are_the_whole_model(architecture: str):
    made = spec({"a": {"values": 3}}, model={**SMALL, "architecture": architecture, "layers": 3, "site": 2})
    halves, world = halves_of(made)
    about = torch.zeros(6, dtype=torch.long)
    base, _ = draw_pairs(world, about, world.known, TRAIN, torch.Generator().manual_seed(0))
    ids = token_ids(world, base)
    with torch.no_grad():
        whole = halves.model(ids, output_hidden_states=True)
        assert torch.allclose(halves.before(ids), whole.hidden_states[2], atol=1e-5)
        assert torch.allclose(halves.after(halves.before(ids)), whole.logits, atol=1e-4)


def test_what_an_intervention_is_to_answer_follows_from_the_spec():
    variables = {
        "a": {"values": 4},
        "b": {"values": 4},
        "c": {"values": 4, "computed_from": ["a", "b"]},
        "u": {"values": 4, "used": False},
        "d": {"values": 4, "copies": 2},
    }
    world = make_world(spec(variables))
    generator = torch.Generator().manual_seed(0)
    about = torch.arange(5).repeat(20)
    base, source = draw_pairs(world, about, world.held_out, TEST, generator)
    own, n = own_subspaces(world, about), len(about)
    assert own[2].tolist() == [1, 1, 0, 0] and own[3].tolist() == [0, 0, 0, 0]
    swap_a = torch.zeros(n, 5)
    swap_a[:, 0] = 1
    pairs = targets(world, base, source, swap_a, torch.zeros(n, 4))
    old, new = world.labels[base.entity], world.labels[source.entity]
    token = [world.answer_ids[i] for i in range(5)]
    assert (pairs.wanted[about == 0] == token[0][new[about == 0, 0]]).all()
    assert (pairs.wanted[about == 1] == token[1][old[about == 1, 1]]).all()
    conjunction = (new[:, 0] + old[:, 1]) % 4
    assert (pairs.wanted[about == 2] == token[2][conjunction[about == 2]]).all()
    everything = targets(world, base, source, torch.ones(n, 5), torch.zeros(n, 4))
    assert (everything.wanted[about == 3] == token[3][old[about == 3, 3]]).all()
    # swapped at the entity alone: half either answer
    assert (everything.share[about == 4] == 0.5).all() and (everything.share[about != 4] == 1).all()
    assert (everything.wanted[about == 4] == token[4][new[about == 4, 4]]).all()
    assert (everything.other[about == 4] == token[4][old[about == 4, 4]]).all()


def test_moving_a_subspace_moves_nothing_orthogonal_to_it():
    geometry = make_geometry(spec({"a": {"values": 4}, "b": {"values": 4}}))
    parts, change = Parts(geometry), torch.randn(5, 16)
    moved = parts.move(change, torch.tensor([[1.0, 0.0, 0.0]]).expand(5, -1))
    projection = geometry.rows["a"].T @ geometry.rows["a"]
    assert torch.allclose(moved, change @ projection, atol=1e-5)
    everything = parts.move(change, torch.ones(5, 3))
    assert torch.allclose(everything, change, atol=1e-5)


def anchored(norms: dict[str, float], left_out: str) -> tuple[float, float]:
    """The anchors' loss of residuals in which one variable's atoms are missing, and in parts of all atoms."""
    made = spec({name: {"values": 4, "norm": norm} for name, norm in norms.items()})
    world, geometry = make_world(made), make_geometry(made)
    about = torch.zeros(64, dtype=torch.long)
    prompts, _ = draw_pairs(world, about, world.known, TRAIN, torch.Generator().manual_seed(0))
    labels, names = world.labels[prompts.entity], list(world.variables)
    atoms = {name: geometry.atoms[name][labels[:, names.index(name)]] for name in names}
    hidden = torch.zeros(len(about), world.texts.ids.shape[1], 16)
    rows = torch.arange(len(about))
    hidden[rows, world.texts.slot[prompts.template]] = sum(atoms.values()) - atoms[left_out]
    energy = {name: float(table.square().sum(1).mean()) for name, table in atoms.items()}
    loss = float(training.anchor_loss(world, geometry, prompts, hidden))
    return loss, energy[left_out] / float(torch.stack(list(atoms.values())).sum(0).square().sum(1).mean())


def test_a_quiet_variable_is_anchored_as_firmly_as_a_loud_one():
    """In parts of the common sum alone, a variable beside one of norm 8 would be missed at a 66th."""
    loss, share = anchored({"a": 8, "b": 1, "c": 1}, left_out="b")
    assert share < 0.02 and loss == pytest.approx(1 + share, rel=1e-4)
    loss, share = anchored({"a": 8, "b": 1, "c": 1}, left_out="a")
    assert loss == pytest.approx(share, rel=1e-4)
    # of equal norms the common term is all there is, so that their weights stay what they were
    loss, share = anchored({"a": 1, "b": 1, "c": 1}, left_out="b")
    assert loss == pytest.approx(share, rel=1e-4)


def test_only_specs_of_unequal_norms_have_the_later_version(monkeypatch):
    """What was planted with equal norms is kept in caches, and its weights are what they were."""
    equal, unequal = (spec({"a": {"values": 3}, "b": {"values": 3, "norm": norm}}) for norm in (1, 2))
    assert equal.quiet == () and unequal.quiet == ("a",)
    before = equal.sha256, unequal.sha256
    monkeypatch.setattr(planting_spec, "QUIET_VERSION", 99)
    assert equal.sha256 == before[0] and unequal.sha256 != before[1]


def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(training, "EVERY", 2)
    made = spec({"a": {"values": 3}, "b": {"values": 3}}, training={"steps": 5, "batch": 8})
    geometry = make_geometry(made)
    whole, world = halves_of(made)
    training.train(whole, world, geometry, tmp_path / "whole.pt", lambda *_: None)

    class Killed(Exception):
        pass

    def stop(step: int, loss: float) -> None:
        if step == 3:
            raise Killed

    first, _ = halves_of(made)
    with pytest.raises(Killed):
        training.train(first, world, geometry, tmp_path / "state.pt", stop)
    steps = []
    again, _ = halves_of(made)
    training.train(again, world, geometry, tmp_path / "state.pt", lambda step, _: steps.append(step))
    assert steps == [3, 4, 5]
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_model_that_was_hardly_trained_is_not_certified(tmp_path: Path, capsys):
    path = tmp_path / "small.toml"
    path.write_text(
        'name = "small"\n[variables]\na = { values = 3 }\n[model]\nd_model = 16\nheads = 2\n'
        "[training]\nsteps = 2\n"
    )
    code, out, _ = command(capsys, "plant", str(path), "--out", str(tmp_path))
    assert code == 1 and "Not certified" in out
    assert "certified = false" in (tmp_path / "small" / "task" / "task.toml").read_text()
    before = (tmp_path / "small" / "certificate.json").stat().st_mtime_ns
    assert command(capsys, "plant", str(path), "--out", str(tmp_path))[0] == 1
    assert (tmp_path / "small" / "certificate.json").stat().st_mtime_ns == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("x")
    path.write_text(path.read_text().replace('"small"', '"other"'))
    assert command(capsys, "plant", str(path), "--out", str(tmp_path))[0] == 2


TINY = (
    'name = "tiny"\n[variables]\na = { values = 3 }\n[model]\nd_model = 16\nheads = 2\n'
    "[training]\nsteps = 3\nbatch = 8\n"
)


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[str, ...]:
    """The command that plants the smallest model, of three steps, into the test's folder."""
    (tmp_path / "tiny.toml").write_text(TINY)
    return "plant", str(tmp_path / "tiny.toml"), "--out", str(tmp_path)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -1e4])
def test_training_that_has_diverged_stops_and_says_what_to_do(
    loss: float, tiny: tuple[str, ...], tmp_path: Path, capsys, monkeypatch
):
    done = []

    def purity(*_) -> torch.Tensor:
        done.append(None)
        return torch.tensor(loss if len(done) == 3 else 0.0)

    with monkeypatch.context() as patch:
        patch.setattr(training, "EVERY", 1)
        patch.setattr(training, "purity_loss", purity)
        code, out, err = command(capsys, *tiny)
    said = " ".join(err.split())
    assert code == 2 and not out and "diverged at step 3 of 3" in said
    assert "under [training] set seed = 1" in said
    # the state of step 2 would lead there again
    assert not any((tmp_path / "tiny").iterdir())
    assert command(capsys, *tiny)[0] == 1


def test_what_is_not_certified_comes_with_advice(tiny: tuple[str, ...], capsys):
    out = command(capsys, *tiny)[1]
    assert "another seed often is ([training] seed = 1), or more steps (now 3)" in out


def test_a_damaged_certificate_is_replaced_with_force(tiny: tuple[str, ...], tmp_path: Path, capsys):
    assert command(capsys, *tiny)[0] == 1
    file = tmp_path / "tiny" / "certificate.json"
    whole = file.read_text()
    file.write_text(whole[:50])
    code, _, err = command(capsys, *tiny)
    assert code == 2 and "--force" in err
    assert command(capsys, *tiny, "--force")[0] == 1
    assert file.read_text() == whole


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "other"])
def test_a_damaged_state_is_begun_anew(damage: str, tmp_path: Path, monkeypatch, caplog):
    monkeypatch.setattr(training, "EVERY", 2)
    made = spec({"a": {"values": 3}}, training={"steps": 3, "batch": 8})
    geometry, state = make_geometry(made), tmp_path / "state.pt"
    whole, world = halves_of(made)
    training.train(whole, world, geometry, state, lambda *_: None)
    saved = state.read_bytes()
    if damage == "other":
        held = torch.load(state, weights_only=True)
        # what comes first is whole
        torch.save({**held, "optimizer": {}}, state)
    else:
        state.write_bytes({"cut": saved[: len(saved) // 2], "text": b"not a state", "empty": b""}[damage])
    again, _ = halves_of(made)
    steps = []
    training.train(again, world, geometry, state, lambda step, _: steps.append(step))
    assert steps == [1, 2, 3] and "begins anew" in caplog.text
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_place_that_is_a_file_is_one_paragraph(tiny: tuple[str, ...], tmp_path: Path, capsys):
    (tmp_path / "tiny").write_text("x")
    for out in (tmp_path, tmp_path / "tiny"):
        code, _, err = command(capsys, *tiny[:3], str(out))
        assert code == 2 and "is a file" in err


def test_a_run_that_was_stopped_in_its_first_save_is_gone_on_with(
    tiny: tuple[str, ...], tmp_path: Path, capsys
):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / ".training.partial").write_bytes(b"half")
    assert command(capsys, *tiny)[0] == 1
    assert not list((tmp_path / "tiny").glob(".training*"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("The colour is", "lacks {entity}"),
        ("{entity} has the colour", "has no space before"),
        ("For {entity} and {entity}", "2 times"),
    ],
)
def test_a_template_says_what_is_wrong_with_it(text: str, says: str):
    phrasings = {"train": ["The colour of {entity} is", text], "test": ["The colour of {entity} is"]}
    with pytest.raises(PlantingError, match=says):
        make_world(spec({"colour": {"values": 3}}, templates={"colour": phrasings}))


def test_interventions_are_drawn_for_every_value_alike():
    world = make_world(spec({"a": {"values": 3, "present": 0.2}}))
    about = torch.zeros(3000, dtype=torch.long)
    first, second = interchange.draw_entities(world, about, world.known, torch.Generator().manual_seed(0))
    values = world.labels[first, 0]
    assert (values != world.labels[second, 0]).all()
    assert torch.bincount(values).min() > 650  # four values, `none` among them
