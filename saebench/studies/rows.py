"""Small CSV tables of results."""

import csv
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def write(rows: list[Row], path: Path) -> None:
    """Rows as CSV, columns in order of first use; whoever stops this finds the old file or the new."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    part = path.with_name(f"{path.name}.part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )
    part.replace(path)


def read(path: Path) -> list[Row]:
    """Rows as text; none where there is no file."""
    if not path.exists():
        return []
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
