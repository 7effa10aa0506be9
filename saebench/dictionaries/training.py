"""Training sparse autoencoders with SAELens' own trainers, on activations from anywhere.

One table says which architectures there are and which SAELens options they take; `train_sae` drives
`sae_lens.SAETrainer` over an iterator of activation batches and hands back the inference SAE, `save_sae`
writes it in SAELens' own format. Used for the demo SAEs and for `saebench train`.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, redirect_stderr
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.dictionaries.resuming import Resuming


class Architecture(NamedTuple):
    """How SAELens calls an architecture, which option sets its sparsity, and what else it is given."""

    sae_lens_name: str
    sparsity: str
    whole: bool = False
    options: Mapping[str, Any] = {}
    warm_up: str | None = None


# `sparsity` means: k latents per input (topk, abstopk; matching pursuit at most so many), k on average (batchtopk,
# matryoshka), the weight of the L1 penalty (standard, gated) or of the L0 penalty (jumprelu).
ARCHITECTURES: dict[str, Architecture] = {
    "standard": Architecture("standard", "l1_coefficient", warm_up="l1_warm_up_steps"),
    "gated": Architecture("gated", "l1_coefficient", warm_up="l1_warm_up_steps"),
    "topk": Architecture("topk", "k", whole=True),
    "abstopk": Architecture("abstopk", "k", whole=True),
    "batchtopk": Architecture("batchtopk", "k"),
    # SAELens' default bandwidth and threshold suit very small activations; with inputs scaled to norm
    # sqrt(d_in) wider ones let the threshold learn.
    "jumprelu": Architecture(
        "jumprelu",
        "l0_coefficient",
        options={"jumprelu_bandwidth": 0.2, "jumprelu_init_threshold": 0.1, "jumprelu_ste_to_input": True},
        warm_up="l0_warm_up_steps",
    ),
    "matryoshka": Architecture("matryoshka_batchtopk", "k"),
    "matching_pursuit": Architecture(
        "matching_pursuit", "max_iterations", whole=True, options={"decoder_init_norm": 1.0}
    ),
}

# Matryoshka SAEs reconstruct from these shares of their latents as well as from all.
MATRYOSHKA_SHARES = (1 / 8, 1 / 4, 1 / 2, 1)

WARM_UP_SHARE = 0.2
COOL_DOWN_SHARE = 0.2
DEAD_AFTER_STEPS = 250


def training_config(
    architecture: str,
    d_in: int,
    width: int,
    sparsity: float,
    steps: int,
    device: str,
    more: Mapping[str, Any] | None = None,
):
    """SAELens' training configuration for one of `ARCHITECTURES`, with `more` of its options.

    Raises:
        ValueError: the architecture is unknown, or the sparsity is not positive.
    """
    from sae_lens.registry import get_sae_training_class

    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ValueError(f"unknown architecture {architecture!r}; SAEs can be trained as {known}")
    if sparsity <= 0:
        raise ValueError(f"the sparsity of {architecture} must be positive, not {sparsity}")
    entry = ARCHITECTURES[architecture]
    options = {**entry.options, **(more or {})}
    options[entry.sparsity] = int(sparsity) if entry.whole else float(sparsity)
    if entry.warm_up:
        options[entry.warm_up] = int(WARM_UP_SHARE * steps)
    if architecture == "matryoshka":
        options["matryoshka_widths"] = [max(1, int(share * width)) for share in MATRYOSHKA_SHARES]
    config_class = get_sae_training_class(entry.sae_lens_name)[1]
    return config_class(
        d_in=d_in, d_sae=width, device=device, normalize_activations="expected_average_only_in", **options
    )


def train_sae(
    architecture: str,
    batches: Iterator[Float[Tensor, "batch d_in"]] | Resuming,
    d_in: int,
    width: int,
    *,
    sparsity: float,
    steps: int,
    batch: int,
    lr: float = 1e-3,
    seed: int = 0,
    init_decoder: Float[Tensor, "width d_in"] | None = None,
    options: Mapping[str, Any] | None = None,
    autocast: bool = False,
    device: str = "cpu",
    progress: bool = True,
    snapshots: Mapping[int, Callable[[Any], None]] | None = None,
):
    """Train an SAE with SAELens' trainer and return it in SAELens' inference form.

    The learning rate is constant and falls to zero over the last fifth of the steps; inputs are scaled to a
    mean norm of sqrt(d_in) while training, and the scale is folded into the weights, as are the decoder's
    norms (not of matching pursuit): decoder rows come out with norm 1 and codes in activation units.
    `batches` must not end before `steps` batches and those that estimate the scale (a tenth more). As
    `Resuming` they can be drawn from any number on: then the run writes checkpoints, and goes on from the last
    one to the same weights that an uninterrupted run ends with.
    `init_decoder` starts decoder and encoder from given directions, to tell a bad objective from a bad optimum.
    `options` are SAELens' own and go before those of the table; with `autocast` products are in bfloat16.
    `snapshots` are handed the SAE as it is after so many steps, in inference form; they do not change what
    is trained. `Resuming` runs have none.

    Raises:
        ValueError: unknown architecture, sparsity not positive, or an `init_decoder` of another shape.
    """
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.registry import get_sae_training_class
    from sae_lens.training.sae_trainer import SAETrainer

    torch.manual_seed(seed)
    config = training_config(architecture, d_in, width, sparsity, steps, device, options)
    sae = get_sae_training_class(ARCHITECTURES[architecture].sae_lens_name)[0](config)
    if init_decoder is not None:
        start_from(sae, init_decoder)
    trainer_config = SAETrainerConfig(
        total_training_samples=steps * batch,
        train_batch_size_samples=batch,
        device=device,
        autocast=autocast,
        lr=lr,
        lr_end=lr / 10,
        lr_warm_up_steps=min(100, steps // 10),
        lr_decay_steps=int(COOL_DOWN_SHARE * steps),
        dead_feature_window=DEAD_AFTER_STEPS,
        feature_sampling_window=max(steps, 1),
        n_batches_for_norm_estimate=max(1, min(50, steps // 10)),
        n_checkpoints=batches.times if isinstance(batches, Resuming) else 0,
        checkpoint_path=str(batches.folder) if isinstance(batches, Resuming) else None,
        logger=LoggingConfig(log_to_wandb=False),
    )

    def pause(done: int) -> None:
        take = (snapshots or {}).get(done - trainer_config.n_batches_for_norm_estimate)
        if take is not None:
            with torch.random.fork_rng(devices=[]):
                copy = deepcopy(sae)
                scale = trainer.activation_scaler.scaling_factor
                if scale is not None:
                    copy.fold_activation_norm_scaling_factor(scale)
                take(_finished(copy, architecture))

    # The trainer always draws a progress bar on stderr; errors leave it as exceptions, not as text.
    with nullcontext() if progress else redirect_stderr(io.StringIO()):
        if isinstance(batches, Resuming):
            trainer = SAETrainer(trainer_config, sae, iter(()))
            batches.attach(trainer)
        else:
            trainer = SAETrainer(trainer_config, sae, _counted(batches, pause))
        trainer.fit()
    return _finished(sae, architecture)


def _counted(batches: Iterator[Tensor], pause: Callable[[int], None]) -> Iterator[Tensor]:
    """The batches; `pause` is called with how many were used up, before each of them."""
    for done, batch in enumerate(batches):
        pause(done)
        yield batch


def _finished(sae, architecture: str):
    if architecture != "matching_pursuit":  # tied weights: there the norms are part of the encoder
        sae.fold_W_dec_norm()
    return inference_form(sae)


@torch.no_grad()
def start_from(sae, directions: Float[Tensor, "width d_in"]) -> None:
    """Set decoder rows to `directions` at norm 1 and tie the encoder: a lone feature decodes to itself."""
    if directions.shape != sae.W_dec.shape:
        shape = tuple(sae.W_dec.shape)
        raise ValueError(f"init_decoder has shape {tuple(directions.shape)}, the SAE's decoder {shape}")
    sae.W_dec.data = directions / directions.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    if isinstance(sae.W_enc, torch.nn.Parameter):
        sae.W_enc.data = sae.W_dec.data.T.clone().contiguous()


def inference_form(sae):
    """The inference SAE that SAELens would save: batchtopk and matryoshka become jumprelu."""
    from sae_lens import SAE

    state = sae.state_dict()
    sae.process_state_dict_for_saving_inference(state)
    plain = SAE.from_dict(sae.cfg.get_inference_sae_cfg_dict())
    plain.load_state_dict({name: value.detach().clone() for name, value in state.items()})
    return plain.eval()


def save_sae(sae, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write `cfg.json` and `sae_weights.safetensors` into `path`, with `metadata` added to SAELens' own.

    The folder can be read by `sae_lens.SAE.load_from_disk`. Same weights and metadata, same bytes.
    """
    for key, value in metadata.items():
        sae.cfg.metadata[key] = value
    sae.save_model(path)
    config = json.loads((path / "cfg.json").read_text("utf-8"))
    (path / "cfg.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", "utf-8")


def shuffled_batches(
    activations: Float[Tensor, "n d_in"], batch: int, seed: int
) -> Iterator[Float[Tensor, "batch d_in"]]:
    """Batches of rows in random order, epoch after epoch, for ever."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        for rows in torch.randperm(len(activations), generator=generator).split(batch):
            if len(rows) == batch or len(activations) < batch:
                yield activations[rows]
