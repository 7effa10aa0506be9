"""The bundled model, its SAEs and their card: `make demo`, or `python -m saebench.studies.demo.build`.

Stages: `model` (what `saebench plant` makes of demo/spec.toml; a model of the same spec is kept), `saes`
(eight, and two dictionaries of an MLP), `card` (measures all of it). Every stage reads what the one before
wrote, and what was there stays until all of a stage is made. Same seeds, same bytes on the same machine.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tqdm.auto import tqdm

from saebench.models.known import BUNDLED
from saebench.planting.making import open_planted, plant
from saebench.planting.spec import PlantSpec
from saebench.planting.training import Report
from saebench.studies.demo import card, mlp, saes

PACKAGE = BUNDLED.parent
SPEC = PACKAGE / "spec.toml"
STAGES = ("model", "saes", "card")


def progress(spec: PlantSpec) -> Report:
    """A bar over the steps of a training."""
    bar = tqdm(total=spec.training.steps, desc="model")

    def report(step: int, loss: float) -> None:
        bar.set_postfix(loss=f"{loss:.2f}", refresh=False)
        bar.update(step - bar.n)

    return report


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A place to write to, which takes the place of `folder` once all is written."""
    with TemporaryDirectory(prefix=".", dir=folder.parent) as scratch:
        made, before = Path(scratch) / "made", Path(scratch) / "before"
        made.mkdir()
        yield made
        if folder.exists():
            folder.rename(before)
        made.rename(folder)


def build(out: Path, stages: tuple[str, ...], workers: int, force: bool = False) -> None:
    """Runs the stages asked for in the folder that holds, or is to hold, the model's."""
    # One thread: sums are then added in the same order on every machine with the same arithmetic.
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    folder = out / BUNDLED.name
    if "model" in stages:
        planted = plant(SPEC, out, force, progress)
        failures = "; ".join(planted.certificate.failures)
        print(f"{'trained' if planted.made else 'kept'}: {folder} ({failures or 'certified'})")
    opened = open_planted(folder)
    if "saes" in stages:
        of = (opened.halves, opened.world.tokenizer)
        name = "demo" if folder.resolve() == BUNDLED.resolve() else str(folder)
        with replacing(out / "saes") as eight, replacing(out / "mlp") as two:
            saes.train_saes(*of, eight, workers, name)
            mlp.build(*of, two, name)
    if "card" in stages:
        notes = json.dumps(card.measure(opened, out), indent=1, sort_keys=True)
        (out / "card.json").write_text(notes + "\n", "utf-8")
        (out / "README.md").write_text(card.render(json.loads(notes)), "utf-8")
        print(f"measured: {out / 'README.md'}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m saebench.studies.demo.build",
        description="Plant the bundled model, train SAEs on it, and measure both for their card.",
        epilog="example: python -m saebench.studies.demo.build --out mine --only saes --only card",
    )
    parser.add_argument("--only", action="append", choices=STAGES, help="a stage (repeatable)")
    parser.add_argument("--out", type=Path, default=PACKAGE, help="where to write (default: what is bundled)")
    parser.add_argument("--workers", type=int, default=2, help="SAEs trained at once (default 2)")
    parser.add_argument("--force", action="store_true", help="train the model anew, if it is there too")
    options = parser.parse_args()
    build(options.out, tuple(options.only or STAGES), options.workers, options.force)


if __name__ == "__main__":
    main()
