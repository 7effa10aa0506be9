"""Where the repository is, whatever folder a test lies in."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
DEMO = ROOT / "saebench" / "demo"
BUNDLED = DEMO / "bundled"
