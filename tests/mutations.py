"""Single-line mutations of axes, dictionaries, scoring and readout; each must make a test fail.

    python tests/mutations.py            # all of them, about half an hour on one core
    python tests/mutations.py greedy     # those whose name contains a word

They stand in `mutations.toml`. Each is applied to a copy of the tree, and the tests named beside it, which
pass there without it, are run. Exit code 1 if a mutant survives.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Mutation(NamedTuple):
    """A line to break, and the tests that must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTATIONS = tuple(
    Mutation(**entry)
    for entry in tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))["mutation"]
)


def passes(tree: Path, tests: str) -> bool:
    """Whether tests pass in a copy of the tree.

    Raises:
        SystemExit: if they could not be run: that catches nothing.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--timeout", "0"]
    command += [f"tests/{name}" for name in tests.split()]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{tests} could not be run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def survives(mutation: Mutation, tree: Path) -> bool:
    """Whether the tests named beside a mutation pass although it is applied."""
    path = tree / "saebench" / mutation.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutation.old) != 1:
        raise SystemExit(f"{mutation.name}: {mutation.file} has {text.count(mutation.old)} such lines")
    path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        return passes(tree, mutation.tests)
    finally:
        path.write_text(text, encoding="utf-8")


def copied(folder: Path) -> Path:
    """The tree to break: code and tests are copied, what they only read is linked."""
    tree = folder / "project"
    for name in ("saebench", "tests"):
        shutil.copytree(ROOT / name, tree / name)
    for name in ("tasks", "results", "docs", "benchmarks", "README.md", "Makefile", "pyproject.toml"):
        (tree / name).symlink_to(ROOT / name)
    return tree


def main() -> int:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    alive, sound = 0, set[str]()
    with tempfile.TemporaryDirectory() as folder:
        tree = copied(Path(folder))
        for mutation in MUTATIONS:
            if word not in mutation.name:
                continue
            if mutation.tests not in sound and not passes(tree, mutation.tests):
                raise SystemExit(f"{mutation.tests} fails without any mutation")
            sound.add(mutation.tests)
            survived = survives(mutation, tree)
            alive += survived
            print(f"{'SURVIVED' if survived else 'caught  '}  {mutation.name}", flush=True)
    print(f"{alive} survived")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
