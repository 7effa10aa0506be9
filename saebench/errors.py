"""One exception class per thing a user can get wrong.

Every message is one short paragraph: what was seen, what was expected, what to do. The command line
prints it on stderr and exits with code 2; `--debug` adds the traceback.
"""

import difflib
from collections.abc import Iterable


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


class IncompetentModelError(SaebenchError):
    """The model cannot do the task, so a score would measure noise."""


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
