"""What of an IOI task's word lists and templates a tokenizer can use."""

from collections.abc import Sequence
from typing import NamedTuple

from saebench.errors import TaskError
from saebench.models.language_model import LanguageModel
from saebench.spec import NamesSpec, Task

MIN_NAMES = 20


class Words(NamedTuple):
    """Names, templates and fillers. `templates` lists all that align, held out or not."""

    names: tuple[str, ...]
    templates: tuple[str, ...]
    held_out: frozenset[int]
    """Numbers of the templates that only `test` uses."""
    places: tuple[str, ...]
    objects: tuple[str, ...]
    notes: tuple[str, ...]
    women: frozenset[str] = frozenset()
    """Which of the names are usually women's; empty where the task does not list them."""

    def of_split(self, split: str) -> tuple[int, ...]:
        """Numbers of the templates that a split may use."""
        held_out = split == "test"
        return tuple(i for i in range(len(self.templates)) if (i in self.held_out) == held_out)


def fill(
    template: str,
    io: str,
    s: str,
    io_first: bool,
    place: str = "park",
    object: str = "book",
    giver: str | None = None,
) -> str:
    """The sentence up to its answer. With a `giver` that name stands where S would be named again."""
    first, second = (io, s) if io_first else (s, io)
    return template.format(first=first, second=second, s=giver or s, place=place, object=object)


def token(model: LanguageModel, name: str) -> int:
    """The one token of a name that was kept because it is one."""
    found = model.single_token(" " + name)
    assert found is not None, f"{name} was kept as a single token"
    return found


def usable_words(task: Task[NamesSpec], model: LanguageModel) -> Words:
    """Names that are one token after a space, and templates in which names stay whole tokens.

    Raises:
        TaskError: if fewer than 20 names are left, or no template to fit on or none held out.
    """
    spec = task.spec
    listed = task.words(spec.lists["names"])
    names = tuple(n for n in listed if model.single_token(" " + n) is not None)
    if len(names) < MIN_NAMES:
        raise TaskError(
            f"Task {task.name!r} needs names that are one token with a leading space; {model.name!r}"
            f" has {len(names)} of {len(listed)} ({', '.join(names[:5]) or 'none'}…)."
            f" Expected at least {MIN_NAMES}: use a model with a larger vocabulary, or a task folder"
            " with names it knows (`--tasks DIR`)."
        )
    everything = (*spec.fit_templates, *spec.test_templates)
    templates = tuple(t for t in everything if _aligns(t, names, model))
    held_out = frozenset(i for i, t in enumerate(templates) if t in spec.test_templates)
    if not 0 < len(held_out) < len(templates):
        raise TaskError(
            f"Too few templates of task {task.name!r} keep their names as single tokens under the"
            f" tokenizer of {model.name!r}: {len(templates) - len(held_out)} of"
            f" {len(spec.fit_templates)} to fit on and {len(held_out)} of {len(spec.test_templates)}"
            " held out. Expected one of each at least, with `{first}`, `{second}` and `{s}` after a"
            " space."
        )
    notes = []
    if len(names) < len(listed):
        notes.append(f"{len(names)} of {len(listed)} names are single tokens of this model")
    if len(templates) < len(everything):
        notes.append(f"{len(templates)} of {len(everything)} templates align in this model")
    places, objects = task.words(spec.lists["place"]), task.words(spec.lists["object"])
    women = frozenset(task.words(spec.lists["women"])) if "women" in spec.lists else frozenset()
    return Words(names, templates, held_out, places, objects, tuple(notes), women)


def _aligns(template: str, names: Sequence[str], model: LanguageModel) -> bool:
    """Whether the names are found, once and twice, as tokens of the filled template."""
    tokens = model.tokens(fill(template, names[0], names[1], io_first=True))
    io, s = (token(model, n) for n in names[:2])
    return tokens.count(io) == 1 and tokens.count(s) == 2
