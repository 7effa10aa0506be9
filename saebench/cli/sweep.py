"""Verbs for many dictionaries, and for what is kept between runs. Nothing here imports torch."""

from pathlib import Path
from typing import Annotated, Any

import typer

from saebench.cli.shared import with_unsaid_options
from saebench.errors import OptionError

app = typer.Typer()

EXAMPLE = (
    "Example: saebench sweep sweep.toml --workers 4 · saebench sweep 'runs/*/step_*' control:all --task ioi,ravel"
    " --seeds 0,1,2 --dry-run · saebench sweep sweep.toml --shard 3/64 --out shard-3"
)


@app.command(epilog=EXAMPLE)
@with_unsaid_options
def sweep(
    saes: Annotated[
        list[str], typer.Argument(help="A sweep.toml, or dictionaries as for evaluate; globs of paths too.")
    ],
    task: Annotated[
        str | None, typer.Option(help="Tasks, by commas. Default: the SAE's own, or ioi.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="A name (`saebench models`), a GGUF file, a directory.")
    ] = "demo",
    site: Annotated[
        str | None, typer.Option(help="HOOK@POSITION, several by commas, or 'all'. Default: the SAE's own.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, by commas. Default: --seed.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory for results. Default: saebench-results.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the plan.")] = False,
    workers: Annotated[
        str, typer.Option(help="Processes on this machine: a number, or 'auto': one per GPU.")
    ] = "0",
    ray: Annotated[str | None, typer.Option(help="A Ray cluster: auto, or its address.")] = None,
    shard: Annotated[str | None, typer.Option(help="Only part i/n of the sweep, for job queues.")] = None,
    until_ci: Annotated[
        str | None,
        typer.Option(
            help="As many prompts as make intervals of headlines that narrow: 0.05, or 0.05:control."
        ),
    ] = None,
    keep_best: Annotated[
        str | None,
        typer.Option(help="A tournament: who is credibly not among the best K is dropped: 5, or 5:control."),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what failed.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Score again what is already scored.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    **options: Any,
) -> None:
    """Score many dictionaries on many tasks, sites and seeds; goes on where it stopped.

    A TOML file says what: saes, task, seeds, site, model, out, and options of evaluate; each table `part`
    in it says what differs. Units that fail are listed at the end, exit code 1.
    """
    from saebench.sweep import console

    given: dict[str, Any] = {**options, "model": model, "out": out, "force": force or None}
    given |= {"task": task.split(",") if task else None, "site": site.split(",") if site else None}
    given["seeds"] = _numbers(seeds) if seeds else given.pop("seed")
    given.pop("seed", None)
    given = {name: value for name, value in given.items() if value is not None}
    wanted = console.Wanted(
        tuple(saes), given, dry_run, workers, ray, shard, retry_failed, debug, until_ci, keep_best
    )
    raise typer.Exit(console.sweep(wanted))


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise OptionError(f"Cannot read the seeds {text!r}. Expected numbers by commas, for example 0,1,2.")
    return [int(part) for part in parts]
