"""Imports only go down, lazy ones included, and the reporting side never needs torch."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter

from paths import ROOT

PACKAGE = ROOT / "saebench"
PATHS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
REPORTING_SIDE = {"cli", "errors", "records", "regression", "reporting", "scoring", "site", "spec"}


def imports(name: str) -> set[str]:
    """Modules of the package that a module imports anywhere, lazily and for types too."""
    nodes = [n for n in ast.walk(ast.parse(PATHS[name].read_text("utf-8"))) if isinstance(n, ast.ImportFrom)]
    pairs = [(str(node.module), alias.name) for node in nodes for alias in node.names]
    # `from a.b import c` is of the module a.b.c where there is one
    targets = {f"{module}.{part}" if f"{module}.{part}" in PATHS else module for module, part in pairs}
    return targets & PATHS.keys() - {name, "saebench"}


GRAPH = {name: imports(name) for name in PATHS if name not in ("saebench", "saebench.__main__")}


def test_no_circle_of_files():
    TopologicalSorter(GRAPH).prepare()


def test_packages_stand_on_at_most_nine_floors():
    rooms = {name.split(".")[1]: set() for name in GRAPH}
    for name, others in GRAPH.items():
        rooms[name.split(".")[1]] |= {o.split(".")[1] for o in others} - {name.split(".")[1]}
    floors = {}
    # raises where packages go in a circle
    for room in TopologicalSorter(rooms).static_order():
        floors[room] = 1 + max((floors[below] for below in rooms[room]), default=0)
    assert max(floors.values()) <= 9, floors


def test_at_most_eight_modules_lie_flat():
    assert len(list(PACKAGE.glob("*.py"))) <= 8


def test_the_reporting_side_needs_no_torch():
    names = [name for name in GRAPH if name.split(".")[1] in REPORTING_SIDE]
    code = f"import sys, {', '.join(names)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_only_patching_registers_hooks():
    for name, path in PATHS.items():
        if name.split(".")[1:2] not in (["patching"], ["studies"]):
            text = path.read_text("utf-8")
            assert "run_with_hooks" not in text and "register_forward" not in text, name
