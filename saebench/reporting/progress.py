"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from saebench.reporting.text import console


@contextmanager
def progress(total: int, description: str = "") -> Iterator["Steps"]:
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
        yield BarSteps(bar, bar.add_task(description, total=total, detail=""), total)


class Steps(ABC):
    """What long work reports to: a step begins, a piece of it is done."""

    @abstractmethod
    def begin(self, name: str, description: str = "") -> None:
        """A step of that name begins, of work described so; the one before it is done."""

    @abstractmethod
    def end(self, what: str, left: str) -> None:
        """One of several steps that go on at once is done, and how much time is left."""

    @abstractmethod
    def expect(self, more: int) -> None:
        """There are so many more steps than was said."""

    @abstractmethod
    def detail(self, what: str) -> None:
        """A piece of the step is done."""

    @abstractmethod
    def result(self, words: str) -> None:
        """What the step has brought, for people who wait for the rest."""


class PlainSteps(Steps):
    """One line per step, for logs."""

    def __init__(self, total: int, description: str) -> None:
        self.total, self.description, self.done = total, description, 0

    def begin(self, name: str, description: str = "") -> None:
        self.done += 1
        what = description or self.description
        print(f"{what} {self.done}/{self.total}: {name}", file=sys.stderr, flush=True)

    def end(self, what: str, left: str) -> None:
        self.done += 1
        print(f"{self.description} {self.done}/{self.total}: {what} ({left})", file=sys.stderr, flush=True)

    def expect(self, more: int) -> None:
        self.total += more

    def detail(self, what: str) -> None:
        """Details are for people who watch a bar; a log needs one line a step."""

    def result(self, words: str) -> None:
        print(f"  {words}", file=sys.stderr, flush=True)


class BarSteps(Steps):
    """A rich progress bar."""

    def __init__(self, bar, task, total: int) -> None:
        self.bar, self.task, self.total, self.started = bar, task, total, False

    def begin(self, name: str, description: str = "") -> None:
        if self.started:
            self.bar.advance(self.task)
        self.started = True
        self.bar.update(self.task, description=f"{description} {name}".strip(), detail="")

    def end(self, what: str, left: str) -> None:
        self.bar.advance(self.task)
        self.bar.update(self.task, description=left, detail=what)

    def expect(self, more: int) -> None:
        self.total += more
        self.bar.update(self.task, total=self.total)

    def detail(self, what: str) -> None:
        self.bar.update(self.task, detail=what)

    def result(self, words: str) -> None:
        self.bar.console.print(words, markup=False)
