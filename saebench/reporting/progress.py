"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from saebench.reporting.text import console


@contextmanager
def progress(total: int, description: str) -> Iterator["Steps"]:
    """A progress bar on a terminal, plain lines elsewhere; both on stderr."""
    if not sys.stderr.isatty():
        yield PlainSteps(total, description)
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[detail]}", style="dim"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        yield BarSteps(bar, bar.add_task(description, total=total, detail=""))


class Steps(ABC):
    """What long work reports to: a step begins, a piece of it is done."""

    @abstractmethod
    def begin(self, name: str) -> None:
        """A step of that name begins; the one before it is done."""

    @abstractmethod
    def detail(self, what: str) -> None:
        """A piece of the step is done."""


class PlainSteps(Steps):
    """One line per step, for logs."""

    def __init__(self, total: int, description: str) -> None:
        self.total, self.description, self.done = total, description, 0

    def begin(self, name: str) -> None:
        self.done += 1
        print(f"{self.description} {self.done}/{self.total}: {name}", file=sys.stderr, flush=True)

    def detail(self, what: str) -> None:
        """Details are for people who watch a bar; a log needs one line a step."""


class BarSteps(Steps):
    """A rich progress bar."""

    def __init__(self, bar, task) -> None:
        self.bar, self.task, self.started = bar, task, False

    def begin(self, name: str) -> None:
        if self.started:
            self.bar.advance(self.task)
        self.started = True
        self.bar.update(self.task, description=name, detail="")

    def detail(self, what: str) -> None:
        self.bar.update(self.task, detail=what)
