"""Verbs that read results or checkpoints: one library call each."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from saebench.cli.shared import DEFAULT_OUT
from saebench.errors import ResultError

app = typer.Typer()


@app.command(epilog="Example: saebench leaderboard results/ --check")
def leaderboard(
    results: Annotated[Path, typer.Argument(help="A directory of results.")] = DEFAULT_OUT,
    out: Annotated[Path | None, typer.Option(help="Where to write. Default: RESULTS/leaderboard.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if anything would change.")
    ] = False,
) -> None:
    """Write the leaderboard: Markdown, CSV, figures and one self-contained web page."""
    from saebench.records import failures
    from saebench.reporting import leaderboard as board

    if check:
        stale = board.check(results, out)
        for path in stale:
            print(f"stale: {path}")
        print(f"{len(stale)} files differ" if stale else "the leaderboard is up to date")
        raise typer.Exit(1 if stale else 0)
    for path in board.build(results, out):
        print(path)
    failed = len(failures.find(results))
    if failed:
        print(f"{failed} units failed and are left out (`saebench results list` names them)", file=sys.stderr)


@app.command(epilog="Example: saebench figures saebench-results --out figures")
def figures(
    results: Annotated[Path, typer.Argument(help="A directory of results.")] = DEFAULT_OUT,
    out: Annotated[Path | None, typer.Option(help="Where to write. Default: RESULTS/figures.")] = None,
) -> None:
    """Draw the axes over training, cause against isolate, aware edits by size, and disentangle by layer (PNG)."""
    from saebench.records import store
    from saebench.reporting import disentangle_figures as disentangling_figures
    from saebench.reporting import training_figures

    store.require_directory(results)
    found = [store.load(path).result for path in store.find(results)]
    folder = out or results / "figures"
    written = training_figures.write(found, folder)
    try:
        written += disentangling_figures.write(found, folder)
    except ResultError as error:
        if not written:
            raise ResultError(
                f"{error} Curves over training need at least {training_figures.LEAST} results of one run's"
                " snapshots, named like k8/step_1000."
            ) from error
    for path in written:
        print(path)


@app.command(epilog="Example: saebench disentangle results")
def disentangle(
    results: Annotated[Path, typer.Argument(help="A directory of results.")] = DEFAULT_OUT,
) -> None:
    """Tables of cause and isolate by method, with paired differences, from results of RAVEL."""
    from saebench.records import store
    from saebench.reporting import disentangle as disentangling
    from saebench.reporting.text import console

    store.require_directory(results)
    found = list(disentangling.tables(store.load(path).result for path in store.find(results)))
    if not found:
        raise ResultError(
            f"No result in {results} holds cause and isolate. Expected some of `saebench evaluate …"
            " --task ravel`."
        )
    for table in found:
        console().print(table, "")


@app.command(
    epilog="Example: saebench regress new.json --baseline results/demo/…/ioi--1a2b3c4d.json --junit out.xml"
)
def regress(
    candidate: Annotated[
        list[Path], typer.Argument(help="Results of the candidate; several are seeds of one.")
    ],
    baseline: Annotated[list[Path], typer.Option(help="Results of the baseline; repeat for several seeds.")],
    tolerances: Annotated[
        Path | None, typer.Option(help="A tolerances.toml: how much worse a score may be.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Also write the verdict as JUnit XML.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Also write it as Markdown, for a pull request.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Also write it as JSON.")] = None,
) -> None:
    """Is the candidate credibly worse than the baseline? Exit 0: no; 1: yes; 2: cannot be compared."""
    from saebench.records.files import write_text
    from saebench.regression import compare as regression
    from saebench.reporting import verdict
    from saebench.reporting.text import console

    found = regression.regress(candidate, baseline, tolerances)
    written = {junit: verdict.render_junit, markdown: verdict.render_markdown, json: verdict.render_json}
    for path, render in written.items():
        if path is not None:
            write_text(path, render(found))
    console().print(verdict.render_terminal(found))
    raise typer.Exit(1 if found.comparison.failures else 0)


results_app = typer.Typer(no_args_is_help=True, help="List, verify or merge directories of results.")
app.add_typer(results_app, name="results")


@results_app.command("list", epilog="Example: saebench results list results/")
def list_results(
    results: Annotated[Path, typer.Argument(help="A directory of results.")] = DEFAULT_OUT,
) -> None:
    """One line a result: id, task, site, dictionary, path; then the units that failed."""
    from saebench.records import failures, store
    from saebench.sweep import stages, tournament

    store.require_directory(results)
    dropped = dict(
        mark for found in stages.documents(results, "keep-best") for mark in tournament.marks(found)
    )
    for path in store.find(results):
        result = store.load(path).result
        mark = f"  ({dropped[result.id]})" if result.id in dropped else ""
        print(
            f"{result.id[:8]}  {result.task.name:24} {result.site:32} {result.dictionary.name:28} {path}{mark}"
        )
    for failure in failures.read(results).values():
        print(f"failed    {failure.line}")


@results_app.command(epilog="Example: saebench results verify results/")
def verify(
    results: Annotated[Path, typer.Argument(help="A directory of results.")] = DEFAULT_OUT,
    clean: Annotated[bool, typer.Option("--clean", help="Remove what killed writers left behind.")] = False,
) -> None:
    """Find damaged, orphaned and mismatched files. Exit 1 if there are any."""
    from saebench.records import failures, store

    store.require_directory(results)
    problems = store.verify(results, clean)
    for problem in problems:
        print(f"{problem.kind}: {problem.path}: {problem.what}")
    damaged = sum(problem.kind == "damage" for problem in problems)
    left, failed = len(problems) - damaged, len(failures.find(results))
    print(f"{len(store.find(results))} results, {damaged} damaged, {left} leftovers, {failed} units failed")
    raise typer.Exit(1 if damaged else 0)


@results_app.command(epilog="Example: saebench results merge worker-3/results results")
def merge(
    source: Annotated[Path, typer.Argument(help="A directory of results.")],
    destination: Annotated[Path, typer.Argument(help="The directory they are copied into.")],
) -> None:
    """Copy results that the destination does not have yet."""
    from saebench.records import store

    merged = store.merge(source, destination)
    for problem in merged.refused:
        print(f"not copied: {problem.path}: {problem.what}")
    for failure in merged.failed:
        print(f"failed: {failure.line}")
    print(f"{len(merged.copied)} copied, {len(merged.present)} were there already")
    raise typer.Exit(1 if merged.refused else 0)


@results_app.command("export", epilog="Example: saebench results export results/ --export csv --out exported")
def export_results(
    results: Annotated[
        Path, typer.Argument(help="A directory of results, or one result file.")
    ] = DEFAULT_OUT,
    export: Annotated[str, typer.Option(help="sae-bench (SAEBench's JSON keys), csv or parquet.")] = "csv",
    out: Annotated[Path | None, typer.Option(help="Where to write. Default: RESULTS/exported.")] = None,
) -> None:
    """Write results as SAEBench's JSON layout, or every score of all of them as one table."""
    from saebench.records import store
    from saebench.reporting import exports

    paths = [results] if results.is_file() else store.find(results)
    if not paths:
        raise ResultError(
            f"There is no result below {str(results)!r}. Expected a directory that `saebench"
            " evaluate` wrote into, or one of its .json files."
        )
    beside = results.parent if results.is_file() else results
    found = [store.load(path).result for path in paths]
    for path in exports.write(found, export, out or beside / "exported"):
        print(path)


@app.command(epilog="Example: saebench inspect path/to/sae --model demo")
def inspect(
    path: Annotated[str, typer.Argument(help="A path or name, as for evaluate.")],
    model: Annotated[
        str | None, typer.Option(help="Measure L0, dead latents and error on this model.")
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(help="Architecture of a weights file that does not say.")
    ] = None,
) -> None:
    """What a checkpoint is, and what is wrong with it."""
    from saebench.checkpoints import inspection
    from saebench.models.loading import load_model

    wanted = model or ("demo" if path.startswith("demo:") else None)
    loaded = load_model(wanted) if wanted else None
    print(inspection.inspect(path, model=loaded, architecture=architecture).text())


@app.command(epilog="Example: saebench formats")
def formats() -> None:
    """List the checkpoint formats that can be read."""
    from saebench import checkpoints

    for name, description in checkpoints.formats():
        print(f"{name:22} {description}")
