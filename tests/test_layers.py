"""Imports only go down, lazy ones included, and the reporting side never needs torch."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter

from paths import ROOT

REPORTING_SIDE = {"cli", "errors", "records", "regression", "reporting", "scoring", "site", "spec"}
PATHS = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in ROOT.glob("saebench/**/*.py")}
PATHS = {name.removesuffix(".__init__"): path for name, path in PATHS.items()}
IMPORT = ast.Import | ast.ImportFrom


def imports(name: str) -> set[str]:
    """Modules of the package that a module imports anywhere, lazily and for types too."""
    nodes = [n for n in ast.walk(ast.parse(PATHS[name].read_text("utf-8"))) if isinstance(n, IMPORT)]
    pairs = [(getattr(node, "module", "saebench"), alias.name) for node in nodes for alias in node.names]
    # `from a.b import c` is of the module a.b.c where there is one, `import a.b` of a.b
    targets = {next((n for n in (f"{above}.{part}", part) if n in PATHS), above) for above, part in pairs}
    return targets & PATHS.keys() - {name, "saebench"}


GRAPH = {name: imports(name) for name in PATHS if name not in ("saebench", "saebench.__main__")}


def test_no_circles_nine_floors_and_eight_flat_modules():
    TopologicalSorter(GRAPH).prepare()
    rooms = {name.split(".")[1]: set[str]() for name in GRAPH}
    for name, others in GRAPH.items():
        rooms[name.split(".")[1]] |= {other.split(".")[1] for other in others} - {name.split(".")[1]}
    floors: dict[str, int] = {}
    for room in TopologicalSorter(rooms).static_order():
        floors[room] = 1 + max((floors[below] for below in rooms[room]), default=0)
    assert max(floors.values()) <= 9 and len(list(ROOT.glob("saebench/*.py"))) <= 8, floors


def test_the_reporting_side_needs_no_torch():
    names = [name for name in GRAPH if name.split(".")[1] in REPORTING_SIDE]
    code = f"import sys, {', '.join(names)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
