"""Options of an evaluation: the one list that Python, the command line and sweeps read.

To add one: a field here, and the place that reads it.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from inspect import Parameter
from pathlib import Path
from typing import Any, get_type_hints

from saebench.errors import OptionError, choice, parse_bytes, unknown
from saebench.models.facts import DTYPES
from saebench.spec import budget_times


def option(default: object, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Options:
    """Everything of an evaluation that is not the dictionary, the task, the model or the site.

    Raises:
        OptionError: for a value that is not among those allowed.
    """

    budget: str = option(
        "quick",
        "How many prompts: tiny (only to see that it runs), quick, standard, full, or 2.5x (times quick).",
    )
    seed: int = option(0, "Seed of prompts, controls and resampling.")
    device: str = option("auto", "cpu, cuda, cuda:1, mps, or auto.")
    dtype: str = option("float32", "float32, or bfloat16 (faster on a GPU, less exact).")
    tasks: tuple[Path, ...] = option((), "Further directories of task folders.")
    ravel_data: str | None = option(None, "Published RAVEL data: a directory, or hij/ravel.")
    ravel_attributes: tuple[str, ...] = option((), "Only these of its attributes, by commas.")
    architecture: str | None = option(None, "Architecture of a weights file that does not say.")
    supervised: str | None = option(None, "Kind of supervised dictionary, mean or mse. Default: mse.")
    parametrization: str = option("independent", "independent, coupled or names.")
    joint_edits: tuple[str, ...] = option(
        (), "Sets of attributes to edit at once too, by commas, e.g. s+pos,io+s+pos (IOI)."
    )
    memory: str | None = option(None, "For patched passes, e.g. 2GB.")
    allow_incompetent: bool = option(False, "Score although the model cannot do the task.")
    force_mismatch: bool = option(False, "Score on data that an SAE was not trained on.")
    strict: bool = option(False, "Refuse an SAE that says it was trained on another model.")

    def __post_init__(self) -> None:
        budget_times(self.budget)
        choice("dtype", self.dtype, DTYPES)
        if self.supervised is not None:
            choice("supervised dictionary", self.supervised, ("mean", "mse"))
        parse_bytes(self.memory)

    @classmethod
    def of(cls, given: dict[str, Any]) -> "Options":
        """Options by name, as people write them: None stands for the default, one path for several,
        names by commas.

        Raises:
            OptionError: for an unknown name, with near matches.
        """
        known = [f.name for f in fields(cls)]
        for name in given:
            if name not in known:
                raise OptionError(unknown("option", name, known))
        values = {name: value for name, value in given.items() if value is not None}
        if "tasks" in values:
            values["tasks"] = tuple(Path(path).expanduser() for path in _several(values["tasks"]))
        if "ravel_data" in values:
            # the hub's copy is a name and has no home
            values["ravel_data"] = os.path.expanduser(values["ravel_data"])
        for name in ("ravel_attributes", "joint_edits"):
            if name in values:
                parts = [each.strip() for part in _several(values[name]) for each in part.split(",")]
                values[name] = tuple(filter(None, parts))
        return cls(**values)

    @property
    def memory_bytes(self) -> int | None:
        return parse_bytes(self.memory)


def _several(value: Any) -> Sequence[Any]:
    return [value] if isinstance(value, str | Path) else value


@dataclass(frozen=True)
class Request:
    """What a command line or a sweep asks for: many names × tasks × sites."""

    saes: tuple[str, ...]
    tasks: tuple[str, ...] = ()
    """Without any: the tasks that the SAEs were trained on, else IOI."""
    model: str = "demo"
    site: str | None = None
    out: Path = Path("saebench-results")
    force: bool = False
    options: Options = field(default_factory=Options)
    names: tuple[str, ...] = ()
    """What the SAEs are called in results, in their order; without any, by where they lie."""
    seeds: tuple[int, ...] = ()
    """Without any: that of the options."""
    beside: tuple[str, ...] = ()
    """Not scored, but in the table: controls stand where these were trained, at their L0s."""
    called: tuple[tuple[str, str], ...] = ()
    """What names of `saes` and `beside` are called in results, where not by their own."""

    def named(self) -> dict[str, str]:
        """The names by what the SAEs are asked for by; empty where none were given.

        Raises:
            OptionError: unless there is one name for each SAE, all different.
        """
        saes = [s for s in dict.fromkeys(self.saes) if not s.startswith("control:")]
        if not self.names:
            return {}
        if len(self.names) != len(saes) or "demo:all" in saes:
            raise OptionError(
                f"{len(self.names)} names for {len(saes)} SAEs. Expected --name once for each, in their order; controls"
                " and demo:all have names of their own."
            )
        for name in self.names:
            if not name.strip() or not name.isprintable() or self.names.count(name) > 1:
                raise OptionError(
                    f"--name {name!r}; expected a name that can be printed, another for each SAE."
                )
        return dict(zip(saes, self.names, strict=True))


def parameters(annotate: Callable[[Any, str], Any] = lambda kind, help: kind) -> Iterator[Parameter]:
    """The options as keyword parameters of a function; `annotate(type, help)` gives their annotation."""
    kinds = get_type_hints(Options)
    for each in fields(Options):
        annotation = annotate(kinds[each.name], each.metadata["help"])
        yield Parameter(each.name, Parameter.KEYWORD_ONLY, default=each.default, annotation=annotation)
