"""The verb that draws a paper's figures from results. Nothing here imports torch."""

from pathlib import Path
from typing import Annotated

import typer

from saebench.errors import choice

app = typer.Typer()


@app.command(epilog="Example: saebench paper makelov results/demo results/makelov --out figures")
def paper(
    name: Annotated[str, typer.Argument(help="makelov: arXiv 2405.08366.")],
    results: Annotated[list[Path], typer.Argument(help="Result files, directories of them, and tables.")],
    out: Annotated[Path, typer.Option(help="Directory for the figures.")] = Path("saebench-results/paper"),
) -> None:
    """Draw a paper's figures from what was scored; docs/makelov.md says which, and what is not drawn."""
    choice("paper", name, ("makelov",))
    from saebench.records import store
    from saebench.records.files import write_all
    from saebench.reporting import makelov, makelov_tables

    tables = makelov_tables.tables_in(results)
    paths = [path for given in results if given not in tables for path in _files(given)]
    found = [store.load(path).result for path in paths]
    # tables alone are enough; without any there has to be something among the results
    files = makelov.draw(found) if found or not tables else {}
    files |= makelov_tables.draw(tables)
    folder = out.expanduser()
    write_all({folder / file: data for file, data in files.items()}, folder)
    for file in files:
        print(folder / file)


def _files(given: Path) -> list[Path]:
    """A result file, those of a directory of results, or those of one model in one."""
    from saebench.records import store

    if not given.is_dir():
        return [given]
    return store.find(given) or [path for path in store.find(given.parent) if given in path.parents]
