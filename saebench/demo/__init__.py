"""What is bundled: a language model and dictionaries of it."""

from pathlib import Path

__all__ = ["MLP", "SAES", "folder", "names"]

SAES = Path(__file__).parent / "saes"
"""SAEs of one residual stream; `demo:all` are these."""
MLP = Path(__file__).parent / "mlp"
"""A transcoder of one MLP and an SAE of its output, `demo:mlp-transcoder` and `demo:mlp-topk`."""


def folder(name: str) -> Path:
    """Where `demo:NAME` lies, whether it is there or not."""
    return MLP / name.removeprefix("mlp-") if name.startswith("mlp-") else SAES / name


def names() -> list[str]:
    """Of the SAEs of `demo:all`, by folder."""
    return sorted(path.name for path in SAES.iterdir() if path.is_dir()) if SAES.is_dir() else []
