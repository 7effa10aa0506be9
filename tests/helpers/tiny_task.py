"""A synthetic task of eight dimensions: an evaluation on it takes a fraction of a second."""

from pathlib import Path

import sae_files as f

TOML = """
name = "tiny"
kind = "synthetic"
version = 1
title = "Tiny"
summary = "Twelve features in eight dimensions."
citation = "none"
family = "independent"

[parameters]
features = 12
d_in = 8
firing = 0.15
magnitude = 2.0
spread = 0.3
probes = 4

[sites]
synthetic = ["synthetic@sample"]
"""


def write_task(root: Path) -> Path:
    """A directory for `--tasks` with the task `tiny`."""
    (root / "tiny").mkdir(parents=True)
    (root / "tiny" / "task.toml").write_text(TOML)
    return root


def write_sae(folder: Path, seed: int = 0) -> Path:
    """Weights of its width, for `--architecture standard`; it was trained on nothing (`--force-mismatch`)."""
    w = f.weights(seed)
    narrow = {
        "W_enc": w["W_enc"][:8],
        "W_dec": w["W_dec"][:, :8],
        "b_dec": w["b_dec"][:8],
        "b_enc": w["b_enc"],
    }
    f.plain(folder, {name: value.contiguous() for name, value in narrow.items()})
    return folder
