"""SAELens SAEs as `Dictionary`, without state between encode and decode.

`SaelensDictionary` runs the encoder of a SAELens class (6.x) on inputs that were normalised here:
codes come out in activation units and nothing is left on the module. The object itself is never
changed: the adapter works on a shallow copy that shares its weights.
"""

import copy
import hashlib
import json
from dataclasses import fields
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.dictionaries.normalization import average_factor, normalize
from saebench.dictionary import Dictionary, Encoding
from saebench.errors import CheckpointError
from saebench.site import hook_point

# What a config holds besides the things that change a code.
_IRRELEVANT = {"metadata", "device", "dtype", "reshape_activations"}


TEMPORAL = (
    "a temporal SAE. Its codes depend on the activations of the tokens before, and a task gives one token's"
    " activation at a time; without its sequence it would be another dictionary."
)


@final
class SaelensDictionary(Dictionary):
    """A SAELens inference SAE. `factor` is the constant input scale, where the SAE has one.

    `centred` SAEs were trained on a model whose weights were centred, so on activations without
    their mean over `d_in`. The models here are not, so the mean is taken out before encoding and
    belongs to the offset. Without a word the SAE's own metadata decides.
    """

    def __init__(self, sae: Any, name: str, factor: float | None = None, centred: bool | None = None) -> None:
        sae = inference(sae)
        self.name = name
        self.centred = trained_centred(sae.cfg.metadata, hook_of(sae)) if centred is None else centred
        self.normalization: str = sae.cfg.normalize_activations
        self.factor = factor
        if factor is None and self.normalization == "constant_scalar_rescale":
            self.factor = float(sae.cfg.activation_normalization_factor)
        self.architecture: str = sae.cfg.architecture()
        self.sae = sae
        self._inner = _bare(sae)
        self.W_dec = _decoder(sae)
        self._bias = _bias(sae)

    @property
    def needs_factor(self) -> bool:
        """Whether the constant input scale has still to be given or measured."""
        return self.normalization == "expected_average_only_in" and self.factor is None

    def fitted(self, acts: Float[Tensor, "n d_in"]) -> "SaelensDictionary":
        """The same SAE with the input scale measured on `acts`; itself where none is needed."""
        return self.scaled(average_factor(flat(acts))) if self.needs_factor else self

    def scaled(self, factor: float) -> "SaelensDictionary":
        """The same SAE with a given constant input scale."""
        return SaelensDictionary(self.sae, self.name, factor, self.centred)

    def encode(self, acts: Float[Tensor, "n *d_in"]) -> Encoding:
        """`codes = scale · encoder(normalised acts)`, `offset = scale · b_dec + shift`.

        Negative codes are kept. `hook_z` activations may come as `[n, heads, d_head]`.
        """
        acts = flat(acts)
        mean = acts.mean(-1, keepdim=True) if self.centred else 0.0
        with torch.set_grad_enabled(acts.requires_grad and torch.is_grad_enabled()):
            inner, scale, shift = normalize(
                (acts - mean).to(self.W_dec.dtype), self.normalization, self.factor
            )
            codes = self._inner.encode(inner)
            codes = codes.to_dense() if codes.is_sparse else codes
            return Encoding(codes * scale, self._bias * scale + shift + mean)


def flat(acts: Tensor) -> Float[Tensor, "n d_in"]:
    """Heads joined: `hook_z` activations `[n, heads, d_head]` become `[n, heads · d_head]`."""
    return acts.flatten(1) if acts.ndim == 3 else acts


def is_saelens(obj: Any) -> bool:
    """Whether the object is a SAELens SAE, told without importing SAELens."""
    return any(
        base.__module__.startswith("sae_lens.") and base.__name__ == "SAE" for base in type(obj).__mro__
    )


def inference(sae: Any) -> Any:
    """The inference form of a SAELens SAE, as SAELens itself would save and load it.

    Training classes choose latents over the batch (batchtopk, matryoshka); their inference form has
    a threshold instead, so that codes do not depend on the batch.

    Raises:
        CheckpointError: for transcoders, temporal SAEs and for whitening that was not folded.
    """
    from sae_lens.saes.sae import TrainingSAE

    refuse_transcoder(sae)
    if sae.cfg.architecture() == "temporal":
        raise CheckpointError(f"This is {TEMPORAL}")
    if isinstance(sae, TrainingSAE):
        state = {name: value.detach().clone() for name, value in sae.state_dict().items()}
        sae.process_state_dict_for_saving_inference(state)
        sae = build(sae.cfg.get_inference_sae_cfg_dict(), state)
    if sae.cfg.normalize_activations == "covariance_whitening":
        raise CheckpointError(
            "This SAE expects whitened activations and the whitening matrices are not in its"
            " weights. Fold them with SAELens (`fold_activation_whitening`), then save it again."
        )
    return sae


def build(config: dict[str, Any], state: dict[str, Tensor]) -> Any:
    """A SAELens inference SAE around given weights, without allocating them twice."""
    from sae_lens import SAE

    config = {**config, "device": "meta", "dtype": str(state["W_dec"].dtype).removeprefix("torch.")}
    with torch.device("meta"):
        sae = SAE.from_dict(config)
    sae.load_state_dict(state, assign=True)
    sae.cfg.device = str(state["W_dec"].device)
    sae.device = state["W_dec"].device
    return sae.requires_grad_(False).eval()


def is_transcoder(obj: Any) -> bool:
    """Whether a SAELens object is of one of its transcoder classes."""
    return is_saelens(obj) and "transcoder" in str(obj.cfg.architecture())


def refuse_transcoder(obj: Any) -> None:
    """Raises if the object writes to another place than it reads from, and is of no class that says how.

    Raises:
        CheckpointError: for a transcoder.
    """
    cfg = getattr(obj, "cfg", None)
    meta = getattr(cfg, "metadata", None)
    d_in, d_out = getattr(cfg, "d_in", None), getattr(cfg, "d_out", None)
    hook, out = getattr(meta, "hook_name", None), getattr(meta, "hook_name_out", None)
    if "transcoder" in type(obj).__name__.lower() or d_out not in (None, d_in):
        seen = f"a transcoder ({type(obj).__name__}, d_in {d_in}, d_out {d_out})"
    elif out is not None and out != hook:
        seen = f"a transcoder: it reads {hook} and writes {out}"
    else:
        return
    raise CheckpointError(
        f"This is {seen}. In memory a transcoder is scored as one of SAELens' transcoder classes, which say"
        " what they read and write; others once they are saved (`saebench formats` lists how)."
    )


def hook_of(sae: Any) -> str | None:
    """The hook point an object names, `[head]` included, in TransformerLens' terms; None if it names none.

    SAELens keeps it in `cfg.metadata.hook_name`, others in `cfg.hook_name`, `cfg["hook_point"]` or on
    the object itself.
    """
    hook, head = fact(sae, "hook_name", "hook_point"), fact(sae, "hook_head_index")
    if not isinstance(hook, str) or not hook:
        return None
    named = hook_point(hook)
    return f"{named}[{head}]" if isinstance(head, int) and not isinstance(head, bool) else named


def fact(obj: Any, *names: str) -> Any:
    """The first of these that an object says of itself: in its config's metadata, its config, or as an attribute."""
    config = getattr(obj, "cfg", getattr(obj, "config", None))
    for place in (getattr(config, "metadata", None), config, obj):
        for name in names:
            value = place.get(name) if isinstance(place, dict) else getattr(place, name, None)
            if value is not None and not callable(value):
                return value
    return None


_WRITES = {
    "hook_embed",
    "hook_resid_pre",
    "hook_resid_mid",
    "hook_resid_post",
    "hook_attn_out",
    "hook_mlp_out",
}


def trained_centred(metadata: Any, hook: str | None) -> bool:
    """Whether an SAE was trained where centred weights take the mean out of activations.

    TransformerLens' `center_writing_weights` subtracts the mean over `d_model` from all that is
    written to the residual stream; it leaves what heads and neurons compute inside alone.
    """
    kwargs = metadata.get("model_from_pretrained_kwargs") if metadata else None
    point = (hook or "").rsplit(".", 1)[-1]
    return isinstance(kwargs, dict) and kwargs.get("center_writing_weights") is True and point in _WRITES


def digest_state(state: dict[str, Tensor], facts: dict[str, Any] | None = None) -> str:
    """sha256 over names (sorted), dtypes, shapes and bytes of the weights, and over `facts`."""
    sha = hashlib.sha256(json.dumps(facts or {}, sort_keys=True, default=str).encode())
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        sha.update(f"{name}|{value.dtype}|{tuple(value.shape)}".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def digest(dictionary: SaelensDictionary) -> str:
    """sha256 of a SAELens SAE: its inference weights, and the settings that change a code."""
    sae, factor = dictionary.sae, dictionary.factor
    facts = {f.name: getattr(sae.cfg, f.name) for f in fields(sae.cfg) if f.name not in _IRRELEVANT}
    facts |= {"architecture": sae.cfg.architecture()} | ({"factor": factor} if factor else {})
    facts |= {"centred": True} if dictionary.centred else {}
    return digest_state(sae.state_dict(), facts)


def _bare(sae: Any) -> Any:
    """A view that shares the weights and neither reshapes nor rescales its input."""
    view = copy.copy(sae)
    view.turn_off_forward_pass_hook_z_reshaping()
    view.run_time_activation_norm_fn_in = lambda x: x
    view.run_time_activation_norm_fn_out = lambda x: x
    return view


def _decoder(sae: Any) -> Float[Tensor, "d_sae d_in"]:
    """Rows that multiply the codes as `encode` gives them."""
    rows = sae.W_dec.detach()
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        # these codes already carry the norm of their row; a zero row has no direction to carry
        norm = rows.norm(dim=-1, keepdim=True)
        return rows / torch.where(norm > 0, norm, torch.ones_like(norm))
    return rows


def _bias(sae: Any) -> Float[Tensor, "d_in"]:
    """`b_dec` as `decode` adds it: tied architectures leave it out unless they subtract it."""
    tied = sae.cfg.architecture() == "matching_pursuit" or getattr(sae.cfg, "tied_weights", False)
    added = sae.cfg.apply_b_dec_to_input or not tied
    return sae.b_dec.detach() if added else torch.zeros_like(sae.b_dec)
