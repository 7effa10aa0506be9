"""Texts from files, cut into windows of tokens."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from saebench.errors import OptionError
from saebench.models.language_model import LanguageModel

SUFFIXES = (".txt", ".md", ".rst", ".jsonl", ".parquet")
COLUMN = "text"
HELD_OUT_EVERY = 50
"""One window of so many is kept for measuring."""


class Windows(NamedTuple):
    """Token windows of one length, BOS included where the model uses one."""

    train: Int[np.ndarray, "n length"]
    held_out: Int[np.ndarray, "m length"]


def find_files(paths: Sequence[Path]) -> list[Path]:
    """The files named, and those of a known kind below the directories named, in order.

    Raises:
        OptionError: if a path is absent or of another kind, or a directory holds none.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES)
        elif path.is_file() and path.suffix in SUFFIXES:
            found.append(path)
        else:
            state = "is of another kind" if path.exists() else "does not exist"
            raise OptionError(
                f"--data {path} {state}. Expected a task such as ioi, or files or directories of texts"
                f" ({', '.join(SUFFIXES)})."
            )
    if not found:
        listed = ", ".join(str(p) for p in paths)
        raise OptionError(f"No texts in {listed}. Expected files that end in {', '.join(SUFFIXES)}.")
    return found


def read_documents(files: Sequence[Path]) -> Iterator[str]:
    """Documents one after the other: a plain text is one, JSON Lines and parquet hold one a row.

    Raises:
        OptionError: for a file that cannot be read, or rows without a column `text`.
    """
    for file in files:
        try:
            yield from _documents(file)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OptionError(
                f"{file} cannot be read as texts ({type(error).__name__}: {error}). Expected UTF-8; of"
                f" .jsonl and .parquet a column {COLUMN!r} of strings."
            ) from error


def _documents(file: Path) -> Iterator[str]:
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        for batch in pq.ParquetFile(file).iter_batches(columns=[COLUMN], batch_size=1024):
            yield from (text for text in batch.column(0).to_pylist() if text)
    elif file.suffix == ".jsonl":
        with file.open(encoding="utf-8") as lines:
            yield from (json.loads(line)[COLUMN] for line in lines if line.strip())
    else:
        yield file.read_text(encoding="utf-8")


def cut_windows(
    documents: Iterable[str], model: LanguageModel, length: int, wanted: int | None = None
) -> Windows:
    """Documents joined by the end-of-text token and cut into windows, until `wanted` tokens are there.

    Raises:
        OptionError: if the texts do not fill two windows.
    """
    begin = [model.tokenizer.bos_token_id] if model.prepends_bos else []
    end = [t for t in (model.tokenizer.eos_token_id,) if t is not None]
    step, rows = length - len(begin), []
    enough = float("inf") if wanted is None else wanted * (1 + 1 / HELD_OUT_EVERY) / step + 2
    rest: list[int] = []
    for text in documents:
        rest += [*model.tokenizer(text, add_special_tokens=False)["input_ids"], *end]
        whole = len(rest) // step * step
        rows += [begin + rest[i : i + step] for i in range(0, whole, step)]
        rest = rest[whole:]
        if len(rows) >= enough:
            break
    if len(rows) < 2:
        raise OptionError(
            f"The texts hold fewer than two windows of {length} tokens. Expected more text, or a shorter"
            " --context."
        )
    table, held_out = np.array(rows, dtype=np.int32), np.arange(len(rows)) % HELD_OUT_EVERY == 1
    return Windows(table[~held_out], table[held_out])
