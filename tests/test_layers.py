"""Imports only go down, lazy ones included, and the reporting side never needs torch."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from paths import ROOT

PACKAGE = ROOT / "saebench"


def imports(path: Path, modules: set[str]) -> set[str]:
    """Modules of the package that a file imports anywhere, lazily too; not for types alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("saebench"):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & modules) or {node.module}
    return found


def graph() -> dict[str, set[str]]:
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {n: imports(p, set(names)) - {n} for n, p in names.items() if n != "saebench"}


def circle(arrows: dict[str, set[str]]) -> list[str]:
    try:
        list(TopologicalSorter(arrows).static_order())
    except CycleError as error:
        return error.args[1]
    return []


def test_no_circle_of_files():
    assert not circle(graph())


def test_no_circle_of_packages():
    packages: dict[str, set[str]] = {}
    for name, others in graph().items():
        here = name.split(".")[1]
        packages.setdefault(here, set()).update(o.split(".")[1] for o in others if "." in o)
        packages[here].discard(here)
    assert not circle(packages)


@pytest.mark.parametrize(
    "module",
    [
        "cli",
        "scoring",
        "regression.compare",
        "reporting.verdict",
        "reporting.leaderboard",
        "reporting.terminal",
        "records.store",
        "spec",
    ],
)
def test_the_reporting_side_needs_no_torch(module: str):
    code = f"import sys, saebench.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_only_patching_registers_hooks():
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] not in ("patching", "studies"):
            text = path.read_text(encoding="utf-8")
            assert "run_with_hooks" not in text and "register_forward" not in text, path
