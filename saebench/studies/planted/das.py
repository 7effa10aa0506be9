"""Whether DAS finds the planted subspaces: one rotation per variable, trained at the planted rank.

As in scoring, directions that `select` can do without are left out, and the first of equally good steps is kept.
`python -m saebench.studies.planted.das` writes `das.csv`, a row as soon as a model is done; models that are
in it are left out. With `--own-rank` DAS chooses its rank among d/32 … d/2 on `select`, as in scoring (which has
left it in the cache), and the file is `das-own-rank.csv`.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from saebench.studies.planted import zoo


class Fitted(NamedTuple):
    """DAS on a planted model, beside the truth."""

    section: Any
    das: Any
    unused: tuple[str, ...]
    """Planted variables that no answer is read from: DAS cannot find them."""

    @property
    def found(self) -> Iterator[tuple[str, Any, Any]]:
        """Name, DAS's rows `[rank, d]` and the planted ones of every variable that answers are read from."""
        for name, planted in self.section.planted.items():
            if name not in self.unused:
                yield name, self.das.rows[name], planted


@contextmanager
def fitted(folder: Path, own_rank: bool) -> Iterator[Fitted]:
    """DAS of a planted model, from the cache if it is there; what is measured inside is as exact as scoring."""
    import torch

    from saebench.axes.disentangle import fit_skylines
    from saebench.edits.das import fit_das
    from saebench.kinds.base import Settings
    from saebench.kinds.entities.sections import build
    from saebench.models.devices import exact, few_threads
    from saebench.models.loading import load_model
    from saebench.models.surroundings import undisturbed
    from saebench.planting.making import open_planted
    from saebench.site import Site
    from saebench.spec import load_task

    torch.set_num_threads(1)
    spec = open_planted(folder).world.spec
    model, task = load_model(str(folder), device="cpu"), load_task(str(folder / "task"))
    with undisturbed(), exact(model.device), few_threads(model.d_model):
        section = build(task, model, Site(spec.model.hook, "entity"), Settings()).section
        unused = tuple(name for name in section.planted if not spec.variables[name].used)
        ranks = sorted({len(section.planted[name]) for name in section.planted if name not in unused})
        das = fit_skylines(section)[0] if own_rank else fit_das(section, ranks=ranks, skip=unused)
        yield Fitted(section, das, unused)


def overlaps(folder: Path, own_rank: bool) -> Iterator[dict[str, Any]]:
    """For every variable that the answers are read from: the overlap of DAS at its rank, and by chance."""
    from saebench.measures.subspaces import by_chance, overlap

    with fitted(folder, own_rank) as of:
        for name, found, planted in of.found:
            yield {
                "model": folder.name,
                "variable": name,
                "planted_rank": len(planted),
                "found_rank": len(found),
                "overlap": overlap(found, planted).overlap,
                "by_chance": by_chance(len(found), len(planted), of.section.d_in),
            }


def main() -> None:
    """Command line."""
    import pandas as pd

    from saebench.planting.making import read_certificate
    from saebench.records.files import write_text

    parser = argparse.ArgumentParser(prog="python -m saebench.studies.planted.das")
    parser.add_argument("--models", type=Path, default=zoo.CACHE, help="the zoo")
    parser.add_argument("--out", type=Path, default=Path("results/planted"), help="where das.csv goes")
    parser.add_argument("--only", action="append", choices=zoo.names(), help="a model (repeatable)")
    parser.add_argument("--own-rank", action="store_true", help="DAS chooses its rank")
    options = parser.parse_args()
    file = options.out / ("das-own-rank.csv" if options.own_rank else "das.csv")
    rows = pd.read_csv(file).to_dict("records") if file.exists() else []
    for name in options.only or zoo.names():
        certificate = read_certificate(options.models / name)
        if certificate and certificate.certified and name not in {row["model"] for row in rows}:
            rows += overlaps(options.models / name, options.own_rank)
            write_text(file, pd.DataFrame(rows).to_csv(index=False, float_format="%.4g"))


if __name__ == "__main__":
    main()
