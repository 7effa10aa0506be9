"""How much of a planted subspace do answers need? Why DAS at the planted rank need not find all of it.

`python -m saebench.studies.planted.needed` writes `das-why.csv`, a row for each variable of `das.csv`. Principal
vectors pair DAS's subspace with the planted one, the best aligned first. What is *needed* is the fewest of
the planted ones whose swap alone gives the source's answer in `ENOUGH` of the cases, on `test`. DAS's edit is
also made in parts, the one inside the planted subspace and the rest: whether it found a part of the truth, or
something else that answers follow too.
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


def swap_of(section: Any, name: str, rows: Any, within: Any = None) -> Swap:
    """Swaps the projection onto `rows` `[r, d]`; of that edit only the part within the span of `within`."""
    import torch
    from torch.nn.functional import cross_entropy

    from saebench.edits.das import swap

    test = section.test
    asks = test.asks(section.index(name)).nonzero()[:, 0]
    base = test.acts[asks]
    edited = swap(base, test.source_acts[name][asks], rows)
    if within is not None:
        edited = swap(base, edited, within)
    with torch.no_grad():
        logits = test.readout.logits(edited, asks).float()
    wanted, own = test.expected[name][asks], test.readout.answer[asks]
    right, kept = (float((logits.argmax(1) == answers).float().mean()) for answers in (wanted, own))
    return Swap(right, kept, float(cross_entropy(logits, wanted)))


class Place(NamedTuple):
    """Where directions `[r, d]` lie: shares that add up to 1."""

    inside: float
    """In the subspace planted for their variable."""
    in_others: float
    """In those planted for other variables, as far as they are not in its own."""
    outside: float
    """In none of them, where the certificate says that nothing is read."""


def place_of(rows: Any, planted: Any, every: Any) -> Place:
    """Mean squared length of the parts of orthonormal rows; `every` spans all planted subspaces."""
    own, planted_at_all = (
        float((rows.double() @ span.double().T).square().sum()) / len(rows) for span in (planted, every)
    )
    return Place(own, planted_at_all - own, 1 - planted_at_all)


def rest_of(rows: Any) -> Any:
    """Orthonormal rows of what is orthogonal to `rows` `[r, d]`."""
    import torch

    return torch.linalg.svd(rows, full_matrices=True).Vh[len(rows) :]


def span_of(subspaces: Any) -> Any:
    """Orthonormal rows that span all subspaces together."""
    import torch

    _, strength, rows = torch.linalg.svd(torch.cat(list(subspaces)), full_matrices=False)
    return rows[strength > 1e-4]


def measure(of: Fitted) -> Iterator[dict[str, Any]]:
    """For every variable that answers are read from: what its answers need, and how much DAS has of that."""
    import torch

    from saebench.edits.das import leads, orthonormal, start
    from saebench.measures.subspaces import overlap

    gradients = leads(of.section, seed=0)
    every = span_of(of.section.planted.values())
    for name, found, planted in of.found:
        at = of.section.index(name)
        begun = orthonormal(start(gradients, len(planted), seed=0))[at]
        _, cosines, turn = torch.linalg.svd(found.double() @ planted.double().T)
        aligned = turn.to(planted) @ planted
        swaps = [swap_of(of.section, name, aligned[:k]) for k in range(1, len(planted) + 1)]
        needed = _first(swaps)
        felt = by_gradient(gradients[at], planted)
        fewest = _first(swap_of(of.section, name, felt[:k]) for k in range(1, len(planted) + 1))
        whole, rest = swap_of(of.section, name, found), swap_of(of.section, name, aligned[needed:])
        yield {
            "variable": name,
            "planted_rank": len(planted),
            "found_rank": len(found),
            "needed": needed,
            "needed_by_gradient": fewest,
            "overlap": float(cosines.square().sum()) / min(found.shape[0], len(planted)),
            "overlap_needed": float(cosines[:needed].square().mean()),
            **place_of(found, planted, every)._asdict(),
            "start": overlap(begun, planted).overlap,
            "right_inside": swap_of(of.section, name, found, planted).right,
            "right_rest": swap_of(of.section, name, found, rest_of(planted)).right,
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
