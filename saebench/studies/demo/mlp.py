"""A transcoder of one MLP of the bundled model and its twin, an SAE of that MLP's output.

Both are trained alike on the same tokens by BatchTopK (Bussmann, Leask and Nanda 2024, arXiv 2412.06410)
and saved with the threshold that takes its place: the one reads the MLP's input, the other its output,
and both write the output. So the rows of a table differ in what is read and in nothing else.
"""

from pathlib import Path
from random import Random
from typing import NamedTuple

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from saebench.demo.corpus import sentence
from saebench.planting.network import Halves
from saebench.planting.tokens import encode

LAYER = 0
WIDTH_FACTOR = 4
K = 8
SENTENCES = 20_000
STEPS, BATCH, RATE = 3000, 512, 3e-3
READS, WRITES = f"blocks.{LAYER}.mlp.hook_in", f"blocks.{LAYER}.hook_mlp_out"


class Weights(NamedTuple):
    """A trained dictionary: codes are `pre · [pre > threshold]`, `pre = x W_enc + b_enc`."""

    W_enc: Float[Tensor, "d_read d_sae"]
    b_enc: Float[Tensor, "d_sae"]
    W_dec: Float[Tensor, "d_sae d_in"]
    b_dec: Float[Tensor, "d_in"]
    threshold: Float[Tensor, "d_sae"]


@torch.no_grad()
def mlp_pool(halves: Halves, tokenizer, sentences: int, seed: int) -> tuple[Tensor, Tensor]:
    """Input and output of the MLP at every token of fresh sentences, the first and padding left out."""
    found: list[tuple[Tensor, Tensor]] = []
    handle = halves.blocks[LAYER].mlp.register_forward_hook(
        lambda *call: found.append((call[1][0], call[-1]))
    )
    rng, parts = Random(seed), []
    try:
        for _ in range(0, sentences, 500):
            ids, lengths = encode(tokenizer, [sentence(rng) for _ in range(500)])
            halves.before(ids)
            steps = torch.arange(ids.shape[1])
            keep = (steps > 0) & (steps < lengths[:, None])
            into, out = found.pop()
            parts.append((into[keep], out[keep]))
    finally:
        handle.remove()
    read, write = (torch.cat(each) for each in zip(*parts, strict=True))
    return read, write


def train(read: Float[Tensor, "n d_read"], write: Float[Tensor, "n d_in"], seed: int = 0) -> Weights:
    """The K latents per activation that the batch needs most, trained to write `write` from `read`."""
    generator = torch.Generator().manual_seed(seed)
    d_sae = WIDTH_FACTOR * write.shape[1]
    rows = torch.randn(d_sae, write.shape[1], generator=generator)
    rows = rows / rows.norm(dim=1, keepdim=True)
    # an encoder starts from what least squares says each row's direction looks like in what is read
    back = torch.linalg.lstsq(write - write.mean(0), read - read.mean(0)).solution
    encoder = (rows @ back).T
    encoder = encoder / encoder.norm(dim=0, keepdim=True)
    parameters = [encoder, -(read.mean(0) @ encoder), rows.clone(), write.mean(0).clone()]
    for parameter in parameters:
        parameter.requires_grad_()
    W_enc, b_enc, W_dec, b_dec = parameters
    optimizer = torch.optim.Adam(parameters, lr=RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, STEPS)
    least = torch.zeros(())
    for step in range(STEPS):
        at = torch.randint(len(read), (BATCH,), generator=generator)
        pre = (read[at] @ W_enc + b_enc).relu()
        kept = pre.flatten().topk(K * BATCH).values.min().detach()
        codes = pre * (pre >= kept)
        loss = (codes @ W_dec + b_dec - write[at]).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            W_dec /= W_dec.norm(dim=1, keepdim=True)
            least = kept if step == 0 else 0.99 * least + 0.01 * kept
    enc, bias, dec, offset = (p.detach() for p in parameters)
    return Weights(enc, bias, dec, offset, torch.full((d_sae,), float(least)))


def save(weights: Weights, folder: Path, reads: str, model_name: str) -> None:
    """A folder as SAELens writes it: an SAE where `reads` is where it writes, else a transcoder."""
    from sae_lens import JumpReLUSAE, JumpReLUSAEConfig, JumpReLUTranscoder, JumpReLUTranscoderConfig

    d_read, d_sae = weights.W_enc.shape
    sizes = {"d_in": d_read, "d_sae": d_sae, "apply_b_dec_to_input": False}
    if reads == WRITES:
        sae = JumpReLUSAE(JumpReLUSAEConfig(**sizes))
    else:
        sae = JumpReLUTranscoder(JumpReLUTranscoderConfig(**sizes, d_out=weights.W_dec.shape[1]))
        sae.cfg.metadata.hook_name_out = WRITES
    sae.load_state_dict(weights._asdict())
    sae.cfg.metadata.hook_name, sae.cfg.metadata.model_name = reads, model_name
    sae.cfg.metadata.prepend_bos, sae.cfg.metadata.l0 = True, K
    sae.cfg.metadata.training_architecture = "batchtopk"
    sae.save_model(folder)


def build(halves: Halves, tokenizer, folder: Path, model_name: str) -> None:
    """Trains and saves both."""
    read, write = mlp_pool(halves, tokenizer, SENTENCES, seed=21)
    for name, (training, reads) in {"transcoder": (read, READS), "topk": (write, WRITES)}.items():
        save(train(training, write), folder / name, reads, model_name)


def unexplained(folder: Path, halves: Halves, tokenizer) -> dict[str, float]:
    """The share of the output's variance that each of the two leaves unexplained on fresh text."""
    read, write = mlp_pool(halves, tokenizer, 2000, seed=22)
    spread, shares = (write - write.mean(0)).square().sum(), {}
    for name, fresh in {"transcoder": read, "topk": write}.items():
        weights = Weights(**load_file(folder / name / "sae_weights.safetensors"))
        pre = fresh @ weights.W_enc + weights.b_enc
        wrong = (pre * (pre > weights.threshold)) @ weights.W_dec + weights.b_dec - write
        shares[name] = float(wrong.square().sum() / spread)
    return shares
