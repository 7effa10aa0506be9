"""Units that could not be scored: a document where their result would stand, `status: "error"` and why.

`<out>/<model>/<dictionary>@<sha8>/<task>--<id8>.error.json`. Whoever reads results does not see them.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from saebench.errors import ResultError
from saebench.records.files import safe_name, write_text
from saebench.records.provenance import identity
from saebench.records.result import SCHEMA

SUFFIX = ".error.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Named(_Frozen):
    """A model or task by name; empty where it was not come to."""

    name: str


class FailedDictionary(Named):
    source: str
    sha256: str | None = None
    """None where the checkpoint could not be read, or its digest depends on the site."""


class Failure(_Frozen):
    """A unit that could not be scored."""

    schema_: Literal["saebench.result/1"] = Field(default=SCHEMA, alias="schema")
    status: Literal["error"] = "error"
    id: str
    """That of the result it would have become, where its digest is known."""
    created: str
    error: str
    """Name of the error's class."""
    reason: str
    """One paragraph: what was seen, what was expected, what to do."""
    traceback: str | None = None
    """For errors that are no fault of the input."""
    dictionary: FailedDictionary
    model: Named
    task: Named
    site: str
    budget: str
    seed: int
    saebench: str
    command: str

    @property
    def line(self) -> str:
        """The failure in one line."""
        where = " ".join(filter(None, (self.task.name, self.site and f"at {self.site}", f"seed {self.seed}")))
        return f"{self.dictionary.name} ({where}): {self.reason.partition('. ')[0][:160].rstrip('.')}"


def failure_id(**parts: object) -> str:
    """The id of a failure whose result would have one that is not known."""
    return identity(failed=True, **parts)


def save(failure: Failure, out: Path) -> Path:
    """Writes a failure, over an older one of the same unit.

    Raises:
        StoreError: if the directory cannot be written.
    """
    text = failure.model_dump_json(by_alias=True, indent=1) + "\n"
    path = _path(failure, out)
    write_text(path, text)
    return path


def _path(failure: Failure, out: Path) -> Path:
    digest = (failure.dictionary.sha256 or "unread")[:8]
    folder = f"{safe_name(failure.dictionary.name)}@{safe_name(digest)}"
    file = f"{safe_name(failure.task.name)}--{safe_name(failure.id[:8])}{SUFFIX}"
    return Path(out) / safe_name(failure.model.name) / folder / file


def find(out: Path) -> list[Path]:
    """Paths of all failures below a directory, sorted."""
    return sorted(p for p in Path(out).glob(f"*/*@*/*--*{SUFFIX}") if not p.name.startswith("."))


def load(path: Path) -> Failure:
    """Reads a failure.

    Raises:
        ResultError: if the file is missing or no failure.
    """
    try:
        return Failure.model_validate_json(Path(path).read_bytes())
    except (OSError, ValidationError) as error:
        raise ResultError(
            f"Cannot read {str(path)!r} as a unit that failed: {str(error).splitlines()[0]}. Delete the file;"
            " the unit is tried again."
        ) from error


def read(out: Path) -> dict[str, Failure]:
    """All failures below a directory by id; one that cannot be read is as good as none."""
    found = {}
    for path in find(out):
        try:
            failure = load(path)
        except ResultError:
            continue
        found[failure.id] = failure
    return found


def forget(id: str, out: Path) -> None:
    """Removes the failure of a unit that has a result now."""
    for path in Path(out).glob(f"*/*@*/*--{safe_name(id[:8])}{SUFFIX}"):
        path.unlink(missing_ok=True)
