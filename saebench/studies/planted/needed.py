"""How much of a planted subspace do answers need? Why DAS at the planted rank need not find all of it.

`python -m saebench.studies.planted.needed` writes `das-why.csv`, a row for each variable of `das.csv`. Principal
vectors pair DAS's subspace with the planted one, the best aligned first. What is *needed* is the fewest of
the planted ones whose swap alone gives the source's answer in `ENOUGH` of the cases, on `test`.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from saebench.studies.planted import zoo
from saebench.studies.planted.das import Fitted, fitted

ENOUGH = 0.99
"""Share of the source's answers at which a swap counts as sufficient."""


class Swap(NamedTuple):
    """What a swap does where the prompt asks for the variable, on `test`."""

    right: float
    """Share of answers that are the source's."""
    kept: float
    """Share of answers that stay."""
    loss: float
    """Cross-entropy of the source's answer, in nats: what DAS lowers."""


def swap_of(section: Any, name: str, rows: Any) -> Swap:
    """Swaps the projection onto `rows` `[r, d]`."""
    import torch
    from torch.nn.functional import cross_entropy

    from saebench.edits.das import swap

    test = section.test
    asks = test.asks(section.index(name)).nonzero()[:, 0]
    edited = swap(test.acts[asks], test.source_acts[name][asks], rows)
    with torch.no_grad():
        logits = test.readout.logits(edited, asks).float()
    wanted, own = test.expected[name][asks], test.readout.answer[asks]
    right, kept = (float((logits.argmax(1) == answers).float().mean()) for answers in (wanted, own))
    return Swap(right, kept, float(cross_entropy(logits, wanted)))


def measure(of: Fitted) -> Iterator[dict[str, Any]]:
    """For every variable that answers are read from: what its answers need, and how much DAS has of that."""
    import torch

    from saebench.edits.das import leads

    gradients = leads(of.section, seed=0)
    for name, found, planted in of.found:
        _, cosines, turn = torch.linalg.svd(found.double() @ planted.double().T)
        aligned = turn.to(planted) @ planted
        swaps = [swap_of(of.section, name, aligned[:k]) for k in range(1, len(planted) + 1)]
        needed = _first(swaps)
        felt = by_gradient(gradients[of.section.index(name)], planted)
        fewest = _first(swap_of(of.section, name, felt[:k]) for k in range(1, len(planted) + 1))
        whole, rest = swap_of(of.section, name, found), swap_of(of.section, name, aligned[needed:])
        yield {
            "variable": name,
            "planted_rank": len(planted),
            "needed": needed,
            "needed_by_gradient": fewest,
            "overlap": float(cosines.square().sum()) / min(found.shape[0], len(planted)),
            "overlap_needed": float(cosines[:needed].square().mean()),
            "right_needed": swaps[needed - 1].right,
            "kept_rest": rest.kept,
            "right_das": whole.right,
            "loss_das": whole.loss,
            "loss_planted": swaps[-1].loss,
        }


def by_gradient(gradients: Any, planted: Any) -> Any:
    """Planted directions `[r, d]`, the one that answers respond to most first."""
    import torch

    return torch.linalg.svd(gradients @ planted.T, full_matrices=False).Vh @ planted


def _first(swaps: Any) -> int:
    """How many directions are enough; all of them where fewer are not."""
    rank = 0
    for rank, one in enumerate(swaps, 1):
        if one.right >= ENOUGH:
            return rank
    return rank


def main() -> None:
    """Command line."""
    import pandas as pd

    from saebench.records.files import write_text

    parser = argparse.ArgumentParser(
        prog="python -m saebench.studies.planted.needed",
        description="How many directions of each planted subspace answers need, and how much of them DAS has.",
    )
    parser.add_argument("--models", type=Path, default=zoo.CACHE, help="the zoo")
    parser.add_argument("--out", type=Path, default=Path("results/planted"), help="where das.csv is")
    options = parser.parse_args()
    file = options.out / "das-why.csv"
    rows = pd.read_csv(file).to_dict("records") if file.exists() else []
    done = {row["model"] for row in rows}
    for name in dict.fromkeys(pd.read_csv(options.out / "das.csv").model):
        if name not in done:
            with fitted(options.models / name, own_rank=False) as of:
                rows += [{"model": name, **row} for row in measure(of)]
            write_text(file, pd.DataFrame(rows).to_csv(index=False, float_format="%.4g"))


if __name__ == "__main__":
    main()
