"""The leaderboard: Markdown, CSV, figures and one self-contained page, from a results directory."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saebench.errors import StoreError
from saebench.records import store
from saebench.records.files import safe_name
from saebench.reporting.leaderboard.boards import Table, collect
from saebench.reporting.leaderboard.figures import draw
from saebench.reporting.leaderboard.page import render_page
from saebench.reporting.leaderboard.tables import render_csv, render_markdown

__all__ = ["build", "check", "default_out"]


def default_out(results_dir: Path) -> Path:
    """Where the leaderboard of a results directory stands unless the user says otherwise."""
    return Path(results_dir) / "leaderboard"


def build(results_dir: Path, out_dir: Path | None = None) -> list[Path]:
    """Writes the leaderboard of all results below a directory; the same results, the same bytes.

    Returns the files written: `leaderboard.md`, `leaderboard.csv`, `index.html`, `figures/…`.

    Raises:
        StoreError: if there is no such directory, or the output cannot be written.
        ResultError: if a result file is damaged.
    """
    out = Path(out_dir or default_out(results_dir))
    files = _contents(Path(results_dir), out)
    try:
        for name, data in files.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(data)
    except OSError as error:
        raise StoreError(
            f"Cannot write the leaderboard under {str(out)!r}: {error.strerror or error}. Choose a"
            " directory that can be written, with --out DIR."
        ) from error
    return [out / name for name in files]


def check(results_dir: Path, out_dir: Path | None = None) -> list[Path]:
    """The files that `build` would change. Figures need only exist: fonts differ between machines.

    Raises:
        StoreError, ResultError: as `build`.
    """
    out = Path(out_dir or default_out(results_dir))
    stale = []
    for name, data in _contents(Path(results_dir), out).items():
        file = out / name
        if not file.is_file() or (not name.startswith("figures/") and file.read_bytes() != data):
            stale.append(file)
    return stale


def _contents(results_dir: Path, out: Path) -> dict[str, bytes]:
    store.require_directory(results_dir)
    with _no_garbage_collection():
        return _render(results_dir, out)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Hundreds of thousands of scores are made and all are kept: looking for garbage among them
    again and again takes as long as reading them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _render(results_dir: Path, out: Path) -> dict[str, bytes]:
    found = collect(results_dir, out)
    figures = {
        f"figures/{name}-{end}": data
        for name, table in _figure_names(found.tables)
        for end, data in draw(table).items()
    }
    return {
        "leaderboard.md": render_markdown(found.tables).encode(),
        "leaderboard.csv": render_csv(found.tables).encode(),
        "index.html": render_page(found, list(figures)).encode(),
        **figures,
    }


def _figure_names(tables: list[Table]) -> list[tuple[str, Table]]:
    """A file name for each board, numbered where a task has several."""
    names: dict[str, int] = {}
    out = []
    for table in tables:
        name = safe_name(table.board.task)
        names[name] = names.get(name, 0) + 1
        out.append((name if names[name] == 1 else f"{name}-{names[name]}", table))
    return out
