"""Recovery scores against naive implementations, SAELens' own, and phenomena that were planted."""

from dataclasses import replace
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import Planted

from saebench.axes import MEASURES
from saebench.axes.base import Bench
from saebench.dictionaries.codes import SparseCodes
from saebench.dictionaries.objects import from_object
from saebench.dictionary import Dictionary, Encoding
from saebench.evaluation.api import make_arena
from saebench.measures import recovery as rec
from saebench.scoring import score
from saebench.spec import load_task
from saebench.synthetic.oracle import Oracle
from saebench.synthetic.registry import make_generator
from saebench.synthetic.training import Recipe, fit

_BENCHES: dict = {}


def bench(name: str):
    if name not in _BENCHES:
        task = load_task(f"synthetic/{name}")
        here = make_arena(task)
        _BENCHES[name] = here.bench(here.sites([], None)[0])[1]
    return _BENCHES[name]


def truth_of(name: str) -> Oracle:
    truth = bench(name).section.truth
    assert isinstance(truth, Oracle)
    return truth


def only_recovery(bench: Bench) -> Bench:
    return replace(bench, measures={"recovery": MEASURES["recovery"]})


def recovered(dictionary, name: str) -> dict[str, float | None]:
    """Values of all recovery scores."""
    here = bench(name)
    out = only_recovery(here).measure(dictionary)
    return {
        e.name: float(e.value) if hasattr(e.value, "draws") else None
        for e in score(out).entries
        if e.axis == "recovery"
    }


class Given(Dictionary):
    """Codes by a function of the activations."""

    name = "given"

    def __init__(self, rows, offset, encode):
        self.W_dec, self._offset, self._encode = rows, offset, encode

    def encode(self, acts):
        return Encoding(self._encode(acts - self._offset), self._offset)


def sparse(codes):
    row, latent = codes.nonzero(as_tuple=True)
    return SparseCodes(row, latent, codes[row, latent], *codes.shape)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "name", ["independent", "correlated", "hierarchical", "occlusion", "splitting", "composed"]
)
def test_the_truth_recovers_itself(name):
    found = recovered(truth_of(name), name)
    ones = (
        "matched_cosine",
        "matched_cosine_calibrated",
        "mmcs_recall",
        "mmcs_precision",
        "recovered@0.8",
        "feature_f1",
        "uniqueness",
        "shrinkage",
        "explained_variance",
        "matched_cosine_frequent",
    )
    for score_name in ones:
        assert found[score_name] == pytest.approx(1, abs=1e-3), score_name
    for score_name in ("absorption", "leakage", "hedging"):
        assert found.get(score_name, 0) == pytest.approx(0, abs=1e-6), score_name
    assert found.get("composition", 1) == pytest.approx(1)
    assert found.get("pair_composition", 1) == pytest.approx(1)
    assert ("absorption" in found) == (name == "hierarchical")
    assert ("hedging" in found) == (name == "correlated")
    assert ("composition" in found) == (name in ("occlusion", "composed"))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 999))
def test_matching_is_the_best_of_all(n_features, d_sae, seed):
    D, W = random(n_features, 4, seed=seed), random(d_sae, 4, seed=seed + 1000)
    cos = rec.cosines(D, W)
    naive = (D @ W.T) / D.norm(dim=1)[:, None] / W.norm(dim=1)
    assert torch.allclose(cos.float(), naive, atol=1e-5)
    few, many = sorted((n_features, d_sae))
    table = cos.abs() if n_features <= d_sae else cos.abs().T
    best = max(sum(float(table[i, p[i]]) for i in range(few)) for p in permutations(range(many), few))
    found = rec.match(cos)
    assert int(found.matched.sum()) == few
    assert float(found.cosine.abs().sum()) == pytest.approx(best, abs=1e-6)


def test_f1_counts_one_by_one():
    g = torch.Generator().manual_seed(0)
    codes = torch.rand(60, 5, generator=g) * (torch.rand(60, 5, generator=g) < 0.4)
    truth = torch.rand(60, 4, generator=g) * (torch.rand(60, 4, generator=g) < 0.3)
    feature = torch.tensor([2, -1, 0, 2, 3])
    found = rec.detections(sparse(codes), sparse(truth), feature).f1
    for j in range(5):
        if feature[j] < 0:
            assert found[j] == 0
            continue
        fires, on = codes[:, j] > 0, truth[:, feature[j]] > 0
        tp, fp, fn = (fires & on).sum(), (fires & ~on).sum(), (~fires & on).sum()
        assert found[j] == pytest.approx(float(2 * tp / (2 * tp + fp + fn)))


def test_absorption_one_by_one():
    made = make_generator(load_task("synthetic/hierarchical"))
    truth = made.sample(3000, 1).codes
    keep = torch.rand(truth.shape, generator=torch.Generator().manual_seed(0)) < 0.7
    codes, parent = truth * keep, made.parent
    latent = torch.arange(made.n_features)
    found = rec.absorption(sparse(codes), sparse(truth), latent, parent)
    children = [f for f in range(made.n_features) if parent[f] >= 0]
    for i, child in enumerate(children):
        p = int(parent[child])
        kids = [c for c in children if parent[c] == p]
        alone = (truth[:, p] > 0) & ~(truth[:, kids] > 0).any(1)
        both = (truth[:, p] > 0) & (truth[:, child] > 0)
        off = codes[:, p] == 0
        assert found[i] == pytest.approx(float(off[both].float().mean() - off[alone].float().mean()))


def test_hedging_and_leakage_one_by_one():
    D, W = random(6, 9), random(8, 9, seed=1)
    matching = rec.match(rec.cosines(D, W))
    rho = torch.zeros(6, 6)
    rho[0, 1] = rho[1, 0] = 0.3
    rho[2, 3] = rho[3, 2] = -0.2
    rho.fill_diagonal_(1.0)
    found = rec.hedging(D, W, matching, rho)
    u, w = rec.unit(D), rec.unit(W)
    total = 0.0
    for i, j, sign in ((0, 1, 1), (1, 0, 1), (2, 3, -1), (3, 2, -1)):
        row = w[matching.latent[i]] * matching.cosine[i].sign()
        total += sign * float(row @ u[j] - u[i] @ u[j])
    assert float(found.total.sum()) == pytest.approx(total) and found.pairs.sum() == 4
    parent = torch.tensor([-1, -1, 0, 0, 1, 1])
    leaked = rec.leakage(D, W, matching, parent)
    for i, child in enumerate((2, 3, 4, 5)):
        row = w[matching.latent[child]] * matching.cosine[child].sign()
        above = u[parent[child]]
        assert float(leaked[i]) == pytest.approx(float(row @ above - u[child] @ above))


@pytest.mark.parametrize("n_features,d_sae,d_in", [(40, 40, 16), (30, 60, 20), (60, 25, 12)])
def test_random_decoders_are_worth_nothing_once_calibrated(n_features, d_sae, d_in):
    """100 seeds: the mean of the calibrated matched cosine is 0 within its interval."""
    D = rec.random_rows(n_features, d_in, 10**6)

    def matched(seed):
        found = rec.match(rec.cosines(D, rec.random_rows(d_sae, d_in, seed)))
        return float(found.cosine[found.matched].abs().mean())

    # eight independent random decoders make the null, as in a result; here anew for every seed
    values = torch.tensor(
        [
            rec.calibrated(matched(seed), sum(matched(5000 + 8 * seed + i) for i in range(8)) / 8)
            for seed in range(100)
        ]
    )
    half = 1.96 * float(values.std() / 10)
    assert abs(float(values.mean())) < 1.3 * half and half < 0.01
    assert rec.calibrated(1.0, 0.4) == 1


@pytest.fixture(scope="module")
def trained():
    made = make_generator(load_task("synthetic/independent"))
    return fit(made, Recipe("topk", 48, 5, samples=60_000, batch=256))


def test_agrees_with_sae_lens(trained):
    from sae_lens.evals import ExplainedVarianceCalculator
    from sae_lens.synthetic import (
        ShrinkageCalculator,
        compute_classification_metrics,
        feature_uniqueness,
        mean_correlation_coefficient,
    )

    here = bench("independent")
    test, truth = here.section.test, truth_of("independent")
    found = recovered(from_object(trained), "independent")
    with torch.no_grad():
        codes = trained.encode(test.acts)
        hat = trained.decode(codes)
    true_codes = truth.encode(test.acts, test.known).codes
    D, W = truth.W_dec, trained.W_dec.detach()
    shrinkage, variance = ShrinkageCalculator(), ExplainedVarianceCalculator()
    shrinkage.add_batch(hat, test.acts)
    variance.add_batch(hat, test.acts)
    theirs = {
        "matched_cosine": mean_correlation_coefficient(W, D),
        "uniqueness": feature_uniqueness(W, D),
        "latent_f1": compute_classification_metrics(codes, true_codes, W, D).f1_score,
        "shrinkage": shrinkage.compute(),
        "explained_variance": variance.compute(),
        "dead_latents": float((codes == 0).all(0).float().mean()),
    }
    for name, value in theirs.items():
        assert found[name] == pytest.approx(value, abs=1e-5), name


def scrambled(trained, section):
    """Latents in another order, every second one rescaled and its codes inversely."""
    inner = from_object(trained)
    order = torch.randperm(inner.d_sae, generator=torch.Generator().manual_seed(1))
    scale = torch.where(torch.arange(inner.d_sae) % 2 == 0, 1.0, 4.0)
    offset = inner.encode(section.test.acts[:1]).offset

    def encode(centred):
        return inner.encode(centred + offset).codes[:, order] / scale

    return inner, Given(inner.W_dec[order] * scale[:, None], offset, encode)


def test_order_and_scale_of_latents_change_nothing(trained):
    plain, other = scrambled(trained, bench("independent").section)
    one, two = recovered(plain, "independent"), recovered(other, "independent")
    assert set(one) == set(two)
    for name, value in one.items():
        assert two[name] == pytest.approx(value, abs=1e-6), name


def hierarchy():
    truth = truth_of("hierarchical")
    return truth, truth.generator.parent, torch.linalg.pinv(truth.W_dec)


def test_planted_absorption_is_read():
    """Half of the parents' latents stay off where a child's is on: absorption reads one half."""
    truth, parent, inverse = hierarchy()

    def encode(centred):
        codes = (centred @ inverse).clamp(min=0) * (centred @ inverse > 0.1)
        for p in range(0, 8, 2):
            kids = (parent == p).nonzero()[:, 0]
            codes[:, p] = torch.where((codes[:, kids] > 0).any(1), 0.0, codes[:, p])
        return codes

    found = recovered(Given(truth.W_dec, truth.b, encode), "hierarchical")
    assert found["absorption"] == pytest.approx(0.5, abs=1e-6)
    clean = recovered(Planted(truth.W_dec, truth.b), "hierarchical")
    assert clean["absorption"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_planted_leakage_is_read(share):
    truth, parent, _ = hierarchy()
    rows = truth.W_dec.clone()
    children = parent >= 0
    rows[children] += share * truth.W_dec[parent[children]]
    found = recovered(Planted(rows, truth.b), "hierarchical")
    assert found["leakage"] == pytest.approx(share / (1 + share**2) ** 0.5, abs=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_planted_hedging_is_read(share):
    """Each row leans by `share` towards every correlated feature, with the correlation's sign."""
    truth = truth_of("correlated")
    rho = truth.generator.correlation
    lean = rho.sign().fill_diagonal_(0)
    rows = truth.W_dec + share * lean @ truth.W_dec
    found = recovered(Planted(rows, truth.b), "correlated")
    counts = lean.abs().sum(1)
    each = share / (1 + share**2 * counts) ** 0.5
    wanted = float((each * counts).sum() / counts.sum())
    assert found["hedging"] == pytest.approx(wanted, abs=1e-5)


def test_planted_merges_are_read_as_composition():
    """Ten latents, one for each pair (i, i): every one is turned on by two parts alike."""
    truth = truth_of("composed")
    merged = truth.W_dec[:10] + truth.W_dec[10:]
    apart = recovered(Planted(truth.W_dec, truth.b), "composed")
    together = recovered(Given(merged, truth.b, lambda x: (x @ merged.T).clamp(min=0)), "composed")
    assert apart["composition"] == pytest.approx(1, abs=1e-5)
    assert together["composition"] == pytest.approx(0.5, abs=1e-2)
    assert apart["pair_composition"] == pytest.approx(1, abs=1e-5)
    assert together["pair_composition"] == pytest.approx(0.5, abs=1e-2)
    assert together["uniqueness"] == pytest.approx(1) and together["matched_cosine"] < 0.75


@pytest.mark.parametrize("planted", [0, 1, 3, 10])
def test_latents_that_need_a_whole_pair_are_read_as_composition(planted):
    """Lone parts never turn such a latent on: composition is blind to it, pair_composition is not."""
    truth = truth_of("composed")
    D = truth.W_dec
    pairs = D[:planted] + D[10 : 10 + planted]

    def encode(centred):
        parts = (centred @ D.T) * (centred @ D.T > 0.1)
        both = torch.minimum(parts[:, :planted], parts[:, 10 : 10 + planted])
        left = parts.clone()
        left[:, :planted] -= both
        left[:, 10 : 10 + planted] -= both
        return torch.cat([left, both], 1)

    found = recovered(Given(torch.cat([D, pairs]), truth.b, encode), "composed")
    assert found["explained_variance"] == pytest.approx(1, abs=1e-5)
    assert found["composition"] == pytest.approx(1, abs=1e-5)
    # a part that leaves one of its ten pairs to another latent: effect .9 − .09, and .1 − .09 of nine
    # companions that are never missing
    wanted = (20 - 2 * planted + 2 * planted * 0.81 / 0.9 + planted * 0.5) / (20 + planted)
    assert found["pair_composition"] == pytest.approx(wanted, abs=1e-4)


def test_a_latent_that_no_part_moves_has_no_composition():
    n = torch.arange(12)
    always = SparseCodes(n, torch.zeros(12, dtype=torch.long), torch.full((12,), 0.3), 12, 2)
    assert rec.pair_composition(always, (3, 4)).isnan().all()
    one_part = SparseCodes(n[4:8], torch.ones(4, dtype=torch.long), torch.full((4,), 2.0), 12, 2)
    assert rec.pair_composition(one_part, (3, 4)).nan_to_num(-1).tolist() == [-1, 1]


@pytest.mark.parametrize("k", range(1, 9))
def test_planted_copies_lower_uniqueness_only(k):
    """Feature 0 in k copies: directions are all found, 20 of 19 + k latents are unique."""
    truth = truth_of("correlated")
    rows = torch.cat([truth.W_dec[:1].expand(k, -1), truth.W_dec[1:]])
    inverse = truth.W_dec.T

    def encode(centred):
        codes = (centred @ inverse) * (centred @ inverse > 0.1)
        which = (codes.sum(1) * 1000).long() % k
        copies = torch.zeros(len(codes), k).scatter(1, which[:, None], codes[:, :1])
        return torch.cat([copies, codes[:, 1:]], 1)

    found = recovered(Given(rows, truth.b, encode), "correlated")
    assert found["uniqueness"] == pytest.approx(20 / (19 + k), abs=1e-6)
    assert found["explained_variance"] == pytest.approx(1, abs=1e-6)
    assert found["matched_cosine"] == pytest.approx(1, abs=1e-6)
    assert (found["feature_f1"] == pytest.approx(1, abs=1e-6)) == (k == 1)


def test_a_deleted_feature_is_missed():
    truth = truth_of("correlated")
    rows = truth.W_dec[:-2]
    found = recovered(Planted(rows, truth.b), "correlated")
    assert found["matched_cosine"] == pytest.approx(1, abs=1e-6)
    assert found["recovered@0.8"] == pytest.approx(18 / 20)
    assert found["feature_f1"] == pytest.approx(18 / 20, abs=1e-6)


def test_every_recovery_score_has_a_section():
    from documents import headings

    found: set[str] = set()
    for name in ("correlated", "hierarchical", "composed"):
        found |= set(recovered(truth_of(name), name))
    assert found - headings() == set()


def test_silent_features_do_not_count_against_the_truth():
    """On rare features the truth's own latents are silent: that is the ceiling of both scores."""
    from saebench.studies.scene import Scene

    made = make_generator(load_task("synthetic/scale-16th"), {"steps": 0, "min_prob": 1e-5})
    scene = Scene(made)
    truth = scene.section.truth
    out = only_recovery(scene.bench).measure(truth)
    found = {e.name: e for e in score(out).entries if e.axis == "recovery"}
    assert 0.05 < float(found["dead_latents"].value) < 0.9
    for name in ("dead_latents", "latent_f1", "feature_f1", "matched_cosine"):
        assert float(found[name].value) == pytest.approx(float(found[name].ceiling), abs=1e-6), name
