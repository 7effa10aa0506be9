"""The edits that every dictionary's are read against: none, the source patch, the ceiling's own."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.cross_section import CrossSection
from saebench.dictionaries.codes import encode_split
from saebench.dictionaries.supervised import with_attribute
from saebench.dictionary import Known, LabelledDictionary
from saebench.edits.few_latents import greedy
from saebench.records.outcomes import Key, Outcomes
from saebench.scoring.settings import EDIT_SIZES


def edit_references(
    section: CrossSection, ceiling: LabelledDictionary, source: str, exchanged: Sequence[str], out: Outcomes
) -> None:
    """Records what the model answers without an edit, under the sources of a name, and under the ceiling's edit.

    `exchanged` are the attributes that the ceiling edits: those that the sources were made to change.
    """
    test, places = section.test, [section.index(name) for name in exchanged]
    acts, known = test.source_acts[source], test.source_known(source)
    supervised = exchange(ceiling, places, test.acts, test.known, acts, known)
    references = {"none": test.acts, "source": acts, "ceiling": supervised}
    runs = test.readout.remembered(references, reference=acts)
    out.add(Key("task", "asks", source), torch.stack([test.asks(at) for at in places]).all(0))
    attributes = torch.arange(len(section.attributes), device=acts.device)
    others = ~torch.isin(attributes, torch.tensor(places, device=acts.device))
    same = test.labels[:, others] == test.source_labels[source][:, others]
    out.add(Key("task", "alone", source), same.all(1))
    if source in test.source_units:
        for way, units in enumerate(test.source_units[source].T):
            out.add(Key("task", "source_unit", source, k=way), units)
    for edit, run in runs.items():
        out.add(Key("task", "ld", source, edit), run.ld)
        out.add(Key("task", "kl", source, edit), run.kl)
        out.add(Key("task", "success", source, edit), run.top == test.expected[source])
    if ceiling.sized_edits:
        _sized_edits(section, ceiling, source, out)


def exchange(
    ceiling: LabelledDictionary,
    places: Sequence[int],
    base: Float[Tensor, "n d_in"],
    known: Known,
    source: Float[Tensor, "n d_in"],
    source_known: Known,
) -> Float[Tensor, "n d_in"]:
    """The ceiling's own edits of several attributes (by number), one after another."""
    for at in places:
        base = ceiling.edit(at, base, known, source, source_known)
        known = known._replace(labels=with_attribute(known.labels, source_known.labels, at))
    return base


def _sized_edits(section: CrossSection, ceiling: LabelledDictionary, name: str, out: Outcomes) -> None:
    """Agnostic edits by a true dictionary: what k latents can do at most.

    One latent cannot exchange a one-hot value for another; where the truth is known, an edit of
    size k is held against the truth's own edit of that size.
    """
    test = section.test
    source = test.source_acts[name]
    alpha = encode_split(ceiling, test.acts, test.known).codes
    beta = encode_split(ceiling, source, test.source_known(name)).codes
    edits = greedy(test.acts, source, alpha, beta, ceiling.W_dec, EDIT_SIZES)
    for k, run in test.readout.run({k: edit.acts for k, edit in edits.items()}).items():
        out.add(Key("task", "success", name, "ceiling", k), run.top == test.expected[name])
