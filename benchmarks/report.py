"""Tables of figures, as JSON and as Markdown."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Table:
    """One benchmark: rows of named figures, and the few numbers that sum them up."""

    name: str
    title: str
    note: str
    rows: list[dict[str, Any]]
    summary: dict[str, float] = field(default_factory=dict)


def write(directory: Path, stem: str, machine: dict[str, Any], tables: list[Table]) -> Path:
    """Writes `<stem>.json` and `<stem>.md`; tables measured earlier and not now are kept."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{stem}.json"
    old = json.loads(path.read_text())["tables"] if path.is_file() else {}
    new = {table.name: {**asdict(table), "machine": machine} for table in tables}
    kept = {**old, **new}
    path.write_text(json.dumps({"schema": 1, "tables": kept}, indent=1, allow_nan=False) + "\n")
    path.with_suffix(".md").write_text(markdown(stem, kept))
    return path


def markdown(stem: str, tables: dict[str, dict[str, Any]]) -> str:
    parts = [f"# Benchmarks on {stem}\n"]
    for table in tables.values():
        machine, rows = table["machine"], table["rows"]
        load = " / ".join(str(figure) for figure in machine["load_average"])
        columns = list(rows[0])
        parts += [
            f"## {table['title']}\n",
            f"{table['note']}\n",
            "| " + " | ".join(columns) + " |",
            "|" + "---|" * len(columns),
            *("| " + " | ".join(_show(row.get(c)) for c in columns) + " |" for row in rows),
            "",
            *(f"- {name}: **{_show(value)}**" for name, value in table["summary"].items()),
            "",
            f"{machine['device']}, {machine['threads']} threads of {machine['cores']} cores,"
            f" torch {machine['torch']}, load average {load} before the run.\n",
        ]
    return "\n".join(parts)


def _show(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        small, large = 0 < abs(value) < 1e-3, abs(value) >= 100
        return f"{value:.1e}" if small else f"{value:,.0f}" if large else f"{value:.3g}"
    return str(value)
