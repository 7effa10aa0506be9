"""What `saebench tasks` says."""

from collections.abc import Iterator
from pathlib import Path

from saebench.errors import OptionError
from saebench.spec import EntitiesSpec, NamesSpec, SyntheticSpec, Task, find_tasks, load_task, read_task


def lines(name: str | None, folder: Path | None, extra: tuple[Path, ...]) -> Iterator[str]:
    """The list of tasks, the description of one, or the verdict on a folder.

    Raises:
        TaskError: if the task or folder is wrong.
    """
    if name == "check":
        if folder is None:
            raise OptionError("`saebench tasks check` needs a folder: saebench tasks check DIR.")
        task = read_task(folder)
        list(_files(task))
        yield f"{folder}: a valid task, {task.name} version {task.spec.version}, digest {task.sha256[:12]}"
    elif name is None:
        for known in find_tasks(extra):
            spec = load_task(known, extra).spec
            yield f"{known:24} {spec.title}"
    else:
        yield from describe(load_task(name, extra))


def describe(task: Task) -> Iterator[str]:
    """Attributes, positions, sizes, sites, source."""
    spec = task.spec
    yield f"{spec.name} (version {spec.version}, digest {task.sha256[:12]}): {spec.title}"
    yield spec.summary
    yield f"source      {spec.citation}"
    if isinstance(spec, NamesSpec):
        yield "attributes  io, s, pos"
        yield "positions   io, s1, s1+1, s2, end"
        yield f"templates   {len(spec.templates)}, for example: {spec.templates[0]}"
    elif isinstance(spec, EntitiesSpec):
        yield f"attributes  {', '.join(spec.attributes)}"
        yield "positions   entity, end"
        for attribute, templates in spec.templates.items():
            yield f"templates   {attribute}: {len(templates.fit)} fit, {len(templates.test)} test"
    elif isinstance(spec, SyntheticSpec):
        yield f"family      {spec.family}"
    yield from _files(task)
    for model, sites in spec.sites.items():
        yield f"site        {', '.join(sites)} on {model}"
    yield "floor       mean ablation, no edit, permuted labels; ceiling: the supervised dictionary"


def _files(task: Task) -> Iterator[str]:
    spec = task.spec
    if isinstance(spec, NamesSpec):
        for slot, file in spec.lists.items():
            yield f"{slot:11} {len(task.words(file))} in {file}"
    elif isinstance(spec, EntitiesSpec):
        yield f"entities    {len(task.rows(spec.table))} in {spec.table}"
