"""Interpretability: do latents that stand for an attribute's values also write them? [ours; PE §5]"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from saebench.axes import read_write
from saebench.axes.base import Bench, Measure, Subject, Tick
from saebench.axes.detection import permuted_f1_star, record_hits
from saebench.dictionaries.codes import difference
from saebench.edits.few_latents import add_codes, only
from saebench.measures.detection import F1Table, explain, f1_tables, frequent
from saebench.records.outcomes import ACTIVE, Key, Outcomes
from saebench.scoring.interpretability import AXIS, EXPLAINED_AT, MATCHED_AT

LARGEST_UNION = 10
"""Values of one property that a latent may stand for together."""


def prepare(bench: Bench, seed: int, tick: Tick) -> None:
    """What is there to be written, and what the ceiling writes."""
    read_write.prepare(bench)


def measure(subject: Subject, bench: Bench, out: Outcomes, seed: int, tick: Tick) -> None:
    """What is written and by whom, best detectors and their null, explained latents, the causal check."""
    read_write.measure(subject, bench, out, seed)
    for prop in bench.properties.values():
        select, test = subject.table(prop, "select"), subject.detections(prop, "test")
        record_hits(AXIS, prop, select, test, out)
        out.facts[Key(AXIS, "dropped_values", prop.name)] = float(prop.dropped)
    out.facts[Key(AXIS, "cut_latents")] = float(len(subject.dense))
    for attribute in bench.section.attributes:
        prop = bench.properties[attribute.name]
        codes = (subject.detections(prop, "select"), subject.detections(prop, "test"))
        for i, null in enumerate(permuted_f1_star(prop, *codes, bench.section, subject.signed, seed)):
            out.facts[Key(AXIS, "null", attribute.name, k=i)] = null
    _explained(subject, bench, out)
    _causal_check(subject, bench, out)
    _interchange(subject, bench, out)
    tick(AXIS)


def _explained(subject: Subject, bench: Bench, out: Outcomes) -> None:
    """Of each latent active on `test`, whether it reaches F1* ≥ 0.8 there for what it suits best on `select`."""
    d_sae = subject.dictionary.d_sae
    chosen, star = (torch.full((2 * d_sae,), -torch.inf, device=subject.test.offset.device) for _ in range(2))
    for each in candidates(subject, bench):
        found = explain(each.select, each.test, each.keep, each.most)
        better = found.select > chosen[: len(found.select)]
        chosen[: len(better)] = torch.where(better, found.select, chosen[: len(better)])
        star[: len(better)] = torch.where(better, found.f1_star, star[: len(better)])
    # of a latent's two signs the one that suits better on `select`
    side = chosen.view(2, -1).argmax(0, keepdim=True)
    active = subject.test.codes.latent.unique()
    explained = star.view(2, -1).gather(0, side)[0][active] >= EXPLAINED_AT
    if not len(active):
        return
    out.cluster = {**out.cluster, ACTIVE: torch.arange(len(active)).numpy()}
    out.add(Key(AXIS, "explained", split=ACTIVE), explained)


class Candidate(NamedTuple):
    """Something that may explain a latent: how every detector does on its values, on both splits."""

    name: str
    select: F1Table
    test: F1Table
    keep: Bool[Tensor, "n_values"]
    """Values with enough positives."""
    most: int
    """Values of a union at most."""


def candidates(subject: Subject, bench: Bench) -> Iterator[Candidate]:
    """Every attribute, conjunction and further predicate of the task that any latent may stand for."""
    for prop in bench.properties.values():
        if prop.keep.any():
            chosen_on, shown_on = (subject.table(prop, split) for split in ("select", "test"))
            yield Candidate(prop.name, chosen_on, shown_on, prop.keep, LARGEST_UNION)
    splits = bench.section.select, bench.section.test
    for listed in bench.section.library:
        keep = torch.ones(listed.n_values, dtype=torch.bool, device=splits[0].labels.device)
        tables = []
        for split, codes in zip(splits, (subject.select.codes, subject.test.codes), strict=True):
            labels = listed.of(split.labels)
            tables.append(f1_tables(codes, labels, listed.n_values, subject.signed))
            for column in labels.T:
                keep &= frequent(column, split.cluster, listed.n_values)
        # values that occur together do not add up to a union
        if keep.any():
            most = LARGEST_UNION if labels.shape[1] == 1 else 1
            yield Candidate(listed.name, tables[0], tables[1], keep, most)


def matching(subject: Subject, bench: Bench, names: list[str], threshold: float) -> Bool[Tensor, "d_sae"]:
    """Latents of which a detector reaches the threshold on `select` for one of the properties.

    An edit always moves the whole latent, whatever the sign by which it detects.
    """
    d_sae = subject.dictionary.d_sae
    best = torch.zeros(2 * d_sae, device=subject.test.offset.device)
    for name in names:
        prop = bench.properties[name]
        if prop.keep.any():
            star = subject.table(prop, "select").f1_star[:, prop.keep].max(1).values.float()
            best[: len(star)] = torch.maximum(best[: len(star)], star)
    return best.view(2, d_sae).max(0).values >= threshold


def _causal_check(subject: Subject, bench: Bench, out: Outcomes) -> None:
    """Keeps only, or removes only, the latents that match a property; the error term stays [PE §5.2].

    `keep` runs `a − Σ_{j∉J} α_j w_j`, `remove` runs `a − Σ_{j∈J} α_j w_j`, J the latents whose detector
    reaches F1* ≥ t on `select`; `k` is 100 t.
    """
    test, codes, W_dec = bench.section.test, subject.test.codes, subject.dictionary.W_dec
    edits: dict[tuple[str, int], Tensor] = {}
    for threshold in MATCHED_AT:
        matched, k = matching(subject, bench, list(bench.properties), threshold), round(100 * threshold)
        inside = matched[codes.latent]
        for edit, gone in (("keep", ~inside), ("remove", inside)):
            part = only(codes, gone)
            edits[edit, k] = add_codes(test.acts, part._replace(value=-part.value), W_dec)
        out.facts[Key(AXIS, "matched_latents", k=k)] = float(matched.sum())
    for (edit, k), ld in test.readout.differences(edits).items():
        out.add(Key(AXIS, "ld", edit=edit, k=k), ld)


def _interchange(subject: Subject, bench: Bench, out: Outcomes) -> None:
    """Gives the latents that match an attribute the source's codes, or all the others [PE §5.2, as interchange].

    `matched` runs `a + Σ_{j∈J} (β_j − α_j) w_j`, `rest` the same over j∉J; `k` is 100 t.
    """
    test, W_dec = bench.section.test, subject.dictionary.W_dec
    for attribute in bench.section.attributes:
        name, edits = attribute.name, {}
        change = difference(subject.test.codes, subject.source(name).codes)
        for threshold in MATCHED_AT:
            inside = matching(subject, bench, [name], threshold)[change.latent]
            for edit, part in (("matched", inside), ("rest", ~inside)):
                edits[edit, round(100 * threshold)] = add_codes(test.acts, only(change, part), W_dec)
        for (edit, k), ld in test.readout.differences(edits).items():
            out.add(Key(AXIS, "ld", name, edit, k), ld)


MEASURE = Measure(measure, prepare)
