"""Reading and writing: the decomposition against its own definition, and what it must not reward."""

import pytest
import torch
from sparse import sparse

from saebench.measures import read_write
from saebench.measures.detection import f1_table
from saebench.measures.thresholds import best_cuts, cut, dense_latents

N, V = 400, 5


class World:
    """One-hot attribute of V values along orthonormal rows, another attribute in the rest."""

    def __init__(self, seed: int = 0) -> None:
        g = torch.Generator().manual_seed(seed)
        self.rows = torch.linalg.qr(torch.randn(20, 20, generator=g)).Q
        self.label = torch.arange(N) % V
        self.other = torch.randint(8, (N,), generator=g)
        self.acts = 3 * self.rows[self.label] + 2 * self.rows[V + self.other]
        means = torch.stack([self.acts[self.label == v].mean(0) for v in range(V)])
        self.atoms = means - self.acts.mean(0)
        self.keep = torch.ones(V, dtype=torch.bool)

    def truth(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes and rows of the dictionary that is the world."""
        codes = torch.zeros(N, V + 8)
        codes[torch.arange(N), self.label] = 3.0
        codes[torch.arange(N), V + self.other] = 2.0
        return codes, self.rows[: V + 8]

    def scores(self, codes: torch.Tensor, rows: torch.Tensor) -> dict[str, float]:
        """Purity, specific share and split of what is written, on the prompts of the choice."""
        chosen = self.choose(codes, rows)
        found = read_write.contributions(chosen, sparse(codes), self.label, self.keep)
        total = {name: float(part.mean()) for name, part in found.items()}
        written = read_write.along_atoms(codes @ rows, self.atoms, self.label, self.keep)
        whole = read_write.along_atoms(self.acts, self.atoms, self.label, self.keep)
        gross = total.pop("gross")
        return {k: v / gross for k, v in total.items()} | {"written": float(written.mean() / whole.mean())}

    def choose(self, codes: torch.Tensor, rows: torch.Tensor) -> read_write.Writers:
        held = sparse(codes)
        cuts = best_cuts(held, dense_latents(held), self.label, V)
        table = f1_table(cut(held, cuts), self.label, V, signed=True)
        readings = read_write.Readings.of(table, held.d_sae)
        return read_write.choose(held, readings, rows, self.atoms, self.label, self.keep, self.keep)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def test_what_latents_write_adds_up_to_what_is_written(world: World):
    g = torch.Generator().manual_seed(1)
    codes = torch.randn(N, 30, generator=g) * (torch.rand(N, 30, generator=g) < 0.3)
    rows = torch.randn(30, 20, generator=g)
    chosen = world.choose(codes, rows)
    hat = codes @ rows
    for v in range(V):
        whole = (hat[world.label == v].mean(0) - hat.mean(0)) @ world.atoms[v]
        assert float(chosen.written[:, v].sum()) == pytest.approx(float(whole), abs=1e-5)


def test_the_worlds_own_dictionary_reads_and_writes_everything(world: World):
    assert world.scores(*world.truth()) == pytest.approx(
        {"selective": 1, "specific": 1, "split": 1, "written": 1}, abs=0.02
    )


@pytest.mark.parametrize("k", [2, 4])
def test_k_copies_share_what_they_write(world: World, k: int):
    codes, rows = world.truth()
    duplicated = world.scores(codes.repeat(1, k) / k, rows.repeat(k, 1))
    assert duplicated["split"] == pytest.approx(1 / k, rel=0.02)
    assert duplicated["selective"] == pytest.approx(1, abs=0.02)
    turn = (torch.arange(N) // V % k)[:, None]
    disjoint = torch.cat([codes * (turn == i) for i in range(k)], 1)
    found = world.scores(disjoint, rows.repeat(k, 1))
    assert found["split"] == pytest.approx(1 / k, rel=0.05)
    assert found["specific"] == pytest.approx(1, abs=0.02)
    assert found["written"] == pytest.approx(1, abs=1e-4)


def test_tiny_and_always_on_latents_move_nothing(world: World):
    codes, rows = world.truth()
    plain = world.scores(codes, rows)
    # perfect detectors that write nothing, and a latent that is always on
    more = torch.cat([codes, codes[:, :V], torch.ones(N, 1)], 1)
    padded = torch.cat([rows, 1e-5 * rows[:V], rows[:1]])
    assert world.scores(more, padded) == pytest.approx(plain, abs=1e-3)


def test_who_fires_right_but_writes_elsewhere_is_not_counted(world: World):
    codes, rows = world.truth()
    g = torch.Generator().manual_seed(2)
    shuffled = rows[torch.randperm(len(rows), generator=g)]
    assert world.scores(codes, shuffled)["written"] < 0.3


def test_what_latents_of_another_attribute_write_is_not_selective(world: World):
    codes, rows = world.truth()
    # the value is written along the rows of an attribute that says nothing of it
    mixed = torch.cat([codes[:, V:], codes[:, :V]], 1)
    leaning = torch.cat([rows[V:], rows[:V] * 0.0])
    leaning = torch.cat([leaning[:8] + world.atoms[0], leaning[8:]])
    assert world.scores(mixed, leaning)["selective"] < 0.3


@pytest.mark.parametrize("signed", [True, False])
def test_one_latent_may_stand_for_both_of_two_values(signed: bool):
    """By its two signs, or by firing and by silence; and two latents, one for each, do as well."""
    label = torch.arange(N) % 2
    direction = torch.zeros(6)
    direction[0] = 1.0
    codes = torch.where(label == 1, 1.0, -1.0 if signed else 0.0)[:, None]
    atoms = torch.stack([-direction, direction]) * (1.0 if signed else 0.5)
    keep = torch.ones(2, dtype=torch.bool)
    pair = torch.stack([(label == 1).float(), (label == 0).float()], 1)
    for held, rows in ((codes, direction[None]), (pair, torch.stack([direction, -direction]))):
        found = sparse(held)
        cuts = best_cuts(found, dense_latents(found), label, 2)
        readings = read_write.Readings.of(f1_table(cut(found, cuts), label, 2, signed=True), found.d_sae)
        chosen = read_write.choose(found, readings, rows, atoms, label, keep, keep)
        parts = read_write.contributions(chosen, found, label, keep)
        gross = float(parts["gross"].mean())
        assert gross > 0
        for name in ("selective", "specific", "split"):
            assert float(parts[name].mean()) == pytest.approx(gross, rel=1e-4)


def test_values_that_are_left_out_add_nothing_and_the_rest_count_alike():
    label = torch.tensor([0] * 10 + [1] * 30 + [2] * 5)
    keep = torch.tensor([True, True, False])
    weight = read_write.value_weights(label, keep)
    assert weight[label == 2].sum() == 0
    sums = [float(weight[label == v].sum()) for v in (0, 1)]
    assert sums == pytest.approx([len(label) / 2] * 2)


def test_contributions_are_those_of_the_choice_when_prompts_are_the_same(world: World):
    codes, rows = world.truth()
    chosen = world.choose(codes, rows)
    gross = read_write.contributions(chosen, sparse(codes), world.label, world.keep)["gross"]
    assert float(gross.mean()) == pytest.approx(float(chosen.written.clamp(min=0).sum() / V), rel=1e-5)
