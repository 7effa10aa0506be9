"""What `saebench tasks` and `saebench models` say."""

from collections.abc import Iterator
from pathlib import Path

from saebench.errors import OptionError
from saebench.reporting import widths
from saebench.spec import Task, find_tasks, load_task, read_task


def lines(name: str | None, folder: Path | None, extra: tuple[Path, ...]) -> Iterator[str]:
    """The list of tasks, the description of one, or the verdict on a folder.

    Raises:
        TaskError: if the task or folder is wrong.
    """
    if name == "check":
        if folder is None:
            raise OptionError("`saebench tasks check` needs a folder: saebench tasks check DIR.")
        task = read_task(folder)
        list(task.spec.files(task))
        yield f"{folder}: a valid task, {task.name} version {task.spec.version}, digest {task.sha256[:12]}"
    elif name is None:
        for known in find_tasks(extra):
            spec = load_task(known, extra).spec
            yield f"{known:24} {spec.title}"
    else:
        yield from describe(load_task(name, extra))


def describe(task: Task) -> Iterator[str]:
    """Attributes, positions, sizes, sites, source, and how wide intervals were at which budget."""
    spec = task.spec
    yield f"{spec.name} (version {spec.version}, digest {task.sha256[:12]}): {spec.title}"
    yield spec.summary
    facts = [("source", spec.citation), *spec.describe(), *spec.files(task)]
    facts += [("site", f"{', '.join(sites)} on {model}") for model, sites in spec.sites.items()]
    facts.append(("floor", "mean ablation, no edit, permuted labels; ceiling: the supervised dictionary"))
    facts += [("intervals", text) for text in widths.of_task(spec.name, task.sha256)]
    for word, text in facts:
        yield f"{word:11} {text}"


def model_lines() -> Iterator[str]:
    """Every model with a name: where it comes from, whether it is here, what has default sites on it."""
    from saebench.models.known import known_models

    tasks = [load_task(name) for name in find_tasks()]
    for model in known_models():
        where = "on this machine" if model.here else _way_to(model.name, model.source)
        yield f"{model.name:32} {model.source:28} {where}"
        yield f"{'':4}{model.about}"
        sites = [
            f"{task.name} at {', '.join(task.spec.sites[model.name])}"
            for task in tasks
            if model.name in task.spec.sites
        ]
        if sites:
            yield f"{'':4}default sites: {'; '.join(sites)}"
    yield "A GGUF file, a folder holding one, a Hugging Face directory and any other name on the hub are models too."


def _way_to(name: str, source: str) -> str:
    return "is downloaded when first used" if source == "hub" else f"saebench models fetch {name}"
