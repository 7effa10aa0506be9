"""Build the bundled model and SAEs from nothing: `python -m saebench.studies.demo.build`.

Stages: `model` (text, then planting), `saes`, `card` (measure everything, write card.json and README.md).
Every stage reads what the one before wrote. Same seeds, same bytes on the same machine.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saebench.demo.corpus import vocabulary_text
from saebench.planting.tokens import build_tokenizer
from saebench.studies.demo import card, lm, measure, mlp, saes

HERE = Path(__file__).parents[2] / "demo"
STAGES = ("model", "saes", "card")


def load_model(folder: Path) -> nn.Module:
    """The language model saved in `folder`, in evaluation mode."""
    from transformers import GPT2LMHeadModel

    return GPT2LMHeadModel.from_pretrained(folder).eval()


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer saved in `folder`."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def load_subspaces(folder: Path) -> dict[str, Tensor]:
    """The planted subspaces saved beside the model: attribute → orthonormal rows [rank, d_model]."""
    from safetensors.torch import load_file

    return load_file(folder / "planted.safetensors")


def save_model(model: Any, tokenizer, subspaces: dict[str, Tensor], folder: Path) -> None:
    """Write the Hugging Face directory and the planted subspaces beside it."""
    from safetensors.torch import save_file

    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_file(subspaces, folder / "planted.safetensors")


def build_model(out: Path, recipe: lm.Recipe) -> dict[str, float]:
    """Train and save the model; returns its accuracies before the facts were planted."""
    tokenizer = build_tokenizer(vocabulary_text())
    model = lm.new_model(recipe, len(tokenizer))
    lm.train_on_text(model, tokenizer, recipe)
    before = measure.accuracies(model, tokenizer)
    subspaces = lm.planted_subspaces(recipe)
    lm.plant_facts(model, tokenizer, recipe, subspaces)
    save_model(model, tokenizer, subspaces, out / "model")
    return before


def write_notes(file: Path, notes: dict) -> None:
    """Write the figures of the card."""
    file.write_text(json.dumps(notes, indent=1, sort_keys=True) + "\n", "utf-8")


def build(out: Path, stages: tuple[str, ...], workers: int, recipe: lm.Recipe) -> None:
    """Run the stages asked for."""
    # One thread: sums are then added in the same order on every machine with the same arithmetic.
    torch.set_num_threads(1)
    began = time.monotonic()
    notes_file = out / "card.json"
    notes = json.loads(notes_file.read_text("utf-8")) if notes_file.exists() else {}
    if "model" in stages:
        notes["accuracy_before_planting"] = build_model(out, recipe)
        write_notes(notes_file, notes)
        print(f"model: {time.monotonic() - began:.0f} s")
    model, tokenizer = load_model(out / "model"), load_tokenizer(out / "model")
    if "saes" in stages:
        saes.train_saes(model, tokenizer, out / "saes", workers)
        notes["mlp_unexplained"] = mlp.build(model, tokenizer, out / "mlp")
        write_notes(notes_file, notes)
        print(f"SAEs: {time.monotonic() - began:.0f} s")
    if "card" in stages:
        notes |= card.measure_all(model, tokenizer, load_subspaces(out / "model"), out, recipe)
        write_notes(notes_file, notes)
        # from the file, so that rendering it again changes nothing
        kept = json.loads(notes_file.read_text("utf-8"))
        (out / "README.md").write_text(card.render(kept), "utf-8")
        print(f"card: {time.monotonic() - began:.0f} s")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m saebench.studies.demo.build",
        description="Train the bundled language model and SAEs and write their card.",
        epilog="example: python -m saebench.studies.demo.build --only saes --only card",
    )
    parser.add_argument("--only", action="append", choices=STAGES, help="a stage (repeatable)")
    parser.add_argument("--out", type=Path, default=HERE, help="where to write (default: the package)")
    parser.add_argument("--workers", type=int, default=2, help="SAEs trained at once (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the model (default 0)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    build(options.out, tuple(options.only or STAGES), options.workers, lm.Recipe(seed=options.seed))


if __name__ == "__main__":
    main()
