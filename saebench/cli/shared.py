"""What verbs share."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from saebench.errors import SaebenchError
from saebench.evaluation.options import parameters

DEFAULT_OUT = Path("saebench-results")


def complain(error: SaebenchError, debug: bool = False) -> None:
    """One paragraph on stderr; with --debug the traceback before it."""
    if debug:
        import traceback

        traceback.print_exception(error)
    print(f"saebench: {error}", file=sys.stderr)


def with_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Gives a verb one command-line option for every field of `Options`; they arrive as keywords."""
    return _with(
        verb, [p.replace(default=p.default or None) if p.default == () else p for p in parameters(_annotate)]
    )


def with_unsaid_options(verb: Callable[..., None]) -> Callable[..., None]:
    """As `with_options`, for a verb that reads a file too: what was not typed arrives as None."""
    return _with(verb, [p.replace(default=None) for p in parameters(_annotate_unsaid)])


def _with(verb: Callable[..., None], further: list[inspect.Parameter]) -> Callable[..., None]:
    signature = inspect.signature(verb)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    own = [p.replace(kind=p.KEYWORD_ONLY) for p in own]
    vars(verb)["__signature__"] = signature.replace(parameters=own + further)
    return verb


def _annotate(kind: Any, help: str) -> Any:
    """How an option of that type is typed: flags, repeated paths, names by commas, or one value."""
    if kind == tuple[Path, ...]:
        kind = list[Path] | None
    elif kind == tuple[str, ...]:
        kind = str | None
    return Annotated[kind, typer.Option(help=help)]


def _annotate_unsaid(kind: Any, help: str) -> Any:
    """The same, where None stands for what was not typed."""
    if kind is bool:
        return Annotated[bool | None, typer.Option(help=help)]
    return _annotate(kind | None if kind in (str, int) else kind, help)
