"""The bundled model's sibling, planted, and its SAEs: `python -m saebench.studies.demo.build`.

Stages: `model` (what `saebench plant` makes of demo/spec.toml), `saes` (eight, and two dictionaries of an
MLP), `card` (measures all of it, beside the bundled model). Every stage reads what the one before wrote.
Same seeds, same bytes on the same machine. What is bundled stays as it is.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from tqdm.auto import tqdm

from saebench.planting.making import open_planted, plant
from saebench.planting.reading import read_spec
from saebench.planting.spec import PlantSpec
from saebench.planting.training import Report
from saebench.planting.writing import CERTIFICATE
from saebench.studies.demo import card, mlp, models, saes

PACKAGE = models.SPEC.parent
STAGES = ("model", "saes", "card")
NOTES = "card.json"


def read_notes(folder: Path) -> dict:
    """The figures of a card: those of the bundled model and of its sibling, where they were measured."""
    file = folder / NOTES
    return json.loads(file.read_text("utf-8")) if file.exists() else {}


def write_card(notes: dict, folder: Path) -> None:
    """Writes figures, and the card that shows them."""
    (folder / NOTES).write_text(json.dumps(notes, indent=1, sort_keys=True) + "\n", "utf-8")
    (folder / "README.md").write_text(card.render(read_notes(folder)), "utf-8")


def progress(spec: PlantSpec) -> Report:
    """A bar over the steps of a training."""
    bar = tqdm(total=spec.training.steps, desc="model")

    def report(step: int, loss: float) -> None:
        bar.set_postfix(loss=f"{loss:.2f}", refresh=False)
        bar.update(step - bar.n)

    return report


def build(out: Path, stages: tuple[str, ...], workers: int) -> None:
    """Runs the stages asked for in a folder of their own."""
    # One thread: sums are then added in the same order on every machine with the same arithmetic.
    torch.set_num_threads(1)
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    folder = out / read_spec(models.SPEC).name
    if "model" in stages:
        certificate = plant(models.SPEC, out, report=progress).certificate
        print(f"model: {time.monotonic() - began:.0f} s; {'; '.join(certificate.failures) or 'certified'}")
    opened = open_planted(folder)
    if "saes" in stages:
        of = (opened.halves, opened.world.tokenizer)
        saes.train_saes(*of, out / "saes", workers, str(folder))
        mlp.build(*of, out / "mlp", str(folder))
        print(f"SAEs: {time.monotonic() - began:.0f} s")
    if "card" in stages:
        sibling = card.measure(opened, out, folder)
        write_card({**read_notes(PACKAGE), "sibling": sibling}, out)
        print(f"card: {time.monotonic() - began:.0f} s; {out / 'README.md'}")


def measure_bundled(beside: Path) -> None:
    """Measures the bundled model and its SAEs anew; its card shows beside them what `beside` holds."""
    torch.set_num_threads(1)
    opened = models.open_bundled()
    opened = opened._replace(certificate=models.certify(opened))
    (models.DEMO / CERTIFICATE).write_text(opened.certificate.model_dump_json(indent=1) + "\n", "utf-8")
    notes = read_notes(PACKAGE) | read_notes(beside)
    write_card({**notes, "bundled": card.measure(opened, PACKAGE, models.DEMO)}, PACKAGE)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m saebench.studies.demo.build",
        description="Plant the bundled model's sibling, train SAEs on it, and show both models side by side."
        " What is bundled stays as it is.",
        epilog="example: python -m saebench.studies.demo.build --out sibling --only saes --only card",
    )
    parser.add_argument("--only", action="append", choices=STAGES, help="a stage (repeatable)")
    parser.add_argument("--out", type=Path, default=Path("sibling"), help="where to write (default: sibling)")
    parser.add_argument("--workers", type=int, default=2, help="SAEs trained at once (default 2)")
    parser.add_argument(
        "--bundled-card",
        action="store_true",
        help="measure the bundled model and SAEs anew, and rewrite their card with what OUT holds beside them",
    )
    options = parser.parse_args()
    if options.bundled_card:
        measure_bundled(options.out)
    else:
        build(options.out, tuple(options.only or STAGES), options.workers)


if __name__ == "__main__":
    main()
