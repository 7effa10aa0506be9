"""Recovery of planted subspaces: what of them a dictionary's latents span, point along, and fire for.

Measured on tasks whose variables were trained into known subspaces; beside the five axes.
"""

import torch
from jaxtyping import Bool
from torch import Tensor

from saebench.axes.base import Bench, Measure, Subject, Tick
from saebench.measures import planted
from saebench.measures.recovery import unit
from saebench.records.outcomes import Key, Outcomes
from saebench.scoring.subspaces import AXIS, VALUES


def measure(subject: Subject, bench: Bench, out: Outcomes, seed: int, tick: Tick) -> None:
    """Per-value numbers of the matched latents, and the overlap of each attribute's best span."""
    section, W = bench.section, subject.dictionary.W_dec
    sides = _sides(subject)
    live = sides.any(0)
    columns: dict[str, list[Tensor]] = {"cosine": [], "null_cosine": [], "f1": [], "attribute": []}
    for at, attribute in enumerate(section.attributes):
        rows, atoms = section.planted.get(attribute.name), section.planted_atoms.get(attribute.name)
        if rows is None or atoms is None:
            continue
        # `none` has no atom: nothing is to point along it
        there = (atoms.norm(dim=1) > 0).nonzero()[:, 0]
        matching = planted.match_atoms(torch.cat([W, -W]), atoms[there], sides.flatten())
        chance = planted.null(sides, rows, atoms[there], seed) if bool(live.any()) else None
        out.facts[Key(AXIS, "overlap", attribute.name)] = planted.best_span(W, rows, live).overlap
        out.facts[Key(AXIS, "null_overlap", attribute.name)] = chance.overlap if chance else 0.0
        present = section.test.labels[:, at, None] == there
        active = torch.zeros_like(present)
        active[:, matching.matched] = subject.test.codes.fires(matching.latent[matching.matched])
        columns["cosine"].append(matching.cosine)
        columns["null_cosine"].append(torch.full((len(there),), chance.cosine if chance else 0.0))
        columns["f1"].append(planted.detection(active, present))
        columns["attribute"].append(torch.full((len(there),), at))
    if columns["cosine"]:
        n = sum(len(part) for part in columns["cosine"])
        out.cluster = {**out.cluster, VALUES: torch.arange(n).numpy()}
        for name, parts in columns.items():
            out.add(Key(AXIS, name, split=VALUES), torch.cat([p.double().cpu() for p in parts]))
    tick("planted subspaces")


def _sides(subject: Subject) -> Bool[Tensor, "2 d_sae"]:
    """Latents that are on at least once on `select` or `test` with a positive, with a negative code.

    Each is a detector: what fires with negative codes writes its row turned round. Latents that write
    nothing are none.
    """
    dictionary = subject.dictionary
    on = torch.zeros(2 * dictionary.d_sae, dtype=torch.bool, device=dictionary.W_dec.device)
    for encoded in (subject.select, subject.test):
        on[encoded.codes.detector] = True
    return on.view(2, -1) & (unit(dictionary.W_dec).norm(dim=1) > 0)


MEASURE = Measure(measure)
