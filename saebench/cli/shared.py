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
    signature = inspect.signature(verb)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    own = [p.replace(kind=p.KEYWORD_ONLY) for p in own]
    further = [p.replace(default=p.default or None) if p.default == () else p for p in parameters(_annotate)]
    verb.__signature__ = signature.replace(parameters=own + further)  # pyright: ignore[reportFunctionMemberAccess]
    return verb


def _annotate(kind: Any, help: str) -> Any:
    """How an option of that type is typed: flags, repeated paths, names by commas, or one value."""
    if kind == tuple[Path, ...]:
        kind = list[Path] | None
    elif kind == tuple[str, ...]:
        kind = str | None
    return Annotated[kind, typer.Option(help=help)]
