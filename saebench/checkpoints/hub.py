"""SAEs from the Hugging Face hub: SAELens' registry, and `hf://owner/repo/path`."""

import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies

from saebench.checkpoints.base import Loaded, Parts, reading
from saebench.checkpoints.building import assemble
from saebench.errors import CheckpointError, unknown

PREFIX = "hf://"
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")


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


def fetch(spec: str) -> Path:
    """The local copy of the folder or file that `hf://owner/repo/path` names.

    Raises:
        CheckpointError: for a malformed name, without network, or if it is not there.
    """
    parts = spec.removeprefix(PREFIX).strip("/").split("/")
    if len(parts) < 2 or not all(_NAME.match(part) for part in parts):
        raise CheckpointError(
            f"{spec}: expected hf://owner/repo or hf://owner/repo/path, of letters, digits, '.',"
            " '_' and '-'; a path may not leave its repository."
        )
    repo, path = "/".join(parts[:2]), "/".join(parts[2:])
    from huggingface_hub import snapshot_download

    # the path itself, what lies in it, and the configs beside it; without one the top folder alone
    beside = "/".join([*parts[2:-1], "*.json"])
    wanted = [path, f"{path}/*", beside] if path else None
    deeper = None if path else ["*/*"]
    with _network(spec):
        local = Path(snapshot_download(repo, allow_patterns=wanted, ignore_patterns=deeper))
    if not (local / path).exists():
        raise CheckpointError(f"{spec}: {repo} has no {path!r}. Look at its files on the hub.")
    return local / path


def load_registered(spec: str) -> Loaded:
    """An SAE of SAELens' registry, through SAELens' own converters.

    Raises:
        CheckpointError: for an unknown release or id, without network, or for bad weights.
    """
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    release, sae_id = spec.split("/", 1)
    directory = get_pretrained_saes_directory()
    if release not in directory:
        raise CheckpointError(_no_such(spec, release, list(directory)))
    if sae_id not in directory[release].saes_map:
        known = list(directory[release].saes_map)
        raise CheckpointError(
            _shortened("sae_id", sae_id, known) + f" It is looked up in release {release!r}."
        )
    path = Path(spec)
    with _network(spec):
        from sae_lens import SAE

        sae, config, _ = SAE.from_pretrained_with_cfg_and_sparsity(release, sae_id)
    return assemble(_parts(sae, config), path, spec, spec, "sae_lens")


def _parts(sae: Any, config: dict[str, Any]) -> Parts:
    """A SAELens object that its own loader made, in our terms."""
    from saebench.dictionaries.sae import hook_of, refuse_transcoder

    refuse_transcoder(sae)
    metadata = dict(sae.cfg.metadata.items())
    settings = {k: v for k, v in sae.cfg.to_dict().items() if k not in ("metadata", "device")}
    folded = ()
    if config.get("normalize_activations") != sae.cfg.normalize_activations:
        folded = ("input scale of the registry",)
    return Parts(
        settings,
        dict(sae.state_dict()),
        hook=hook_of(sae),
        model_name=metadata.get("model_name"),
        training_architecture=metadata.get("training_architecture"),
        metadata=metadata,
        folded=folded,
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


def _no_such(spec: str, release: str, known: list[str]) -> str:
    return (
        f"{spec} is no path here and no SAE of SAELens' registry."
        f" {_shortened('release', release, known)} A repository on the hub is written"
        " hf://owner/repo/path."
    )


def _shortened(what: str, seen: str, known: list[str]) -> str:
    """`unknown`, with the nearest matches and the number of names instead of hundreds of them."""
    text = unknown(what, seen, known)
    head, _, listed = text.partition(" Known: ")
    return text if len(listed) < 400 else f"{head} {len(known)} are known."
