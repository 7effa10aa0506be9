"""Tasks by name, with the options that change what a name stands for."""

from saebench.errors import OptionError
from saebench.evaluation.options import Options
from saebench.spec import Task, load_task


def named_tasks(name: str, options: Options) -> list[Task]:
    """The task of that name; with `ravel_data`, `ravel` means all entity types of the published data.

    Raises:
        TaskError: if there is no such task, or its files are wrong.
    """
    if options.ravel_data is None or name.split("/")[0] != "ravel":
        return [load_task(name, options.tasks)]
    from saebench.kinds.entities.release import choose

    return list(choose(name, options.ravel_data, options.ravel_attributes))


def only_task(name: str, options: Options) -> Task:
    """The one task of that name.

    Raises:
        TaskError, OptionError: if there is none, or several.
    """
    tasks = named_tasks(name, options)
    if len(tasks) != 1:
        raise OptionError(
            f"{name!r} names {len(tasks)} tasks; `evaluate` scores one at a time. Name one of"
            f" {', '.join(task.name for task in tasks)}."
        )
    return tasks[0]
