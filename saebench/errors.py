"""One exception class per thing a user can get wrong.

Every message is one short paragraph: what was seen, what was expected, what to do. The command line
prints it on stderr and exits with code 2; `--debug` adds the traceback.
"""

import difflib
import re
from collections.abc import Iterable, Sequence


class SaebenchError(Exception):
    """Base of all errors that the input or the environment can cause."""


class CheckpointError(SaebenchError):
    """A checkpoint that cannot be recognised, read or trusted."""


class TaskError(SaebenchError):
    """A task that does not exist, or a task folder that is wrong."""


class ModelError(SaebenchError):
    """A model that cannot be found or loaded."""


class SiteError(SaebenchError):
    """A site that is misspelt, absent from the model, or does not fit the dictionary."""


class ControlError(SaebenchError):
    """An unknown control, or a wrong argument of one."""


class OptionError(SaebenchError):
    """A command-line or API option outside its allowed values."""


class TrainingDataError(SaebenchError):
    """An SAE that was not trained on the data it is to be scored on."""


class PlantingError(SaebenchError):
    """A spec of a planted model that cannot be read, or asks for what cannot be."""


class IncompetentModelError(SaebenchError):
    """The model cannot do the task, so a score would measure noise."""


class UnitError(SaebenchError):
    """A unit of a sweep whose worker failed or was lost."""


class ResultError(SaebenchError):
    """A result file that is damaged, of an unknown schema, or cannot be compared."""


class StoreError(SaebenchError):
    """A results directory that cannot be written or read."""


def unknown(what: str, seen: str, known: Iterable[str], remedy: str = "") -> str:
    """The message for a name that is not in a registry: nearest matches, then the full choice."""
    known = sorted(known)
    near = difflib.get_close_matches(seen, known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    choice = ", ".join(known) if known else "none"
    return f"Unknown {what} {seen!r}.{hint} Known: {choice}. {remedy}".strip()


_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def parse_bytes(text: str | None) -> int | None:
    """Bytes of `2GB`, `500M` or `1000000`; None stays None.

    Raises:
        OptionError: if it is not a size, or not above zero.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", text.strip().lower())
    size = int(float(match[1]) * _UNITS[match[2]]) if match else 0
    if size <= 0:
        raise OptionError(f"Cannot read {text!r} as an amount of memory. Expected e.g. 2GB or 500MB.")
    return size


def choice(name: str, seen: str, known: Sequence[str]) -> str:
    """The value if it is one of those known.

    Raises:
        OptionError: with near matches and the full choice.
    """
    if seen not in known:
        raise OptionError(unknown(name, seen, known))
    return seen


def out_of_memory(error: Exception) -> bool:
    """Whether it was memory that was missing: Python's, numpy's, the CPU allocator's, a GPU's or a fork's."""
    said = str(error).lower()
    signs = ("can't allocate memory", "cannot allocate memory", "out of memory")
    return isinstance(error, MemoryError) or any(sign in said for sign in signs)
