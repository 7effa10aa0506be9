"""Imports only go down, and the reporting side never needs torch (ARCHITECTURE)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "saebench"
# the first word of a module's name below `saebench.` → its layer; a module imports its own or lower
LAYERS = {
    0: "errors site result",
    1: "files interchange stats outcomes outcomes_table spec options store cross_section tolerances provenance",
    2: "scoring dictionaries codes measures edits model model_loading report recovery_table catalogue diagnostics"
    " exact disentangling disentangling_figures",
    3: "patching training differences regression verdict leaderboard exports",
    4: "kinds checkpoints synthetic axes masks demo",
    5: "contestants inspection caveats arena evaluation",
    6: "batch synthetic/baselines",
    7: "cli cli_results",
}
LAYER = {name: layer for layer, names in LAYERS.items() for name in names.split()}


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports at its top level."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("saebench"):
            parts = (node.module or "").split(".")
            names = [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
            found |= {name for name in names if name in LAYER}
    return found


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_only_go_down(path: Path):
    relative = path.relative_to(PACKAGE)
    name = relative.parts[0].removesuffix(".py")
    # a script that drives whole evaluations may stand beside what it drives
    name = (
        relative.with_suffix("").as_posix()
        if relative.with_suffix("").as_posix() in LAYER
        else name
    )
    if name in ("__init__", "__main__"):
        return
    assert name in LAYER, f"{name} has no layer: add it to LAYERS"
    upward = {other for other in imports(path) if LAYER[other] > LAYER[name]}
    assert not upward, f"{name} (layer {LAYER[name]}) imports {upward}"


@pytest.mark.parametrize(
    "module", ["cli", "scoring", "regression", "verdict", "leaderboard", "store", "report", "spec"]
)
def test_the_reporting_side_needs_no_torch(module: str):
    code = f"import sys, saebench.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_only_patching_registers_hooks():
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] not in ("patching", "demo"):
            text = path.read_text(encoding="utf-8")
            assert "run_with_hooks" not in text and "register_forward" not in text, path
