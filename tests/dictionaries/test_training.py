"""The trainer wrapper: every architecture trains, saves and loads as the SAE that was trained."""

import pytest
import torch
from sae_lens import SAE

from saebench.dictionaries.training import ARCHITECTURES, save_sae, shuffled_batches, train_sae

D_IN, WIDTH = 12, 24
SPARSITY = {"standard": 0.5, "gated": 0.5, "jumprelu": 0.3}


@pytest.fixture(scope="module")
def acts():
    """Sparse sums of 24 directions, away from the origin."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(WIDTH, D_IN, generator=generator)
    on = torch.rand(4000, WIDTH, generator=generator) < 0.1
    return 3 * on * (1 + torch.rand(4000, WIDTH, generator=generator)) @ directions + 1.0


def test_snapshots_are_the_sae_on_its_way_and_change_nothing(acts):
    kept = {}
    takes = {step: lambda sae, step=step: kept.__setitem__(step, sae) for step in (10, 40)}
    watched, plain = train("topk", acts, snapshots=takes), train("topk", acts)
    assert torch.equal(watched.W_dec, plain.W_dec)
    error = [float((sae(acts) - acts).square().mean().detach()) for sae in (kept[10], kept[40], watched)]
    assert error[0] > error[1] > error[2]
    assert torch.allclose(kept[40].W_dec.norm(dim=1), torch.ones(WIDTH), atol=1e-5)


def train(architecture, acts, steps=60, seed=0, **options):
    return train_sae(
        architecture,
        shuffled_batches(acts, 64, seed),
        D_IN,
        WIDTH,
        sparsity=SPARSITY.get(architecture, 3),
        steps=steps,
        batch=64,
        lr=3e-3,
        seed=seed,
        progress=False,
        **options,
    )


@pytest.mark.filterwarnings("ignore:decoder_init_norm")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_saved_sae_is_the_trained_one(architecture, acts, tmp_path):
    sae = train(architecture, acts)
    save_sae(sae, tmp_path, {"hook_name": "blocks.1.hook_resid_pre", "seed": 0})
    loaded = SAE.load_from_disk(str(tmp_path))
    with torch.no_grad():
        assert torch.equal(loaded.encode(acts), sae.encode(acts))
        assert torch.allclose(loaded(acts), sae(acts))
    metadata = loaded.cfg.metadata
    assert metadata.hook_name == "blocks.1.hook_resid_pre" and metadata.seed == 0
    assert metadata.training_architecture == ARCHITECTURES[architecture].sae_lens_name
    if architecture != "matching_pursuit":
        assert (loaded.W_dec.norm(dim=1) - 1).abs().max() < 1e-4
    if architecture in ("batchtopk", "matryoshka"):
        assert loaded.cfg.architecture() == "jumprelu"


def test_training_lowers_the_error_and_k_is_kept(acts):
    errors = []
    for steps in (2, 400):
        sae = train("topk", acts, steps)
        with torch.no_grad():
            codes = sae.encode(acts)
            assert (codes != 0).sum(1).max() <= 3
            errors.append((sae.decode(codes) - acts).square().mean().item())
    assert errors[1] < 0.5 * errors[0]


def test_same_seed_same_bytes(acts, tmp_path):
    files = []
    for name in ("a", "b"):
        save_sae(train("batchtopk", acts), tmp_path / name, {"seed": 0})
        files.append([(tmp_path / name / f).read_bytes() for f in ("cfg.json", "sae_weights.safetensors")])
    assert files[0] == files[1]
    other = train("batchtopk", acts, seed=1)
    assert not torch.equal(other.W_dec, SAE.load_from_disk(str(tmp_path / "a")).W_dec)


def test_training_can_begin_at_given_directions(acts):
    given = torch.nn.functional.normalize(torch.randn(WIDTH, D_IN), dim=1)
    sae = train("topk", acts, steps=1, init_decoder=7 * given)
    assert ((sae.W_dec * given).sum(1) > 0.99).all()
    with pytest.raises(ValueError, match="shape"):
        train("topk", acts, steps=1, init_decoder=given[:3])


def test_wrong_requests_are_named(acts):
    with pytest.raises(ValueError, match=r"topkk.*standard, gated, topk"):
        train("topkk", acts)
    with pytest.raises(ValueError, match="positive"):
        train_sae("topk", iter([]), D_IN, WIDTH, sparsity=0, steps=1, batch=1)


def test_batches_cover_every_row_once_an_epoch():
    rows = torch.arange(10.0)[:, None]
    batches = shuffled_batches(rows, 5, seed=0)
    for _ in range(3):
        epoch = torch.cat([next(batches), next(batches)])
        assert epoch.flatten().sort().values.tolist() == list(range(10))
