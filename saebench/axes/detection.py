"""Chosen detectors on new prompts: what interpretability and occlusion both read."""

import torch
from jaxtyping import Bool
from torch import Tensor

from saebench.axes.base import Property
from saebench.cross_section import CrossSection
from saebench.dictionaries.codes import SparseCodes
from saebench.measures.detection import F1Table, best_detectors, correct, f1_table, permuted
from saebench.records.outcomes import Key, Outcomes
from saebench.scoring.detection import FALSE_NEGATIVE, FALSE_POSITIVE, TRUE_POSITIVE

N_PERMUTATIONS = 10


def record_hits(
    axis: str, prop: Property, select: F1Table, codes: SparseCodes, out: Outcomes, edit: str = "", k: int = 0
) -> None:
    """Chooses each value's best detector on `select` and stores what it does on `test`.

    Detectors that tie are all stored (`k` + their place); scoring averages them. A value for which
    no detector is ever right has an empty column.
    """
    chosen = {v: best_detectors(select, v) for v in prop.kept}
    every = torch.cat([*chosen.values(), torch.empty(0, dtype=torch.long, device=codes.row.device)])
    unique, place = every.unique(return_inverse=True)
    fires = codes.fires(unique)
    start = 0
    for value, detectors in chosen.items():
        positive = prop.test == value
        label = prop.values[value]
        if len(detectors) == 0:
            out.add(Key(axis, "hit", prop.name, edit, k, f"{label}|0"), FALSE_NEGATIVE * positive)
        for tie in range(len(detectors)):
            hit = fires[:, place[start + tie]]
            code = torch.where(positive, torch.where(hit, TRUE_POSITIVE, FALSE_NEGATIVE), 0)
            code = torch.where(~positive & hit, FALSE_POSITIVE, code)
            out.add(Key(axis, "hit", prop.name, edit, k, f"{label}|{tie}"), code)
        start += len(detectors)


def permuted_f1_star(
    prop: Property, select: SparseCodes, test: SparseCodes, section: CrossSection, signed: bool, seed: int
) -> list[float]:
    """Mean F1* of the same select → test choice with labels permuted: what choosing alone yields."""
    generator = torch.Generator().manual_seed(seed)
    splits = ((select, prop.select, section.select), (test, prop.test, section.test))
    found = []
    for _ in range(N_PERMUTATIONS):
        tables = []
        for codes, labels, split in splits:
            other = permuted(labels, split.cluster, generator)
            tables.append(f1_table(codes, other, len(prop.values), signed))
        found.append(chosen_f1_star(tables[0], tables[1], prop.keep))
    return found


def chosen_f1_star(select: F1Table, test: F1Table, keep: Bool[Tensor, "n_values"]) -> float:
    """Mean over values of the `test` F1* of the detectors that are best on `select`, ties averaged."""
    if not keep.any():
        return 0.0
    f1, prevalence = select.f1[:, keep], test.positives[keep] / test.n
    tied = (f1 == f1.max(0).values) & (f1 > 0)
    count = tied.sum(0)
    mean = (test.f1_star[:, keep] * tied).sum(0) / count.clamp(min=1)
    nothing = correct(torch.zeros_like(prevalence), prevalence)
    return float(torch.where(count > 0, mean, nothing).mean())
