"""Theorems on two committed planted models: a variable is used in one and epiphenomenal in the other."""

from dataclasses import replace
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace

import pytest
import torch
from paths import DEMO
from safetensors import safe_open
from safetensors.torch import save_file

from saebench.axes.bench import make_bench
from saebench.dictionaries.controls import Random
from saebench.dictionaries.supervised import SupervisedDictionary, fit_supervised
from saebench.dictionary import Encoding, LabelledDictionary
from saebench.edits.das import DAS, leads
from saebench.errors import TaskError
from saebench.kinds.base import Settings
from saebench.kinds.entities.planted import read_truth
from saebench.kinds.entities.sections import build
from saebench.models.loading import load_model
from saebench.planting import certificate
from saebench.planting.interchange import draw_pairs, lengths, token_ids
from saebench.planting.making import open_planted, plant
from saebench.planting.world import TRAIN
from saebench.scoring import score
from saebench.site import Site
from saebench.spec import load_task
from saebench.studies.planted import needed
from saebench.studies.planted.das import Fitted

TWINS = {name: DEMO / "planted" / name for name in ("twin-used", "twin-unused")}
SITE = Site.parse("blocks.1.hook_resid_pre@entity")


@pytest.fixture(scope="module")
def twins():
    """Each twin's task on its model, with a bench that learns nothing (DAS is not the point here)."""
    found = {}
    for name, folder in TWINS.items():
        model, task = load_model(str(folder), device="cpu"), load_task(str(folder / "task"))
        built = build(task, model, SITE, Settings())
        section = built.section
        assert section.truth is not None
        bench = make_bench(section, section.truth, fit_supervised(section), ("subspaces",))
        found[name] = SimpleNamespace(model=model, task=task, built=built, section=section, bench=bench)
    return found


def entries(twin, dictionary) -> dict:
    scored = score(twin.bench.measure(dictionary))
    found = {(e.axis, e.name, e.attribute): e for e in scored.entries if e.edit is None and e.k is None}
    return found | {("headline", name, None): headline for name, headline in scored.axes.items()}


def test_the_task_knows_the_truth_in_its_own_model_alone(twins):
    used, unused = twins["twin-used"], twins["twin-unused"]
    spec, attributes = used.task.spec, used.section.attributes
    assert set(used.section.planted) == {"colour", "size", "shape"}
    elsewhere = read_truth(used.task, spec.planted, attributes, unused.model, SITE)
    assert not elsewhere.subspaces and "another model" in elsewhere.notes[0]
    other_site = Site.parse("blocks.1.hook_resid_pre@end")
    assert not read_truth(used.task, spec.planted, attributes, used.model, other_site).atoms
    claimed = spec.planted.model_copy(update={"certified": False})
    assert "not certified" in read_truth(used.task, claimed, attributes, used.model, SITE).notes[0]
    assert spec.sites_of("anything", used.model.sha256) == (str(SITE),)
    assert spec.sites_of("anything", unused.model.sha256) == ()


def test_a_damaged_truth_is_refused(twins, tmp_path: Path):
    used = twins["twin-used"]
    copytree(TWINS["twin-used"] / "task", tmp_path / "task")
    (tmp_path / "task" / "planted.safetensors").write_bytes(b"nothing")
    broken = load_task(str(tmp_path / "task"))
    with pytest.raises(TaskError, match="plant the model again"):
        read_truth(broken, used.task.spec.planted, used.section.attributes, used.model, SITE)


def test_a_truth_that_was_exchanged_is_refused(twins, tmp_path: Path):
    """Another file that reads as well, of the same names and shapes."""
    used = twins["twin-used"]
    path = Path(copytree(TWINS["twin-used"] / "task", tmp_path / "task")) / "planted.safetensors"
    same = read_truth(
        load_task(str(path.parent)), used.task.spec.planted, used.section.attributes, used.model, SITE
    )
    assert "shape" in same.subspaces
    with safe_open(path, "pt") as file:
        rows, names = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    width = rows["subspace.shape"].shape[1]
    turned = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(0))).Q
    save_file({name: (tensor @ turned).contiguous() for name, tensor in rows.items()}, path, names)
    exchanged = load_task(str(path.parent))
    with pytest.raises(TaskError, match="not the file that was planted with the model"):
        read_truth(exchanged, exchanged.spec.planted, used.section.attributes, used.model, SITE)


def test_the_oracle_stands_at_every_ceiling(twins):
    for twin in twins.values():
        found = entries(twin, twin.section.truth)
        for axis in ("approximation", "control", "interpretability", "oversplitting"):
            value = float(found["headline", axis, None].normalized)
            assert value == pytest.approx(1.0, abs=0.03), axis
        assert float(found["subspaces", "subspace_overlap", None].value) == pytest.approx(1.0, abs=1e-4)
        assert float(found["subspaces", "atom_f1", None].value) == pytest.approx(1.0, abs=1e-9)


def test_random_latents_recover_no_subspace(twins):
    twin = twins["twin-used"]
    random = Random(twin.section.fit.acts, 256, 8)
    found = entries(twin, random)
    overlap = found["subspaces", "subspace_overlap", None]
    assert abs(float(overlap.normalized)) < 0.1
    assert abs(float(found["subspaces", "atom_cosine", None].normalized)) < 0.1
    assert float(found["headline", "interpretability", None].normalized) < 0.35


def test_what_is_written_against_an_atom_has_not_found_it(twins):
    """A turned row is another latent; a row and its codes turned together are the same one."""
    twin = twins["twin-used"]
    truth, of = twin.section.truth, ("subspaces", "atom_f1", "colour")
    atoms, signs = truth.W_dec, torch.ones(truth.d_sae)
    start = twin.section.index("colour") * len(twin.section.attributes[0].values)
    signs[start] = -1
    written_against = SupervisedDictionary("against", truth.variables, atoms * signs[:, None], truth.b_dec)
    found = entries(twin, written_against)[of]
    assert float(found.value) == pytest.approx(5 / 6, abs=1e-9)

    class Turned(LabelledDictionary):
        name, W_dec, b_dec = "turned", atoms * signs[:, None], truth.b_dec

        def encode(self, acts, known):
            codes, offset = truth.encode(acts, known)
            return Encoding(codes * signs, offset)

        def edit(self, attribute, base, known, source, source_known):
            return truth.edit(attribute, base, known, source, source_known)

    whole, turned = (entries(twin, d) for d in (truth, Turned()))
    for number in ("subspace_overlap", "atom_cosine", "atom_f1"):
        for attribute in (None, "colour"):
            one, other = (float(e["subspaces", number, attribute].value) for e in (whole, turned))
            assert one == pytest.approx(other, abs=1e-6), number


def without(twin, name: str) -> SupervisedDictionary:
    """The oracle with nothing to write of one attribute."""
    truth, section = twin.section.truth, twin.section
    start = sum(len(a.values) for a in section.attributes[: section.index(name)])
    atoms = truth.W_dec.clone()
    atoms[start : start + len(section.attributes[section.index(name)].values)] = 0
    return SupervisedDictionary("without", truth.variables, atoms, truth.b_dec)


def test_an_epiphenomenal_variable_is_recovered_and_read_alike(twins):
    """Text, labels, subspaces and atoms are the same: what latents stand for cannot tell the twins apart."""
    used, unused = twins["twin-used"], twins["twin-unused"]
    assert used.section.test.labels.equal(unused.section.test.labels)
    one, other = (entries(twin, twin.section.truth) for twin in (used, unused))
    recovered = ("subspaces", "subspace_overlap", "shape")
    assert float(one[recovered].value) == pytest.approx(float(other[recovered].value), abs=1e-3)
    for number in ("written", "read_write"):
        of = ("interpretability", number, "shape")
        low, high = (one[of].value - other[of].value).interval()
        # two trainings, so not the same to the last digit: the whole paired interval is within a hundredth
        assert -0.01 < low < high < 0.01, number


def test_an_epiphenomenal_variable_is_not_controlled_and_not_missed(twins):
    """Control and approximation see the use: what lacks the shape loses answers only where they need it."""
    shape = twins["twin-used"].section.index("shape")
    swapped, kept = {}, {}
    for name, twin in twins.items():
        test = twin.section.test
        rows = test.asks(shape).nonzero()[:, 0]
        source = test.source_acts["shape"][rows]
        top = test.readout.run({"source": source}, rows=rows)["source"].top
        swapped[name] = float((top == test.expected["shape"][rows]).float().mean())
        lacking, whole = (entries(twin, d) for d in (without(twin, "shape"), twin.section.truth))
        of = ("headline", "approximation", None)
        kept[name] = lacking[of].value - whole[of].value
        # recovery says it of both
        assert float(lacking["subspaces", "subspace_overlap", "shape"].value) < 0.01
    assert swapped["twin-used"] > 0.95 and swapped["twin-unused"] < 0.05
    # what is not read still stood there, and its place is where other things are read
    assert kept["twin-used"].interval()[1] < -0.2 < -0.06 < kept["twin-unused"].interval()[0]


def test_the_certificate_refuses_the_wrong_subspace(monkeypatch):
    monkeypatch.setattr(certificate, "DRAWS", 150)
    opened = open_planted(TWINS["twin-used"])
    parts = (opened.halves, opened.world)
    again = certificate.certify(*parts, opened.geometry, "")
    assert again.certified, again.failures
    rows, atoms = opened.geometry.rows, opened.geometry.atoms
    swap = {"colour": "shape", "shape": "colour", "size": "size"}
    claimed = replace(
        opened.geometry,
        rows={name: rows[swap[name]] for name in rows},
        atoms={name: atoms[swap[name]] for name in atoms},
    )
    refused = certificate.certify(*parts, claimed, "")
    assert not refused.certified
    said = " ".join(refused.failures)
    assert "colour: interchange" in said and "shape: interchange" in said and "size" not in said


def test_what_answers_do_not_need_is_told_from_what_das_missed(twins):
    """A fifth of what DAS is said to have found is no part of the planted subspace, and no answer needs more."""
    section = twins["twin-used"].section
    planted = section.planted["colour"]
    everything = torch.cat(list(section.planted.values()))
    dead = torch.linalg.svd(everything, full_matrices=True).Vh[-1:]
    felt = needed.by_gradient(leads(section, seed=0)[section.index("colour")], planted)
    rows = {**section.planted, "colour": torch.cat([felt[:4], dead])}
    by_name = {row["variable"]: row for row in needed.measure(Fitted(section, DAS("made up", rows), ()))}
    assert set(by_name) == set(section.planted)
    colour, size = by_name["colour"], by_name["size"]
    assert colour["overlap"] == pytest.approx(0.8, abs=1e-4) and size["overlap"] == pytest.approx(1, abs=1e-4)
    # four of the five are enough, and those it has; the one it lacks moves no answer by itself
    assert colour["needed"] <= 4 and colour["right_needed"] >= 0.99
    assert colour["overlap_needed"] == pytest.approx(1, abs=1e-4) and colour["kept_rest"] >= 0.98
    assert [colour[at] for at in ("inside", "in_others", "outside")] == pytest.approx([0.8, 0, 0.2], abs=1e-4)
    # the answers are moved by the part inside, and the rest moves none
    assert colour["right_inside"] >= 0.99 and colour["right_rest"] == 0
    nothing = needed.swap_of(section, "colour", planted[:0])
    assert nothing.right == 0 and nothing.kept == 1
    whole = needed.swap_of(section, "colour", planted)
    assert whole.right >= 0.99 and whole.kept == 0 and whole.loss < 0.05


def answered(folder: Path) -> float:
    """Share of the questions in trained phrasings that a planted model answers rightly, nothing swapped."""
    opened = open_planted(folder)
    world, n = opened.world, 400
    about = torch.arange(n) % len(world.variables)
    prompts, _ = draw_pairs(world, about, world.known, TRAIN, torch.Generator().manual_seed(0))
    with torch.no_grad():
        hidden = opened.halves.before(token_ids(world, prompts))
        top = opened.halves.after(hidden, lengths(world, prompts) - 1).argmax(-1)
    return float((top == world.answers[prompts.entity, about, 0]).float().mean())


@pytest.mark.slow
def test_the_certificate_refuses_a_model_without_interventions(tmp_path: Path):
    """It has learnt all that it was told, and carries nothing where it was to."""
    path = tmp_path / "untaught.toml"
    path.write_text(
        'name = "untaught"\nentities = 80\n[variables]\ncolour = { values = 4 }\nshape = { values = 4 }\n'
        "[training]\ninterchange = false\nsteps = 400\n"
    )
    made = plant(path, tmp_path)
    assert not made.certificate.certified
    assert answered(made.folder) > 0.99
    for name, found in made.certificate.variables.items():
        # phrasings that were never trained: far above the quarter of guessing
        assert found.behaviour > 0.6, name
        shares = (found.interchange, found.purity, found.gradient_inside)
        assert all(share is not None and share < 0.2 for share in shares), name
