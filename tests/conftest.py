"""What several test modules share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """Models that nobody on this project made; tests that need them skip where they are absent."""
    directory = Path(__file__).parents[1].parent / "shared" / "models"
    if not directory.is_dir():
        pytest.skip("no ../shared/models beside this checkout")
    return directory
