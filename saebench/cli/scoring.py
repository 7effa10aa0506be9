"""Verbs that score: one library call each. Nothing here imports torch before it is needed."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from saebench.cli.shared import DEFAULT_OUT, complain, with_options

app = typer.Typer()

SAEs = Annotated[
    list[str],
    typer.Argument(
        metavar="SAE...",
        help="demo:NAME, demo:all, control:NAME[:ARG], control:all, a path, a map of sites to checkpoints (TOML or"
        " folder), release/sae_id, hf://owner/repo/path",
    ),
]


@app.command(epilog="Example: saebench evaluate demo:all control:all --task ioi --format table")
@with_options
def evaluate(
    saes: SAEs,
    task: Annotated[str | None, typer.Option(help="Tasks, or 'all'. Default: the SAE's own, or ioi.")] = None,
    model: Annotated[
        str, typer.Option(help="A name (`saebench models`), a GGUF file, a directory.")
    ] = "demo",
    site: Annotated[
        str | None,
        typer.Option(
            "--site",
            "--sites",
            help="HOOK@POSITION; 'A & B' edits several together; 'all'; a site list (TOML). Default: the SAE's own, or"
            " what the task lists for the model, else what `discover` finds.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Directory for results.")] = DEFAULT_OUT,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="What an SAE is called in results: once for each, in order."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Score again what is already scored.")] = False,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that score at once, each with a model in memory.")
    ] = 1,
    format: Annotated[str, typer.Option(help="table, or json (JSON Lines).")] = "table",
    export: Annotated[
        str | None, typer.Option(help="Also write OUT/exported: sae-bench, csv or parquet.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    **options: Any,
) -> None:
    """Score dictionaries: SAEs, controls, ceilings. Writes results and prints a table."""
    from saebench.errors import SaebenchError, choice
    from saebench.evaluation.batch import run
    from saebench.evaluation.options import Options, Request
    from saebench.reporting import exports

    choice("format", format, ("table", "json"))
    choice("export", export or "csv", exports.FORMS)
    names = tuple(task.split(",")) if task else ()
    out = out.expanduser()
    request = Request(tuple(saes), names, model, site, out, force, Options.of(options), tuple(name or ()))
    found, wrong = [], []

    def note(error: SaebenchError) -> None:
        wrong.append(error)
        complain(error, debug)

    pool = None
    if workers > 1:
        from saebench.sweep.processes import Processes

        pool = Processes(workers, request.options.device)
    for result in run(request, note, pool):
        found.append(result)
        if result is not None and format == "json":
            print(result.json_line(), flush=True)
    results = [r for r in found if r is not None]
    if results and format == "table":
        from saebench.reporting import terminal
        from saebench.reporting.text import console

        terminal.print_results(results, console())
        print(f"Results: {out}")
    if results and export:
        for path in exports.write(results, export, out / "exported"):
            print(f"Exported: {path}", file=sys.stderr)
    if len(results) < len(found):
        # of one input the paragraph above says all
        if len(found) > 1:
            print(f"saebench: {len(found) - len(results)} of {len(found)} not scored:", file=sys.stderr)
            for error in wrong:
                print(f"  {str(error).partition('. ')[0][:160]}", file=sys.stderr)
        raise typer.Exit(2)


@app.command(
    epilog="Example: saebench show saebench-results/demo/demo=topk@1a2b3c4d/ioi--5e6f7a8b.json --axis control"
)
def show(
    result: Annotated[Path, typer.Argument(help="A result file.")],
    axis: Annotated[str | None, typer.Option(help="Only the scores of this axis.")] = None,
) -> None:
    """Show one result: its axes and every score."""
    from saebench.records import store
    from saebench.reporting import terminal
    from saebench.reporting.text import console

    stored, out = store.load(result).result, console()
    terminal.print_axes(stored, out)
    out.print(terminal.scores_table(stored, axis, out.width))


@app.command(epilog="Example: saebench tasks ioi · saebench tasks check my-tasks/ioi-french")
def tasks(
    name: Annotated[str | None, typer.Argument(help="A task to describe, or 'check'.")] = None,
    folder: Annotated[Path | None, typer.Argument(help="With 'check': the task folder.")] = None,
    extra: Annotated[
        list[Path] | None, typer.Option("--tasks", help="Further directories of task folders.")
    ] = None,
) -> None:
    """List the tasks; describe one; `tasks check DIR` validates a task folder of your own."""
    from saebench.reporting import catalogue

    for line in catalogue.lines(name, folder, tuple(extra or ())):
        print(line)
