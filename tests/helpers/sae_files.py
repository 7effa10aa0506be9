"""SAEs written to disk in every format, without the loader.

The files are made from the descriptions of the formats; nothing here is shared with the package.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

D_IN, D_SAE = 12, 20


def weights(seed: int = 0) -> dict[str, Tensor]:
    """Random weights under SAELens' names, with everything any architecture needs."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    rows = draw(D_SAE, D_IN)
    return {
        "W_enc": draw(D_IN, D_SAE) / 3,
        "W_dec": rows / rows.norm(dim=1, keepdim=True),
        "b_enc": draw(D_SAE) / 4,
        "b_dec": draw(D_IN) / 2,
        "threshold": draw(D_SAE).abs() / 2,
        "b_gate": draw(D_SAE) / 4,
        "b_mag": draw(D_SAE) / 4,
        "r_mag": draw(D_SAE) / 4,
        "W_skip": draw(D_IN, D_IN) / 4,
    }


def acts(n: int = 40, seed: int = 1) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, D_IN, generator=g) * 2 + 0.5


def dump(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


def pick(w: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: w[name].contiguous().clone() for name in names}


NAMES = {
    "standard": ("W_enc", "b_enc", "W_dec", "b_dec"),
    "topk": ("W_enc", "b_enc", "W_dec", "b_dec"),
    "abstopk": ("W_enc", "b_enc", "W_dec", "b_dec"),
    "jumprelu": ("W_enc", "b_enc", "W_dec", "b_dec", "threshold"),
    "gated": ("W_enc", "W_dec", "b_dec", "b_gate", "b_mag", "r_mag"),
    "matching_pursuit": ("W_dec", "b_dec"),
}


def sae_lens(folder: Path, architecture: str, w: dict[str, Tensor], **config: Any) -> Path:
    """A folder as SAELens 6 writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {
        "sae_lens_version": "6.54.12",
        "model_name": "gpt2",
        "hook_name": "blocks.1.hook_resid_pre",
        "hook_head_index": None,
    } | config.pop("metadata", {})
    settings = {
        "architecture": architecture,
        "d_in": D_IN,
        "d_sae": D_SAE,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": metadata,
    }
    dump(folder / "cfg.json", settings | config)
    save_file(pick(w, *NAMES[architecture]), folder / "sae_weights.safetensors")
    return folder


def sae_lens_4(folder: Path, w: dict[str, Tensor], **config: Any) -> Path:
    """A folder as SAELens 4 wrote it: a flat config, the activation function by name."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "architecture": "standard",
        "d_in": D_IN,
        "d_sae": D_SAE,
        "dtype": "torch.float32",
        "device": "cpu",
        "model_name": "gpt2-small",
        "hook_name": "blocks.1.hook_resid_pre",
        "hook_layer": 1,
        "hook_head_index": None,
        "activation_fn_str": "relu",
        "activation_fn_kwargs": {},
        "apply_b_dec_to_input": True,
        "finetuning_scaling_factor": False,
        "normalize_activations": "none",
        "sae_lens_training_version": "4.3.0",
        "prepend_bos": True,
        "context_size": 128,
    }
    dump(folder / "cfg.json", settings | config)
    names = NAMES["standard"] + tuple(n for n in ("scaling_factor",) if n in w)
    save_file(pick(w, *names), folder / "sae_weights.safetensors")
    return folder


def dictionary_learning(
    folder: Path, kind: str, w: dict[str, Tensor], k: int = 4, threshold: float = 0.3
) -> Path:
    """`ae.pt` and `config.json`; matrices of `nn.Linear` are stored transposed."""
    folder.mkdir(parents=True, exist_ok=True)
    linear = {"encoder.weight": w["W_enc"].T, "decoder.weight": w["W_dec"].T}
    batch = {"k": torch.tensor(k, dtype=torch.int), "threshold": torch.tensor(threshold)}
    state = {
        "AutoEncoder": linear | {"encoder.bias": w["b_enc"], "bias": w["b_dec"]},
        "AutoEncoderNew": linear | {"encoder.bias": w["b_enc"], "decoder.bias": w["b_dec"]},
        "GatedAutoEncoder": linear
        | {"decoder_bias": w["b_dec"], "r_mag": w["r_mag"]}
        | {"gate_bias": w["b_gate"], "mag_bias": w["b_mag"]},
        "AutoEncoderTopK": linear | batch | {"encoder.bias": w["b_enc"], "b_dec": w["b_dec"]},
        "BatchTopKSAE": linear | batch | {"encoder.bias": w["b_enc"], "b_dec": w["b_dec"]},
        "MatryoshkaBatchTopKSAE": pick(w, *NAMES["standard"])
        | batch
        | {"group_sizes": torch.tensor([5, D_SAE - 5])},
        "JumpReluAutoEncoder": pick(w, *NAMES["jumprelu"]),
    }[kind]
    torch.save(state, folder / "ae.pt")
    trainer = {
        "dict_class": kind,
        "trainer_class": "Trainer",
        "activation_dim": D_IN,
        "dict_size": D_SAE,
        "k": k,
        "layer": 3,
        "lm_name": "EleutherAI/pythia-70m-deduped",
        "submodule_name": "resid_post_layer_3",
    }
    dump(folder / "config.json", {"trainer": trainer, "buffer": {"io": "out", "ctx_len": 128}})
    return folder


def gemma_scope(folder: Path, w: dict[str, Tensor], compressed: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save = np.savez_compressed if compressed else np.savez
    save(folder / "params.npz", **{n: w[n].numpy() for n in NAMES["jumprelu"]})
    return folder


def gemma_scope_2(folder: Path, w: dict[str, Tensor]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    state = {name.replace("W_", "w_"): w[name].contiguous() for name in NAMES["jumprelu"]}
    save_file(state, folder / "params.safetensors")
    config = {"architecture": "jump_relu", "model_name": "gemma-v3-1b-pt", "width": D_SAE, "l0": 20}
    dump(folder / "config.json", config | {"hf_hook_point_in": "model.layers.5.output"})
    return folder


def sparsify(folder: Path, w: dict[str, Tensor], k: int, **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "activation": "topk",
        "expansion_factor": 32,
        "normalize_decoder": True,
        "num_latents": D_SAE,
        "k": k,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": D_IN,
    }
    dump(folder / "cfg.json", settings | config)
    state = {"encoder.weight": w["W_enc"].T.contiguous(), "encoder.bias": w["b_enc"]}
    save_file(state | pick(w, "W_dec", "b_dec"), folder / "sae.safetensors")
    return folder


def openai(folder: Path, w: dict[str, Tensor], k: int | None = None, tied: bool = False) -> Path:
    """A state dict with the activation's name and settings beside the tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    state: dict[str, Any] = {
        "pre_bias": w["b_dec"],
        "latent_bias": w["b_enc"],
        "stats_last_nonzero": torch.zeros(D_SAE, dtype=torch.long),
        "encoder.weight": w["W_enc"].T,
        "activation": "ReLU" if k is None else "TopK",
        "activation_state_dict": {} if k is None else {"k": k, "postact_fn": "ReLU"},
    }
    state["decoder.linear.weight" if tied else "decoder.weight"] = w["W_enc"].T if tied else w["W_dec"].T
    torch.save(state, folder / "sae.pt")
    return folder / "sae.pt"


def goodfire(folder: Path, w: dict[str, Tensor]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "encoder_linear.weight": w["W_enc"].T,
        "encoder_linear.bias": w["b_enc"],
        "decoder_linear.weight": w["W_dec"].T,
        "decoder_linear.bias": w["b_dec"],
    }
    torch.save(state, folder / "sae.pth")
    return folder / "sae.pth"


def linear_layers(w: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        "encoder.weight": w["W_enc"].T.contiguous(),
        "encoder.bias": w["b_enc"].clone(),
        "decoder.weight": w["W_dec"].T.contiguous(),
        "decoder.bias": w["b_dec"].clone(),
    }


def llama_scope(
    folder: Path, w: dict[str, Tensor], scale: float = 2.0, theta: float = 0.3, **config: Any
) -> Path:
    """`hyperparams.json` and, one folder down, two linear layers; `scale` is √d_model over the average norm."""
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    norm = D_IN**0.5 / scale
    settings = {
        "d_model": D_IN,
        "d_sae": D_SAE,
        "act_fn": "jumprelu",
        "jump_relu_threshold": theta,
        "hook_point_in": "blocks.7.hook_resid_post",
        "hook_point_out": "blocks.7.hook_resid_post",
        "norm_activation": "dataset-wise",
        "use_decoder_bias": True,
        "sparsity_include_decoder_norm": False,
        "dataset_average_activation_norm": {"in": norm, "out": norm},
    }
    dump(folder / "hyperparams.json", settings | config)
    save_file(linear_layers(w), folder / "checkpoints" / "final.safetensors")
    return folder


def llama_scope_r1(folder: Path, w: dict[str, Tensor], **config: Any) -> Path:
    """`config.json` and one file with logarithms of thresholds."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "sae_type": "sae",
        "d_model": D_IN,
        "expansion_factor": D_SAE / D_IN,
        "act_fn": "jumprelu",
        "hook_point_in": "blocks.7.hook_resid_post",
        "hook_point_out": "blocks.7.hook_resid_post",
        "norm_activation": "inference",
        "sparsity_include_decoder_norm": True,
    }
    dump(folder / "config.json", settings | config)
    thresholds = {"log_jumprelu_threshold": w["threshold"].log()}
    save_file(linear_layers(w) | thresholds, folder / "sae_weights.safetensors")
    return folder


def qwen_scope(folder: Path, w: dict[str, Tensor], k: int) -> Path:
    """`layerN.sae.pt` in a folder of the repository's name; both matrices transposed."""
    folder = folder / f"SAE-Res-Qwen3-1.7B-Base-W32K-L0_{k}"
    folder.mkdir(parents=True, exist_ok=True)
    state = {"W_enc": w["W_enc"].T, "W_dec": w["W_dec"].T, "b_enc": w["b_enc"], "b_dec": w["b_dec"]}
    torch.save(state, folder / "layer5.sae.pt")
    return folder / "layer5.sae.pt"


def batch_topk(folder: Path, w: dict[str, Tensor], kind: str = "topk", k: int = 4, **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "sae_type": kind,
        "act_size": D_IN,
        "dict_size": D_SAE,
        "top_k": k,
        "hook_point": "blocks.4.hook_resid_pre",
        "input_unit_norm": False,
        "model_name": "gpt2-small",
        "lr": 3e-4,
        "l1_coeff": 0,
    }
    dump(folder / "config.json", settings | config)
    torch.save(
        pick(w, *NAMES["standard"]) | {"num_batches_not_active": torch.zeros(D_SAE)}, folder / "sae.pt"
    )
    return folder


def e2e_sae(folder: Path, w: dict[str, Tensor], *hooks: str) -> Path:
    """One file with an SAE for every hook point, which stands in front of its tensors' names."""
    folder.mkdir(parents=True, exist_ok=True)
    layers = {k.replace("encoder.", "encoder.0."): v for k, v in linear_layers(w).items()}
    state = {f"{hook.replace('.', '-')}.{k}": v for hook in hooks for k, v in layers.items()}
    torch.save(state, folder / "samples_400000.pt")
    return folder / "samples_400000.pt"


def circuit_tracer(folder: Path, w: dict[str, Tensor], *more: str, layer: int = 3) -> Path:
    """`layer_N.safetensors` and `config.yaml`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "model_kind: transcoder_set\nmodel_name: Qwen/Qwen3-0.6B\n"
    text += "feature_input_hook: mlp.hook_in\nfeature_output_hook: hook_mlp_out\nscan: here\n"
    (folder / "config.yaml").write_text(text)
    state = {"W_enc": w["W_enc"].T.contiguous(), **pick(w, "b_enc", "W_dec", "b_dec")}
    if "threshold" in more:
        state["activation_function.threshold"] = w["threshold"].clone()
    if "W_skip" in more:
        state["W_skip"] = w["W_skip"].clone()
    save_file(state, folder / f"layer_{layer}.safetensors")
    return folder / f"layer_{layer}.safetensors"


def gemma_scope_2_transcoder(folder: Path, w: dict[str, Tensor], affine: bool = False) -> Path:
    """As `gemma_scope_2`, with two hook points; the affine connection multiplies from the right."""
    gemma_scope_2(folder, w)
    if affine:
        state = {name.replace("W_", "w_"): w[name].contiguous() for name in NAMES["jumprelu"]}
        save_file(
            state | {"affine_skip_connection": w["W_skip"].T.contiguous()}, folder / "params.safetensors"
        )
    at = "model.layers.5."
    config = {
        "architecture": "jump_relu",
        "model_name": "gemma-v3-1b-pt",
        "hf_hook_point_in": at + "pre_feedforward_layernorm.output",
        "hf_hook_point_out": at + "post_feedforward_layernorm.output",
        "affine_connection": affine,
    }
    dump(folder / "config.json", config)
    return folder


def plain(folder: Path, w: dict[str, Tensor], *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(pick(w, *(names or NAMES["standard"])), folder / "weights.safetensors")
    return folder / "weights.safetensors"
