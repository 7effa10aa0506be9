"""Over-splitting: is one feature scattered over many latents? [PE §6]"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saebench.axes.base import Bench, Measure, Property, Subject, Tick
from saebench.dictionaries.codes import SparseCodes
from saebench.measures.detection import F1Table, first_hit, grow_union, pairs
from saebench.records.outcomes import Key, Outcomes
from saebench.scoring.oversplitting import MISSED

FRAGMENT_PRECISION, FRAGMENT_RECALL = 0.9, 0.3
FRAGMENT_HITS, FRAGMENT_CLUSTERS = 5, 3
"""Right by chance a few times is no fragment: so many hits, in so many clusters."""


def measure(subject: Subject, bench: Bench, out: Outcomes, seed: int, tick: Tick) -> None:
    """Greedy unions of detectors for every value, and where in them each prompt is first found."""
    cluster = bench.section.select.cluster
    for attribute in bench.section.attributes:
        prop = bench.properties[attribute.name]
        if prop.keep.any():
            _measure_attribute(subject, prop, cluster, out)
    tick("over-splitting")


def _measure_attribute(subject: Subject, prop: Property, cluster: Int[Tensor, "n"], out: Outcomes) -> None:
    table = subject.table(prop, "select")
    select, test = (subject.detections(prop, split) for split in ("select", "test"))
    fragments, overlaps, effective = [], [], []
    norms = subject.dictionary.W_dec.norm(dim=1)
    for value in prop.kept:
        order = grow_union(select, table, prop.select == value, value).detectors
        for split, codes in (("select", select), ("test", test)):
            positive = getattr(prop, split) == value
            column = _encode_first(first_hit(codes, order), positive, len(order))
            key = Key("oversplitting", "first", prop.name, label=prop.values[value], split=split)
            out.add(key, column)
        pieces = _fragments(table, value)
        pieces = pieces[_clusters(select.fires(pieces), prop.select == value, cluster) >= FRAGMENT_CLUSTERS]
        fragments.append(len(pieces))
        if len(pieces) > 1:
            overlaps.append(_overlap(select, pieces))
        if len(order):
            effective.append(_effective(subject.test.codes, norms, order, prop.test == value))
    mean = {"fragments": fragments, "fragment_overlap": overlaps, "effective_latents": effective}
    for name, values in mean.items():
        if values:
            out.facts[Key("oversplitting", name, prop.name)] = sum(values) / len(values)


def _encode_first(first: Int[Tensor, "n"], positive: Bool[Tensor, "n"], size: int) -> Tensor:
    """±(1 + place of the first hit), + for positive prompts; ½ for a positive that is missed."""
    sign = torch.where(positive, 1.0, -1.0)
    return torch.where(first < size, sign * (first + 1), torch.where(positive, MISSED, 0.0))


def _fragments(table: F1Table, value: int) -> Int[Tensor, "m"]:
    """Detectors with precision ≥ 0.9, recall ≤ 0.3 and at least 5 hits for the value: right, but rarely."""
    hits = table.true_positives[:, value]
    precise = hits >= FRAGMENT_PRECISION * table.fires
    rare = hits <= FRAGMENT_RECALL * table.positives[value]
    return ((hits >= FRAGMENT_HITS) & precise & rare).nonzero()[:, 0]


def _clusters(
    fires: Bool[Tensor, "n m"], positive: Bool[Tensor, "n"], cluster: Int[Tensor, "n"]
) -> Int[Tensor, "m"]:
    """In how many clusters each detector is right."""
    n_detectors = fires.shape[1]
    row, place = (fires & positive[:, None]).nonzero(as_tuple=True)
    seen = pairs(cluster[row], place, n_detectors).unique() % max(1, n_detectors)
    return torch.bincount(seen, minlength=n_detectors)


def _overlap(codes: SparseCodes, detectors: Int[Tensor, "m"]) -> float:
    """Mean pairwise Jaccard overlap of the sets of prompts on which the detectors fire."""
    fires = codes.fires(detectors).float()
    both = fires.T @ fires
    size = both.diagonal()
    jaccard = both / (size[:, None] + size[None] - both)
    upper = torch.triu_indices(len(detectors), len(detectors), 1)
    return float(jaccard[upper[0], upper[1]].mean())


def _effective(
    codes: SparseCodes, norms: Float[Tensor, "d_sae"], order: Int[Tensor, "m"], positive: Bool[Tensor, "n"]
) -> float:
    """exp(entropy) of how what the union writes on positive prompts, |α_j| ‖w_j‖, is shared; 1 is ideal."""
    latents = (order % codes.d_sae).unique()
    mass = codes.dense(latents)[positive].abs().sum(0).double() * norms[latents].double()
    share = mass / mass.sum() if mass.sum() > 0 else mass
    share = share[share > 0]
    return float((-(share * share.log()).sum()).exp())


MEASURE = Measure(measure)
