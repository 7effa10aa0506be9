"""SAEs from the Hugging Face hub: SAELens' registry, and `hf://owner/repo/path`."""

import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies

from saebench.checkpoints import registry
from saebench.checkpoints.base import Loaded, Parts, reading
from saebench.checkpoints.building import assemble
from saebench.errors import CheckpointError

PREFIX = "hf://"
CONVERTED = {"connor_rob_hook_z", "deepseek_r1", "goodfire", "sparsify"}
"""Layouts that say so little that SAELens' own converters read them, by the registry's name."""
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
_PART = re.compile(r"^[A-Za-z0-9_+][A-Za-z0-9._+:=,-]*$")


def is_registered(spec: str) -> bool:
    """Whether `release/sae_id` has the form of SAELens' registry (not whether it is there)."""
    release = spec.split("/", 1)[0]
    return "/" in spec and bool(_NAME.match(release))


def reachable() -> bool:
    """Whether the hub's name resolves, or a proxy is there to resolve it."""
    from huggingface_hub import constants

    host = urlparse(constants.ENDPOINT).hostname or "huggingface.co"
    if getproxies():
        return True
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True


def fetch(spec: str, shown: str | None = None) -> Path:
    """The local copy of the folder or file that `hf://owner/repo/path` names.

    `shown` is the name that errors show.

    Raises:
        CheckpointError: for a malformed name, without network, or if it is not there.
    """
    parts = spec.removeprefix(PREFIX).strip("/").split("/")
    named = all(_NAME.match(part) for part in parts[:2]) and all(_PART.match(part) for part in parts[2:])
    if len(parts) < 2 or not named:
        raise CheckpointError(
            f"{spec}: expected hf://owner/repo or hf://owner/repo/path, of letters, digits, '.',"
            " '_', '-', '+', ':', '=' and ','; a path may not leave its repository."
        )
    repo, path = "/".join(parts[:2]), "/".join(parts[2:])
    from huggingface_hub import snapshot_download

    # the path itself, what lies in it, the configs beside and above it; without one the top folder alone
    folders = {"/".join([*parts[2:-up], ""]).lstrip("/") for up in (1, 2) if len(parts) - up >= 2}
    beside = [f"{folder}*.{ending}" for folder in sorted(folders) for ending in ("json", "yaml")]
    wanted = [_literal(path), f"{_literal(path)}/*", *beside] if path else None
    deeper = None if path else ["*/*"]
    with _network(shown or spec):
        local = Path(snapshot_download(repo, allow_patterns=wanted, ignore_patterns=deeper))
    if not (local / path).exists():
        raise CheckpointError(f"{shown or spec}: {repo} has no {path!r}. Look at its files on the hub.")
    return local / path


def _literal(path: str) -> str:
    """The path as a pattern that matches it alone."""
    return path.replace("[", "[[]")


def fetch_registered(spec: str, entry: registry.Entry) -> Path:
    """The local copy of an SAE of SAELens' registry.

    Raises:
        CheckpointError: without network, and for cross-layer transcoders.
    """
    if entry.conversion == "mntss_clt_layer_transcoder" or "clt" in entry.path.split("/"):
        raise CheckpointError(
            f"{spec}: a layer of a cross-layer transcoder, which writes into every layer behind the one it reads."
            " Every score here is taken at one place; score a transcoder of one layer."
        )
    inside = "" if entry.path in (".", "") else f"/{entry.path}"
    return fetch(f"{PREFIX}{entry.repository}{inside}", spec)


def load_registered(spec: str) -> Loaded:
    """An SAE of SAELens' registry, through SAELens' own converters.

    Raises:
        CheckpointError: without network, or for bad weights.
    """
    release, sae_id = spec.split("/", 1)
    with _network(spec):
        from sae_lens import SAE

        sae, config, _ = SAE.from_pretrained_with_cfg_and_sparsity(release, sae_id)
    return assemble(_parts(sae, config), Path(spec), spec, spec, "sae_lens")


def _parts(sae: Any, config: dict[str, Any]) -> Parts:
    """A SAELens object that its own loader made, in our terms."""
    from saebench.dictionaries.sae import hook_of, is_transcoder, refuse_transcoder
    from saebench.dictionaries.transcoder import writes

    transcodes, state = is_transcoder(sae), dict(sae.state_dict())
    if not transcodes:
        refuse_transcoder(sae)
    metadata = dict(sae.cfg.metadata.items())
    settings = {k: v for k, v in sae.cfg.to_dict().items() if k not in ("metadata", "device")}
    if transcodes:
        settings["architecture"] = "jumprelu" if "threshold" in state else "standard"
    folded = ()
    if config.get("normalize_activations") != sae.cfg.normalize_activations:
        folded = ("input scale of the registry",)
    return Parts(
        settings,
        state,
        hook=writes(sae) if transcodes else hook_of(sae),
        model_name=metadata.get("model_name"),
        training_architecture=metadata.get("training_architecture"),
        metadata=metadata,
        folded=folded,
        reads=hook_of(sae) if transcodes else None,
        transcodes=transcodes,
    )


class _network:
    """Turns what the hub client raises into one paragraph, and does not wait where no hub is."""

    def __init__(self, spec: str) -> None:
        self.spec = spec

    def __enter__(self) -> None:
        from huggingface_hub import constants

        self._was = constants.HF_HUB_OFFLINE
        # without this the client asks for half a minute before it turns to its cache
        constants.HF_HUB_OFFLINE = self._was or not reachable()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        from huggingface_hub import constants

        constants.HF_HUB_OFFLINE = self._was
        if error is None or isinstance(error, CheckpointError):
            return
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
        from requests.exceptions import RequestException

        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, LocalEntryNotFoundError | RequestException) or (
            isinstance(error, OSError) and status is None
        ):
            raise CheckpointError(
                f"{self.spec}: the Hugging Face hub cannot be reached and the SAE is not in its"
                " cache. Download it where there is a network and give the folder's path."
            ) from error
        if isinstance(error, HfHubHTTPError):
            raise CheckpointError(
                f"{self.spec}: the hub answered {status}. Check the name, and log in with"
                " `huggingface-cli login` if the repository is gated."
            ) from error
        with reading(Path(self.spec), "loading it with SAELens"):
            raise error
