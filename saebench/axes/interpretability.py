"""Interpretability: do latents match attributes? [PE §5]"""

import torch
from jaxtyping import Int
from torch import Tensor

from saebench.axes.base import Bench, Measure, Subject, Tick
from saebench.axes.detection import permuted_f1_star, record_hits
from saebench.dictionaries.codes import SparseCodes
from saebench.edits.few_latents import add_codes
from saebench.measures.detection import explain
from saebench.records.outcomes import Key, Outcomes

EXPLAINED_AT = 0.8
MATCHED_AT = 0.6
"""F1* from which a detector counts as matching, for the causal check."""


def measure(subject: Subject, bench: Bench, out: Outcomes, seed: int, tick: Tick) -> None:
    """Best detectors of every property, their null, explained latents, and the causal check."""
    alpha = subject.test.codes
    for prop in bench.properties.values():
        select = subject.table(prop, "select")
        record_hits("interpretability", prop, select, alpha, out)
        key = Key("interpretability", "dropped_values", prop.name)
        out.facts[key] = float(prop.dropped)
    for attribute in bench.section.attributes:
        prop = bench.properties[attribute.name]
        codes = (subject.select.codes, alpha)
        for i, null in enumerate(permuted_f1_star(prop, *codes, subject.signed, seed)):
            out.facts[Key("interpretability", "null", attribute.name, k=i)] = null
    _explained(subject, bench, out)
    _causal_check(subject, bench, out)
    tick("interpretability")


def _active(codes: SparseCodes) -> Int[Tensor, "m"]:
    return codes.latent.unique()


def _explained(subject: Subject, bench: Bench, out: Outcomes) -> None:
    """How many latents active on `test` reach F1* ≥ 0.8 for a property or a union of its values."""
    active = _active(subject.test.codes)
    best = torch.full((2 * subject.dictionary.d_sae,), -torch.inf, device=active.device)
    for prop in bench.properties.values():
        if not prop.keep.any():
            continue
        tables = subject.table(prop, "select"), subject.table(prop, "test")
        star = explain(*tables, prop.keep).f1_star
        best[: len(star)] = torch.maximum(best[: len(star)], star)
    per_latent = best.view(2, -1).max(0).values
    explained = per_latent[active] >= EXPLAINED_AT
    out.facts[Key("interpretability", "active_latents")] = float(len(active))
    out.facts[Key("interpretability", "explained_latents")] = float(explained.sum())


def _causal_check(subject: Subject, bench: Bench, out: Outcomes) -> None:
    """Keeps only, or removes only, the latents that match a property; the error term stays.

    `keep` runs `a − Σ_{j∉J} α_j w_j`, `remove` runs `a − Σ_{j∈J} α_j w_j`, J the latents whose
    detector reaches F1* ≥ 0.6 on `select` [PE §5.2].
    """
    test, codes = bench.section.test, subject.test.codes
    matched = torch.zeros(2 * subject.dictionary.d_sae, dtype=torch.bool, device=codes.row.device)
    for prop in bench.properties.values():
        if prop.keep.any():
            star = subject.table(prop, "select").f1_star[:, prop.keep].max(1).values
            matched[: len(star)] |= star >= MATCHED_AT
    inside = matched[codes.detector]
    edits = {}
    for edit, gone in (("keep", ~inside), ("remove", inside)):
        part = SparseCodes(codes.row[gone], codes.latent[gone], -codes.value[gone], codes.n, codes.d_sae)
        edits[edit] = add_codes(test.acts, part, subject.dictionary.W_dec)
    for edit, run in test.readout.run(edits).items():
        out.add(Key("interpretability", "ld", edit=str(edit)), run.ld)
    out.facts[Key("interpretability", "matched_latents")] = float(matched.view(2, -1).any(0).sum())


MEASURE = Measure(1, measure)
