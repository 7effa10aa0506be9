"""State dicts as single laboratories published them: OpenAI's and Goodfire's `.pt` files.

- OpenAI (Gao et al. 2024, arXiv 2406.04093): `act(W(LN(x) − pre_bias) + latent_bias)`, decoded plus
  `pre_bias` and brought back by layer norm's mean and deviation. `TopK` files normalise,
  `ReLU` files do not. A tied decoder is the encoder transposed.
- Goodfire: two `nn.Linear`s around a ReLU; nothing is subtracted from the input.
"""

from saebench.checkpoints.base import Contents, Parts, only
from saebench.checkpoints.files import read_tensors
from saebench.errors import CheckpointError

_GOODFIRE = tuple(f"{side}_linear.{part}" for side in ("encoder", "decoder") for part in ("weight", "bias"))


def is_openai(contents: Contents) -> bool:
    """`pre_bias` and `latent_bias` beside an encoder."""
    return bool(contents.having("pre_bias", "latent_bias", "encoder.weight"))


def load_openai(contents: Contents, architecture: str | None = None) -> Parts:
    """Settings and weights of an OpenAI autoencoder.

    Raises:
        CheckpointError: for an activation that no SAE class has.
    """
    weights = only(contents, contents.having("pre_bias", "latent_bias", "encoder.weight"))
    raw = read_tensors(weights)
    activation = weights.values.get("activation", "ReLU")
    after = weights.values.get("activation_state_dict.postact_fn", "ReLU")
    if activation not in ("ReLU", "TopK") or after != "ReLU":
        raise CheckpointError(
            f"{contents.path}: activation {activation!r} with {after!r} after it; OpenAI's files"
            " can be read with ReLU, or with TopK followed by ReLU."
        )
    encoder = raw["encoder.weight"]
    decoder = raw.get("decoder.weight", encoder.T)
    d_sae, d_in = (int(n) for n in encoder.shape) if encoder.ndim == 2 else (0, 0)
    topk, k = activation == "TopK", weights.values.get("activation_state_dict.k")
    if not topk and k is not None:
        raise CheckpointError(
            f"{contents.path}: activation {activation!r} with k = {k!r}, which belongs to TopK: the file does not say"
            " which of the two it is."
        )
    named = "activation" in weights.values
    config = {
        "architecture": "topk" if topk else "standard",
        "d_in": d_in,
        "d_sae": d_sae,
        "apply_b_dec_to_input": True,
        "normalize_activations": "layer_norm" if topk else "none",
    }
    if topk:
        config["k"] = k
    return Parts(
        config,
        {"W_enc": encoder.T, "b_enc": raw["latent_bias"], "W_dec": decoder.T, "b_dec": raw["pre_bias"]},
        training_architecture="topk" if topk else "standard",
        metadata={"k": k, "tied": "decoder.weight" not in raw},
        warnings=() if named else ("the file names no activation: read as ReLU, the tool's default",),
    )


def is_goodfire(contents: Contents) -> bool:
    """`encoder_linear` and `decoder_linear` with their biases."""
    return bool(contents.having(*_GOODFIRE))


def load_goodfire(contents: Contents, architecture: str | None = None) -> Parts:
    """Settings and weights of a Goodfire SAE."""
    raw = read_tensors(only(contents, contents.having(*_GOODFIRE)))
    encoder = raw["encoder_linear.weight"]
    d_sae, d_in = (int(n) for n in encoder.shape) if encoder.ndim == 2 else (0, 0)
    return Parts(
        {"architecture": "standard", "d_in": d_in, "d_sae": d_sae, "apply_b_dec_to_input": False},
        {
            "W_enc": encoder.T,
            "b_enc": raw["encoder_linear.bias"],
            "W_dec": raw["decoder_linear.weight"].T,
            "b_dec": raw["decoder_linear.bias"],
        },
        training_architecture="standard",
    )
