"""The verb that shows and empties the cache. Nothing here imports torch."""

from typing import Annotated

import typer

from saebench.errors import OptionError

app = typer.Typer()
cache_app = typer.Typer(
    no_args_is_help=True, help="What is kept on this machine between runs: show it, empty it."
)
app.add_typer(cache_app, name="cache")


@cache_app.command(epilog="Example: saebench cache info")
def info() -> None:
    """Where the cache is, what it holds, and how large it may grow (SAEBENCH_CACHE_SIZE)."""
    from saebench.cache import cache_folder, shelf

    print(f"{cache_folder('')}: tensors may take {shelf.limit() / 2**30:.1f} GB (SAEBENCH_CACHE_SIZE)")
    for kept in shelf.info():
        print(f"  {kept.kind:24} {kept.entries:7,} files {kept.bytes / 2**20:10,.1f} MB")


@cache_app.command(epilog="Example: saebench cache clear · saebench cache clear masks runs")
def clear(
    kinds: Annotated[
        list[str] | None,
        typer.Argument(help="activations, runs, das, masks, controls. Default: all of these."),
    ] = None,
) -> None:
    """Remove tensors that can be computed again. Models that were fetched stay."""
    from saebench.cache import shelf

    known = {kept.kind.rpartition("/")[2] for kept in shelf.info() if kept.kind.startswith(shelf.FOLDER)}
    for kind in kinds or []:
        if kind not in known:
            raise OptionError(
                f"The cache holds no {kind!r}. Expected one of {', '.join(sorted(known)) or 'none'}."
            )
    print(f"{shelf.clear(kinds or ()) / 2**20:,.1f} MB freed")
