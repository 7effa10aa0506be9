"""The verb that audits the scores themselves."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from saebench.errors import ResultError

app = typer.Typer()
_SHOWN = 3
"""What is wrong is said of so many places; the rest is counted."""


@app.command(
    epilog="Example: saebench audit · saebench audit --verify · saebench audit --tables results/audit/before"
)
def audit(
    results: Annotated[Path, typer.Argument(help="The directory of results.")] = Path("results"),
    tables: Annotated[
        Path | None, typer.Option(help="Tables to judge. Default: RESULTS/audit/after.")
    ] = None,
    definitions: Annotated[str | None, typer.Option(help="What to call the definitions.")] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Write nothing; exit 1 if a committed card is not what its tables say, or a table is out of date,"
            " incomplete or not what its results say.",
        ),
    ] = False,
) -> None:
    """Do the scores deserve belief? Judge them by eight lenses; write cards, a page and pictures.

    Reads tables only and needs no model; `make audit` measures them.
    """
    folders = [tables] if tables else _committed(results / "audit", verify)
    wrong = 0
    for folder in folders:
        wrong += _verified(folder, results) if verify else _judged(folder, results, definitions)
    raise typer.Exit(1 if wrong else 0)


def _committed(audit: Path, every: bool) -> list[Path]:
    """The folders of tables with a document beside them; to be judged, the newest definitions alone."""
    found = [audit / name for name in ("before", "after") if (audit / name).is_dir()]
    if not found:
        raise ResultError(
            f"There are no tables of an audit in {str(audit)!r}. Expected {str(audit / 'after')!r}; `make audit`"
            " measures them."
        )
    return found if every else found[-1:]


def _verified(folder: Path, results: Path) -> int:
    from saebench.audit.verifying import verify

    path = folder.parent / f"{folder.name}.json"
    found = verify(path, folder, tolerances(folder, results), results)
    wrong = found.sentences
    if not wrong:
        print(f"{path}: {found.n_cards} cards, all what their tables say")
        return 0
    more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    print(
        f"{path} is not what {folder} says ({len(found.mismatches)} of {found.n_cards} cards):"
        f" {'; '.join(wrong[:_SHOWN])}{more}. Judge the tables again with `saebench audit`; if it is the"
        " tables that are wrong, measure them with `make audit`."
    )
    return len(wrong)


def tolerances(folder: Path, results: Path) -> Path:
    """The gate's tolerances as they were when the tables were made, else as they are."""
    own = folder / "tolerances.toml"
    return own if own.is_file() else results / "tolerances.toml"


def _judged(folder: Path, results: Path, definitions: str | None) -> int:
    from saebench.audit import evidence, figures, judging, report
    from saebench.reporting.progress import progress
    from saebench.reporting.text import console

    found = evidence.load(folder, tolerances(folder, results))
    if not len(found.rows) and not len(found.truth):
        raise ResultError(
            f"There is no table in {str(folder)!r}. Expected *.parquet or truth.csv of `make audit`."
        )
    with progress(len(judging.LENSES), "audit") as steps:
        audited = judging.judge(
            found, definitions or found.about.get("definitions", folder.name), steps.begin
        )
    stem = folder.parent / folder.name
    page = report.markdown(audited, found.about.get("tables", {}))
    judging.write(audited, stem.with_suffix(".json"), [(stem.with_suffix(".md"), page)])
    for table in report.tables(audited):
        console().print(table, "")
    for path in (
        stem.with_suffix(".json"),
        stem.with_suffix(".md"),
        *figures.draw(audited, found, folder.parent, folder.name),
    ):
        print(path, file=sys.stderr)
    return 0
