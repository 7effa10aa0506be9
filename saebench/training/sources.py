"""What activations are read from: prompts of a task, or windows of text, drawn by number."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from saebench.errors import OptionError
from saebench.kinds import KINDS
from saebench.models.language_model import LanguageModel
from saebench.patching.pairs import Passage
from saebench.spec import Task, find_tasks, load_task
from saebench.training.texts import Windows, cut_windows, find_files, read_documents

SEED = 0


@dataclass(frozen=True)
class Source:
    """Passages by number: `draw(part, n)` gives the same `n` every time, other numbers others."""

    name: str
    draw: Callable[[int, int], Sequence[Passage]]
    held_out: Callable[[int], Sequence[Passage]]
    """Passages that are in no part."""


def open_source(
    data: Sequence[str], model: LanguageModel, context: int, tokens: int, folders: Sequence[Path] = ()
) -> Source:
    """The source that `--data` names: tasks, and files or directories of texts; several are mixed evenly.

    Always the same passages: seeds of training differ in order and initialisation alone.

    Raises:
        OptionError: for a synthetic task, or a file that is absent or cannot be read.
    """
    known = find_tasks(folders)
    tasks = [load_task(name, folders) for name in data if name in known]
    files = [Path(name).expanduser() for name in data if name not in known]
    sources = [from_task(task, model) for task in tasks]
    if files:
        documents = read_documents(find_files(files))
        windows = cut_windows(documents, model, min(context, model.n_ctx), tokens)
        sources.append(from_windows(windows, "+".join(file.stem for file in files)))
    return sources[0] if len(sources) == 1 else mixed(sources)


def from_task(task: Task, model: LanguageModel) -> Source:
    """Prompts of a task, drawn anew for every part.

    Raises:
        OptionError: if the task is not about a language model.
    """
    passages = KINDS[task.spec.kind].passages
    if passages is None:
        raise OptionError(
            f"--data {task.name} is no text: its data is drawn from known features. Train on it with"
            f" --task {task.name} and without --model."
        )
    return Source(
        task.name,
        lambda part, n: passages(task, model, np.random.default_rng([SEED, 4, part]), n),
        lambda n: passages(task, model, np.random.default_rng([SEED, 5]), n),
    )


def from_windows(windows: Windows, name: str) -> Source:
    """Windows of text in a random order, round after round."""
    order = np.random.default_rng([SEED, 6]).permutation(len(windows.train))

    def draw(part: int, n: int) -> list[Passage]:
        at = (part * n + np.arange(n)) % len(order)
        return [Passage(row.tolist(), {}) for row in windows.train[order[at]]]

    return Source(name, draw, lambda n: [Passage(row.tolist(), {}) for row in windows.held_out[:n]])


def mixed(sources: Sequence[Source]) -> Source:
    """As many passages of every source in every part."""

    def share(n: int) -> int:
        return -(-n // len(sources))

    return Source(
        "+".join(source.name for source in sources),
        lambda part, n: [p for source in sources for p in source.draw(part, share(n))],
        lambda n: [p for source in sources for p in source.held_out(share(n))],
    )
