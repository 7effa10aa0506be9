"""Occlusion: are weaker features lost behind stronger ones? [PE §6, A.14]"""

from collections import defaultdict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.axes.base import Bench, Measure, Subject, Tick
from saebench.axes.detection import record_hits
from saebench.cross_section import Split
from saebench.measures.detection import f1_table
from saebench.measures.read_write import along_atoms
from saebench.measures.thresholds import best_cuts, cut, dense_latents
from saebench.records.outcomes import Key, Outcomes
from saebench.scoring import Context
from saebench.scoring.occlusion import AXIS, DOSES, ELSEWHERE, TAUS, pairs


def prepare(bench: Bench, seed: int, tick: Tick) -> None:
    """Which attributes could hide which: those that scoring will ask for, by its own rule."""
    by_strong: dict[str, list[str]] = defaultdict(list)
    for pair in pairs(Context.of(bench.outcomes, seed)):
        by_strong[pair.strong].append(pair.weak)
    bench.learned[AXIS] = dict(by_strong)


def measure(subject: Subject, bench: Bench, out: Outcomes, seed: int, tick: Tick) -> None:
    """Attribute-wise reconstruction, and what becomes of weak attributes as they or the strong one change."""
    test = bench.section.test
    for at, attribute in enumerate(bench.section.attributes):
        value = _reconstructed(test.acts, subject.test.reconstruction, test.labels[:, at], bench.mean)
        if value is not None:
            out.facts[Key(AXIS, "attribute_reconstruction", attribute.name)] = value
    by_strong: dict[str, list[str]] = bench.learned[AXIS]
    if subject.dictionary.reads is not None:
        # what is added to the activation that it writes never reaches the one that it encodes
        out.facts[Key(AXIS, ELSEWHERE)] = 1.0
    elif not subject.dictionary.reads_labels:
        for strong, weak in by_strong.items():
            _without(subject, strong, weak, bench, out)
        for name in dict.fromkeys(name for weak in by_strong.values() for name in weak):
            _dose_response(subject, name, bench, out)
    tick("occlusion")


def _reconstructed(
    acts: Float[Tensor, "n d_in"],
    hat: Float[Tensor, "n d_in"],
    label: Int[Tensor, "n"],
    mean: Float[Tensor, "d_in"],
) -> float | None:
    """`1 − mean_v ‖E[â|v] − E[a|v]‖² / mean_v ‖E[a|v] − ā‖²`; 1 is best, None without variation."""
    values, index, counts = label.unique(return_inverse=True, return_counts=True)
    if len(values) < 2:
        return None
    zeros = acts.new_zeros(len(values), acts.shape[1], dtype=torch.float64)
    sums = [zeros.index_add(0, index, x.double()) / counts[:, None] for x in (acts, hat)]
    spread = (sums[0] - mean).square().sum(1).mean()
    return float(1 - (sums[1] - sums[0]).square().sum(1).mean() / spread)


def _atom(bench: Bench, split: Split, name: str) -> Float[Tensor, "n d_in"]:
    """The atom of each prompt's own value."""
    return bench.atoms_of(name)[split.labels[:, bench.section.index(name)]]


def _without(subject: Subject, strong: str, weak: list[str], bench: Bench, out: Outcomes) -> None:
    """Encodes `a − τ u_strong` with the same SAE, and looks for the weak attributes again."""
    section = bench.section
    for place, tau in enumerate(TAUS):
        if tau == 0:
            continue  # what interpretability records
        select, test = (
            subject.encode(split.acts - tau * _atom(bench, split, strong), split.known)
            for split in (section.select, section.test)
        )
        for name in weak:
            prop, edit = bench.properties[name], f"minus:{strong}"
            cuts = best_cuts(select.codes, dense_latents(select.codes), prop.select, len(prop.values))
            seen, found = (cut(codes.codes, cuts) for codes in (select, test))
            signed = bool((seen.value < 0).any() or (found.value < 0).any())
            table = f1_table(seen, prop.select, len(prop.values), signed)
            record_hits(AXIS, prop, table, found, out, edit=edit, k=place)
            written = along_atoms(test.by_latents, bench.atoms_of(name), prop.test, prop.keep)
            out.add(Key(AXIS, "written", name, edit, place), written)


def _dose_response(subject: Subject, name: str, bench: Bench, out: Outcomes) -> None:
    """Encodes `a + τ u_weak`: how large would it have to be?"""
    test, prop = bench.section.test, bench.properties[name]
    for dose in DOSES:
        hat = subject.encode(test.acts + dose * _atom(bench, test, name), test.known).by_latents
        written = along_atoms(hat, bench.atoms_of(name), prop.test, prop.keep)
        out.add(Key(AXIS, "written", name, "plus", round(100 * dose)), written)


MEASURE = Measure(measure, prepare)
