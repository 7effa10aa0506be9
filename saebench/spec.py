"""Task folders: what a task is, as data.

A task is a folder with a `task.toml` of plain values, word lists and tables beside it, and a card.
Its digest is its identity. What to do with the values is a *kind*, in Python, with tests.
"""

import csv
import hashlib
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import TypeVar

from saebench.errors import OptionError, TaskError, choice, unknown

_HERE = Path(__file__).parent
# the wheel carries the tasks inside the package; a checkout has them beside it
BUNDLED = _HERE / "_tasks" if (_HERE / "_tasks").is_dir() else _HERE.parent / "tasks"
BUDGETS = ("tiny", "quick", "standard", "full")
_TIMES = re.compile(r"(\d+(?:\.\d+)?)x")


def budget_times(budget: str) -> float | None:
    """2.5 for `2.5x`, two and a half times the independent units of `quick`; None for a name.

    Raises:
        OptionError: for what is neither.
    """
    said = _TIMES.fullmatch(budget)
    if said is None:
        choice("budget", budget, (*BUDGETS, "2.5x"))
    return float(said[1]) if said else None


class Spec(BaseModel):
    """What a task folder says, and what tasks of its kind bring; the kinds are the classes below."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    positions: ClassVar[tuple[str, ...]]
    """Where in a prompt a site can be."""
    changes_at_once: ClassVar[tuple[str, ...]] = ()
    """Attributes of which one source can change several."""
    generates: ClassVar[bool] = False
    """Whether the data is drawn by the task itself: one site, no language model, SAEs of its own."""

    kind: str
    name: str
    version: int = Field(ge=1)
    title: str
    summary: str
    citation: str
    sites: dict[str, tuple[str, ...]] = {}

    @property
    def further_axes(self) -> tuple[str, ...]:
        """Axes that are measured on this task beside those of every task."""
        return ()

    @property
    def own_controls(self) -> tuple[str, ...]:
        """Controls that can be made on this task and not on others."""
        return ()

    def sets_of(self, asked: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Sets of attributes that are asked for as `s+pos`, by a name in the order of the task.

        Raises:
            OptionError: for what is no attribute, or if no source of the task changes several at once.
        """
        known, found = self.changes_at_once, {}
        for text in asked:
            if not known:
                raise OptionError(
                    f"--joint-edits {text}: sources of task {self.name!r} are not made to change several attributes at"
                    " once. Expected a task such as ioi, or no --joint-edits."
                )
            names = text.split("+")
            for name in names:
                if name not in known:
                    raise OptionError(f"--joint-edits {text}: {unknown('attribute', name, known)}")
            ordered = tuple(name for name in known if name in names)
            found["+".join(ordered)] = ordered
        return found

    def sites_of(self, model: str, sha256: str) -> tuple[str, ...]:
        """Its default sites on a model of that name and digest."""
        return self.sites.get(model, ())

    def describe(self) -> Iterator[tuple[str, str]]:
        """What a reader wants to know of the task, as (word, text)."""
        yield from ()

    def sentences(self, task: "Task") -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]] | None:
        """Templates, and the words of every slot but the names' roles; None where the kind has no such text."""
        return None

    def files(self, task: "Task") -> Iterator[tuple[str, str]]:
        """Its word lists and tables, read, as (word, how many in which file)."""
        yield from ()


class NamesSpec(Spec):
    """Sentences about two people, one named twice (IOI)."""

    positions: ClassVar[tuple[str, ...]] = ("io", "s1", "s1+1", "s2", "end")
    attributes: ClassVar[tuple[str, ...]] = ("io", "s", "pos")
    changes_at_once = attributes

    kind: Literal["names"]
    templates: tuple[str, ...] = Field(min_length=1)
    held_out: tuple[str, ...] = ()
    """Templates that only `test` uses. Without any, the last third of `templates` is held out."""
    lists: dict[str, str]

    @model_validator(mode="after")
    def _disjoint(self) -> "NamesSpec":
        both = set(self.templates) & set(self.held_out)
        if both:
            raise ValueError(
                f"{sorted(both)[0]!r} is listed among templates and among held_out; once, please"
            )
        return self

    @property
    def fit_templates(self) -> tuple[str, ...]:
        """Phrasings of `fit` and `select`."""
        return self.templates if self.held_out else self.templates[: -self._third]

    @property
    def test_templates(self) -> tuple[str, ...]:
        """Phrasings of `test`; none of them is among the others."""
        return self.held_out or self.templates[-self._third :]

    @property
    def _third(self) -> int:
        return max(1, len(self.templates) // 3)

    def describe(self) -> Iterator[tuple[str, str]]:
        yield "attributes", ", ".join(self.attributes)
        yield "positions", ", ".join(self.positions)
        yield (
            "templates",
            f"{len(self.fit_templates)} fit, {len(self.test_templates)} test, for example: {self.templates[0]}",
        )

    def sentences(self, task: "Task") -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
        templates = (*self.fit_templates, *self.test_templates)
        return templates, {slot: task.words(file) for slot, file in self.lists.items()}

    def files(self, task: "Task") -> Iterator[tuple[str, str]]:
        for slot, file in self.lists.items():
            yield slot, f"{len(task.words(file))} in {file}"


class EntityTemplates(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    fit: tuple[str, ...] = Field(min_length=1)
    select: tuple[str, ...] = ()
    """Without any of its own, `select` asks as `fit` does, about other entities."""
    test: tuple[str, ...] = Field(min_length=1)


class PlantedTruth(BaseModel):
    """Where a task's attributes were planted, and the file that holds their subspaces and atoms."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    sha256: str | None = None
    """Of the file; None in tasks that were planted before it was noted."""
    site: str
    model_sha256: str
    certified: bool


class EntitiesSpec(Spec):
    """Facts about entities in a table (RAVEL)."""

    positions: ClassVar[tuple[str, ...]] = ("entity", "end")

    kind: Literal["entities"]
    table: str
    entity: str
    attributes: tuple[str, ...] = Field(min_length=1)
    nested: dict[str, str] = {}
    templates: dict[str, EntityTemplates]
    phrasings: dict[str, dict[str, EntityTemplates]] = {}
    """Other sets of templates, by name; a model is asked in the set that it answers best on `select`."""
    aliases: dict[str, dict[str, tuple[str, ...]]] = {}
    split: str | None = None
    """Column of the table that says which split an entity is in; without it they are dealt."""
    context: dict[str, tuple[str, ...]] = {}
    """By split: texts that name an entity and ask nothing, for sources."""
    planted: PlantedTruth | None = None
    """The model that the attributes were planted in, for tasks that `saebench plant` wrote."""

    @property
    def further_axes(self) -> tuple[str, ...]:
        return ("disentangle", "subspaces") if self.planted else ("disentangle",)

    @property
    def own_controls(self) -> tuple[str, ...]:
        return ("das", "oracle") if self.planted else ("das",)

    def sites_of(self, model: str, sha256: str) -> tuple[str, ...]:
        if self.planted and self.planted.model_sha256 == sha256:
            return (self.planted.site,)
        return super().sites_of(model, sha256)

    def describe(self) -> Iterator[tuple[str, str]]:
        yield "attributes", ", ".join(self.attributes)
        yield "positions", ", ".join(self.positions)
        for attribute, templates in self.templates.items():
            yield "templates", f"{attribute}: {len(templates.fit)} fit, {len(templates.test)} test"
        for name in self.phrasings:
            yield "phrasings", f"{name}: for models that answer it better"

    def files(self, task: "Task") -> Iterator[tuple[str, str]]:
        yield "entities", f"{len(task.rows(self.table))} in {self.table}"


class SyntheticSpec(Spec):
    """Data drawn from known features."""

    positions: ClassVar[tuple[str, ...]] = ("sample",)
    generates: ClassVar[bool] = True

    kind: Literal["synthetic"]
    family: str
    seed: int = 0
    parameters: dict[str, Any] = {}

    @property
    def further_axes(self) -> tuple[str, ...]:
        return ("recovery",)

    @property
    def own_controls(self) -> tuple[str, ...]:
        return ("oracle", "matching-pursuit")

    def describe(self) -> Iterator[tuple[str, str]]:
        yield "family", self.family


SPECS: dict[str, type[Spec]] = {"names": NamesSpec, "entities": EntitiesSpec, "synthetic": SyntheticSpec}
"""What a `task.toml` of each kind holds; `saebench.kinds` says how data comes of it."""


S = TypeVar("S", bound=Spec, covariant=True, default=Spec)


class Task(Generic[S]):
    """A task folder that has been read: its spec, its files, its digest.

    Code of a kind takes tasks of its own spec, `Task[NamesSpec]`; all other code takes any, `Task`.
    """

    notes: tuple[str, ...] = ()
    """What was left out when it was read, for the result's warnings."""

    def __init__(self, folder: Path, spec: S) -> None:
        self.folder, self.spec = folder, spec
        self.sha256 = digest(folder)

    @property
    def name(self) -> str:
        return self.spec.name

    def words(self, file: str) -> tuple[str, ...]:
        """Lines of a word list, in order, without blanks, comments and repeats.

        Raises:
            TaskError: if the file is missing or empty.
        """
        lines = [line.strip() for line in self._read(file).splitlines()]
        found = tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
        if not found:
            raise TaskError(f"{self.folder / file} holds no words. Expected one a line.")
        return found

    def rows(self, file: str) -> list[dict[str, str]]:
        """Rows of a CSV table."""
        return list(csv.DictReader(self._read(file).splitlines()))

    def _read(self, file: str) -> str:
        path = self.folder / file
        # a spec may name files of its own folder and nothing else
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise TaskError(f"{self.folder / 'task.toml'} names {file!r}, outside its own folder.")
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise TaskError(
                f"Task {self.name!r} names the file {file!r}, which cannot be read as text"
                f" ({type(error).__name__}). Expected it in {self.folder}."
            ) from error


def digest(folder: Path) -> str:
    """SHA-256 of a task folder's files, names and bytes, in order of name."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        # cards may be corrected without making every stored result another task's
        if path.is_file() and path.suffix != ".md" and not relative.name.startswith("."):
            content = path.read_bytes()
            total.update(f"{relative.as_posix()}\0{len(content)}\0".encode())
            total.update(content)
    return total.hexdigest()


def read_task(folder: Path) -> Task[Any]:
    """Reads and validates one task folder.

    Raises:
        TaskError: if `task.toml` is missing, is not TOML, or has a wrong or unknown entry.
    """
    path = folder / "task.toml"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TaskError(
            f"No task at {folder}: it has no readable task.toml. `saebench tasks` lists the"
            " bundled tasks; `--tasks DIR` adds a folder of your own."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TaskError(f"{path} is not valid TOML: {error}.") from error
    kind = values.get("kind")
    if kind not in SPECS:
        raise TaskError(f"{path}: {unknown('kind of task', str(kind), SPECS)} See docs/adding-things.md.")
    try:
        return Task(folder, SPECS[kind].model_validate(values))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "top level"
        raise TaskError(f"{path}: {where}: {first['msg']}. See docs/adding-things.md.") from error


def find_tasks(extra: Sequence[Path] = ()) -> dict[str, Path]:
    """Every task's folder by name: the bundled ones, then those of the given directories.

    Names are paths below the directory, so `synthetic/occlusion` is a folder in a folder. A later
    directory's task replaces a bundled one of the same name.
    """
    found = {}
    for root in (BUNDLED, *extra):
        if not root.is_dir():
            raise TaskError(f"{root} is not a directory. Expected a directory of task folders.")
        for path in sorted(root.rglob("task.toml")):
            found[path.parent.relative_to(root).as_posix()] = path.parent
    return found


def load_task(name: str, extra: Sequence[Path] = ()) -> Task[Any]:
    """The task of that name, or in a folder of that path.

    Raises:
        TaskError: if there is none; the message gives near matches and the full choice.
    """
    known = find_tasks(extra)
    if name not in known and (Path(name) / "task.toml").is_file():
        return read_task(Path(name))
    if name not in known:
        raise TaskError(unknown("task", name, known, "`--tasks DIR` adds a folder of your own."))
    return read_task(known[name])
