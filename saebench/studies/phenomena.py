"""Curves of what goes wrong, and when: `python -m saebench.studies.phenomena [CURVE…]`.

Each curve changes one parameter of a family, trains SAEs at every point and reads one phenomenon.
Rows are written to `<out>/<curve>.csv`, figures to `<out>/<curve>.png`. Where architectures are
compared, intervals are over seeds: one SAE supports a statement about itself alone.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from saebench.studies.curves import CURVES
from saebench.studies.figures import draw
from saebench.studies.rows import write
from saebench.studies.seeds import paired


def make(name: str, out: Path) -> None:
    """Trains one curve's SAEs; writes its table, and draws it."""
    rows = []
    for row in CURVES[name]():
        rows.append(row)
        print(name, row, file=sys.stderr, flush=True)
    write(rows, out / f"{name}.csv")
    if name == "absorption":
        found = pd.DataFrame([row for row in rows if row["start"] == "random"])
        differences = paired(found, "child_given_parent", name, "matryoshka")
        write(list(differences), out / "absorption_paired.csv")
    draw(name, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("curves", nargs="*", help=f"of {', '.join(CURVES)}; default: all")
    parser.add_argument("--out", type=Path, default=Path("results") / "synthetic")
    parser.add_argument("--figures", action="store_true", help="only draw what has been measured")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for name in asked.curves or CURVES:
        if asked.figures:
            draw(name, asked.out)
        else:
            make(name, asked.out)


if __name__ == "__main__":
    main()
