"""The lines that the documents show for a training run, executed."""

import re

import pytest
import torch
from paths import ROOT

from saebench.evaluation.arena import Arena
from saebench.records import store

pytestmark = pytest.mark.usefixtures("few_prompts")

TEXT = (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
PLAIN, TRAINER = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.M | re.S)


def names(out) -> list[str]:
    return sorted(store.load(path).result.dictionary.name for path in store.find(out))


class Mine(torch.nn.Module):
    """An SAE as people write it."""

    def __init__(self):
        super().__init__()
        self.W_enc = torch.nn.Parameter(torch.randn(96, 128) / 10)
        self.W_dec = torch.nn.Parameter(torch.randn(128, 96) / 10)

    def encode(self, x):
        return (x @ self.W_enc).relu()

    def decode(self, codes):
        return codes @ self.W_dec


def test_the_plain_loop(tmp_path, monkeypatch):
    torch.manual_seed(0)
    sae, drawn = Mine(), []
    optimizer = torch.optim.Adam(sae.parameters())

    def train_one_step(sae):
        x = torch.randn(16, 96, dtype=torch.float32)
        drawn.append(x)
        loss = (sae.decode(sae.encode(x)) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    made, original = [], Arena._make
    monkeypatch.setattr(Arena, "_make", lambda self, site: made.append(site) or original(self, site))
    space = {"sae": sae, "train_one_step": train_one_step, "steps": 5, "every": 2, "out": tmp_path}
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=False):
            exec(PLAIN.replace('prepare("ioi", ', 'prepare("ioi", budget="tiny", '), space)
        assert torch.get_default_dtype() == torch.float64 and torch.is_grad_enabled()
    finally:
        torch.set_default_dtype(torch.float32)
    assert names(tmp_path) == ["mine/step_2", "mine/step_4"] and sae.training
    # prompts, clean runs and the supervised dictionary are made once
    assert len(made) == 1
    # the run draws what it would have drawn without being watched
    torch.manual_seed(0)
    Mine()
    assert all(torch.equal(torch.randn(16, 96), x) for x in drawn)


@pytest.mark.slow
def test_sae_lens_trainer(tmp_path):
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import LoggingConfig, SAETrainerConfig

    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=96, d_sae=128, k=8))
    sae.cfg.metadata.hook_name = "blocks.1.hook_resid_pre"
    space = {"every": 2, "out": tmp_path}
    exec(TRAINER.replace('prepare("ioi", ', 'prepare("ioi", budget="tiny", '), space)
    config = SAETrainerConfig(
        total_training_samples=48,
        train_batch_size_samples=16,
        n_checkpoints=0,
        checkpoint_path=None,
        save_final_checkpoint=False,
        device="cpu",
        autocast=False,
        lr=1e-3,
        lr_end=1e-3,
        lr_scheduler_name="constant",
        lr_warm_up_steps=0,
        lr_decay_steps=0,
        n_restart_cycles=1,
        adam_beta1=0.9,
        adam_beta2=0.999,
        dead_feature_window=100,
        feature_sampling_window=100,
        logger=LoggingConfig(log_to_wandb=False),
    )
    batches = (torch.randn(16, 96) for _ in range(10))
    space["Watched"](cfg=config, sae=sae, data_provider=batches).fit()
    assert names(tmp_path) == ["mine/step_2"]
