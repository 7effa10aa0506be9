"""Measures the dictionaries that the lenses compare, board by board; what is measured already is kept."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from saebench.audit import cheats, climb
from saebench.audit.committed import NULL
from saebench.audit.rows import Row, Rows, read, write
from saebench.audit.stand import Stand
from saebench.dictionaries.codes import encode_split
from saebench.dictionaries.controls import PCA, Permuted, Random
from saebench.dictionaries.matched import MatchedRandom
from saebench.dictionaries.supervised import fit_supervised
from saebench.dictionary import Dictionary
from saebench.reporting.progress import progress
from saebench.scoring.estimates import Estimate

LATENTS, L0, COMPONENTS, COPIES = 768, 21, 14, 8
"""Size of the cheats: as wide as the bundled SAEs, and as dense as their median on IOI."""
SEARCHED = 100
"""Resamples a step of a search: it compares values, and draws decide only whether one is defined."""
SAID = 20
"""Steps after which a search says how far it is: it takes minutes."""
Maker = Callable[[Stand], Any]


class Job(NamedTuple):
    """One dictionary to be measured."""

    group: str
    name: str
    make: Maker
    of: str = ""


def named(stand: Stand, name: str) -> Any:
    """A dictionary by its name on the command line."""
    return stand.dictionary(name)


def by_name(names: Sequence[str]) -> dict[str, Maker]:
    return {name: partial(named, name=name) for name in names}


def as_they_are(saes: Mapping[str, Maker], group: str = "trained") -> list[Job]:
    return [Job(group, name, make) for name, make in saes.items()]


def nulls(saes: Mapping[str, Maker]) -> list[Job]:
    """A matched random dictionary for every SAE, called as the control is."""

    def make(stand: Stand, name: str) -> Dictionary:
        fit = stand.bench.section.fit
        codes = encode_split(saes[name](stand), fit.acts, fit.known).codes
        return MatchedRandom(NULL + name, codes, fit.acts)

    return [Job("null", NULL + name, partial(make, name=name), name) for name in saes]


CHANGES: dict[str, Callable[[Stand, Dictionary], Dictionary]] = {
    "permuted-decoder": lambda stand, sae: Permuted(sae),
    "permuted-encoder": lambda stand, sae: cheats.PermutedEncoder(sae, stand.acts.mean(0)),
    "dead-latents": lambda stand, sae: cheats.WithDead(sae),
    "rescaled-codes": lambda stand, sae: cheats.Rescaled(sae),
}
"""Specificity: what must fall, and what must not move."""


def changed(saes: Mapping[str, Maker]) -> list[Job]:
    def make(stand: Stand, kind: str, name: str) -> Dictionary:
        return CHANGES[kind](stand, saes[name](stand))

    return [
        Job(kind, f"{kind}:{name}", partial(make, kind=kind, name=name), name)
        for kind in CHANGES
        for name in saes
    ]


def _random(stand: Stand) -> Random:
    return Random(stand.acts, LATENTS, L0)


def _chimera(stand: Stand) -> Dictionary:
    return cheats.Chimera(PCA(stand.acts, min(COMPONENTS, stand.acts.shape[1])), _random(stand))


def _atoms(stand: Stand) -> Dictionary:
    atoms = fit_supervised(stand.bench.section, "mean").W_dec
    return cheats.NoisyAtoms(stand.acts, atoms, COPIES)


CHEATS: dict[str, Maker] = {
    "PCA and tiny detectors": _chimera,
    "memorised prompts": lambda stand: cheats.Memorised(stand.acts, LATENTS),
    "huge L0": lambda stand: cheats.Frame(stand.acts.mean(0), LATENTS),
    "reconstruction in the bias": lambda stand: cheats.InTheOffset(_random(stand)),
    "atoms plus noise": _atoms,
}


def gamed(of: str, sae: Maker) -> list[Job]:
    """Cheats that need no search; two are made from an SAE, may equal it and must not pass it."""
    jobs = [Job("cheat", name, make) for name, make in CHEATS.items()]
    jobs.append(Job("cheat", "always-on latent", lambda stand: cheats.AlwaysOn(sae(stand)), of))
    jobs.append(Job("cheat", "duplicated latents", lambda stand: cheats.Duplicated(sae(stand)), of))
    return jobs


def climbed(targets: Mapping[str, Sequence[str]], steps: int = climb.STEPS) -> list[Job]:
    """Cheats that a search finds, one for each target: the mean of some headlines, an undefined one as 0."""

    def make(stand: Stand, target: str) -> Dictionary:
        axes = targets[target]

        def mean(dictionary: Dictionary) -> float:
            headlines = stand.headlines(dictionary, axes, SEARCHED).values()
            found = [headline.normalized for headline in headlines]
            return sum(float(v) for v in found if isinstance(v, Estimate)) / len(axes)

        def tick(step: int, reached: float) -> None:
            if step % SAID == 0:
                said = f"hill climb on {target}, step {step} of {steps}: {reached:.3f}"
                print(said, file=sys.stderr, flush=True)

        first = climb.start(stand.acts, LATENTS, f"hill climb on {target}")
        return climb.climb(first, stand.acts, mean, steps, tick=tick)

    return [Job("cheat", f"hill climb on {t}", partial(make, target=t)) for t in targets]


def measure(stand: Callable[[], Stand], jobs: Sequence[Job], path: Path, **fields: Any) -> Rows:
    """Measures the jobs whose rows the file lacks, and writes after every one; the stand is made if needed.

    `fields` are what the rows have in common: the board if it is not the stand's own, task seed, budget.
    """
    rows = list(read(path))
    wanted = [job for job in jobs if not any(_same(row, job, fields) for row in rows)]
    if not wanted:
        return Rows(tuple(rows))
    place = stand()
    with progress(len(wanted), place.board) as steps:
        for job in wanted:
            steps.begin(f"{job.group} {job.name}")
            rows += _measured(place, job, fields)
            write(rows, path)
    return read(path)


def _measured(stand: Stand, job: Job, fields: dict[str, Any]) -> Iterator[Row]:
    draws = stand.seed == 0
    for row in stand.rows(job.make(stand), job.group, job.name, draws, of=job.of):
        yield row._replace(board=fields.get("board", stand.board))


def _same(row: Row, job: Job, fields: dict[str, Any]) -> bool:
    asked = {"task_seed": 0, "budget": "quick"} | fields
    there = all(getattr(row, name) == value for name, value in asked.items())
    return there and (row.group, row.name, row.of) == (job.group, job.name, job.of)
