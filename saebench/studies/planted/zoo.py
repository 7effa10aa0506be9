"""The zoo: every spec of `specs/` planted, some at once. `make zoo` or `python -m saebench.studies.planted.zoo`.

Models that are there already are kept, and a run that was killed goes on where it stopped.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from tqdm.auto import tqdm

SPECS = Path(__file__).parent / "specs"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "saebench" / "zoo"


def names() -> list[str]:
    """The specs, in the order of their names."""
    return sorted(path.stem for path in SPECS.glob("*.toml"))


def plant_one(name: str, out: Path) -> tuple[str, bool, tuple[str, ...]]:
    """Plants one spec; its name, whether it is certified, and what failed. Runs in its own process."""
    from saebench.planting.making import plant

    certificate = plant(SPECS / f"{name}.toml", out).certificate
    return name, certificate.certified, certificate.failures


def plant_all(out: Path, workers: int, only: list[str] | None = None) -> list[str]:
    """Plants the zoo; the names of those that are not certified."""
    refused = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as processes:
        # the longest first, so that none is left for the end
        order = sorted(only or names(), key=lambda name: not name.startswith("superposition"))
        jobs = [processes.submit(plant_one, name, out) for name in order]
        for job in tqdm(as_completed(jobs), total=len(jobs), desc="models"):
            name, certified, failures = job.result()
            if not certified:
                refused.append(name)
                tqdm.write(f"{name}: not certified: {'; '.join(failures)}")
    return refused


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m saebench.studies.planted.zoo",
        description="Plant every model of the zoo.",
        epilog="example: python -m saebench.studies.planted.zoo --workers 2 --only plain --only twin-used",
    )
    parser.add_argument("--out", type=Path, default=CACHE, help=f"where models go (default {CACHE})")
    parser.add_argument("--workers", type=int, default=2, help="models trained at once (default 2)")
    parser.add_argument("--only", action="append", choices=names(), help="a spec (repeatable)")
    options = parser.parse_args()
    refused = plant_all(options.out, options.workers, options.only)
    done = len(options.only or names()) - len(refused)
    print(f"{done} certified in {options.out}; not certified: {', '.join(refused) or 'none'}")


if __name__ == "__main__":
    main()
