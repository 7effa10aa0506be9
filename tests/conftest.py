"""What several test modules share."""

import os
import tempfile
from pathlib import Path
from unittest.mock import patch

# no test may reach a hub; set before any library reads it
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# tests run side by side: one thread each, set before numpy and torch start theirs
os.environ.setdefault("OMP_NUM_THREADS", "1")
# what is remembered of files on this machine is none of the tests' business
os.environ["SAEBENCH_CACHE"] = tempfile.mkdtemp(prefix="saebench-cache-")
# a test is to see what it is about computed; those of the cache say a size
os.environ["SAEBENCH_CACHE_SIZE"] = "0"

import typechecker

# shapes in signatures are checked in the tests, and cost nothing elsewhere
typechecker.install("saebench")

import pytest  # noqa: E402
from paths import ROOT  # noqa: E402

SLOW_SECONDS = 3600
"""A limit is to end a test that hangs: 300 seconds did that to a search of minutes on a machine that was busy."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is marked slow has an hour, what is not the limit of pyproject.toml."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """Models that nobody on this project made; tests that need them skip where they are absent."""
    directory = ROOT.parent / "shared" / "models"
    if not directory.is_dir():
        pytest.skip("no ../shared/models beside this checkout")
    return directory


@pytest.fixture
def few_steps(monkeypatch):
    """Masks and rotations learned in two steps: whether a run comes to its end, not how well it does."""
    from saebench.edits import das, masks

    original = das.train

    def short(parameters, edit, pairs, split, steps, *rest):
        return original(parameters, edit, pairs, split, 2, *rest)

    for module in (das, masks):
        monkeypatch.setattr(module, "train", short)


@pytest.fixture(scope="module")
def few_prompts():
    """IOI with a third of the prompts of `tiny`: for what asks how things are run, not how well."""
    from saebench.kinds.names.sections import SIZES, Size

    few = Size(names=12, fit=12, select=4, test=4, probe=12)
    with patch.dict(SIZES.named, {"tiny": few}):
        yield
