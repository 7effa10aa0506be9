"""Occlusion: are weaker features lost behind stronger ones? [PE §6, A.14]"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.axes.base import Bench, Measure, Subject, Tick
from saebench.axes.detection import record_hits
from saebench.cross_section import Split
from saebench.measures.detection import f1_table
from saebench.records.outcomes import Key, Outcomes
from saebench.scoring.occlusion import TAUS


def measure(subject: Subject, bench: Bench, out: Outcomes, seed: int, tick: Tick) -> None:
    """Attribute-wise reconstruction, and detection of weak attributes as a strong one is removed."""
    test = bench.section.test
    for at, attribute in enumerate(bench.section.attributes):
        value = _reconstructed(test.acts, subject.test.reconstruction, test.labels[:, at], bench.mean)
        if value is not None:
            key = Key("occlusion", "attribute_reconstruction", attribute.name)
            out.facts[key] = value
    if not subject.dictionary.reads_labels:
        for strong, weak in _pairs(bench):
            _surgical(subject, strong, weak, bench, out)
    tick("occlusion")


def _pairs(bench: Bench) -> list[tuple[str, list[str]]]:
    """Each strong attribute with the causally relevant ones that are weaker."""
    norm = {name: bench.outcomes.facts[Key("task", "norm", name)] for name in bench.causal}
    order = sorted(norm, key=lambda name: -norm[name])
    return [(strong, order[i + 1 :]) for i, strong in enumerate(order[:-1])]


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


def _surgical(subject: Subject, strong: str, weak: list[str], bench: Bench, out: Outcomes) -> None:
    """Encodes `a − τ u_{strong, value}` with the same SAE, and looks for the weak values again."""
    at = [v.name for v in bench.atoms.variables].index(strong)
    section = bench.section

    def without(split: Split, tau: float) -> Tensor:
        atom = bench.atoms.W_dec[bench.atoms.atoms_of(split.labels)[:, at]]
        return split.acts - tau * atom

    for place, tau in enumerate(TAUS):
        if tau == 0:
            continue  # the detectors of interpretability
        select, test = (
            subject.encode(without(split, tau), split.known).codes for split in (section.select, section.test)
        )
        signed = bool((select.value < 0).any() or (test.value < 0).any())
        for name in weak:
            prop = bench.properties[name]
            table = f1_table(select, prop.select, len(prop.values), signed)
            record_hits("occlusion", prop, table, test, out, edit=f"minus:{strong}", k=place)


MEASURE = Measure(1, measure)
