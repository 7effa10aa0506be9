"""Kinds whose data has one site: there are no pairs of prompts to look for sites on."""

from typing import NoReturn

from saebench.errors import TaskError
from saebench.kinds.base import Settings
from saebench.models.language_model import LanguageModel
from saebench.patching.pairs import Number
from saebench.spec import Task


def no_pairs(task: Task, model: LanguageModel, settings: Settings, number: Number) -> NoReturn:
    """For kinds whose data has one site.

    Raises:
        TaskError: always.
    """
    raise TaskError(
        f"Task {task.name!r} draws its own data at one site; there is nothing to look for. `saebench discover`"
        " is for tasks on language models, such as ioi and ravel."
    )
