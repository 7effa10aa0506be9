"""Control: can attributes be edited by changing few latents? [PE §4.2, A.16]"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from saebench.axes.base import Bench, Measure, Subject, Tick
from saebench.dictionaries.codes import at_rows
from saebench.dictionary import Intervention, LabelledDictionary
from saebench.edits.blocks import acts_beside, detectors_within, edits_beside, of_latents, within
from saebench.edits.few_latents import Edit, Exchange, aware, greedy, random_swap, swap_all
from saebench.edits.writers import SPECIFIC_SIZES, WRITER_SIZES, partners, strength, writers_edit
from saebench.records.outcomes import Key, Outcomes
from saebench.scoring import Context
from saebench.scoring.causal import weights
from saebench.scoring.control import AXIS
from saebench.scoring.settings import EDIT_SIZES

STORED = {
    "random": ("success",),
    "permuted": ("success",),
    "writers": ("success", "kl"),
    "specific_writers": ("kl",),
    "partner": ("kl",),
}
"""What is kept of edits that are not looked at in every way: a stored outcome costs space."""


def prepare(bench: Bench, seed: int, tick: Tick) -> None:
    """Which attributes weigh anything, by scoring's own rule: only those are edited by their writers."""
    bench.learned[AXIS] = list(weights(Context.of(bench.outcomes, seed)))


def measure(subject: Subject, bench: Bench, out: Outcomes, seed: int, tick: Tick) -> None:
    """Agnostic, aware, random and full edits of every attribute, each size, over one clean run."""
    for at, attribute in enumerate(bench.section.attributes):
        name = attribute.name
        found = few_latents(subject, name, [name], bench)
        edits = {(kind, k): edit.acts for kind, sizes in found.items() for k, edit in sizes.items()}
        edits |= by_chance(subject, name, bench, seed)
        if name in bench.learned[AXIS]:
            edits |= _writers(subject, at, bench, seed)
        run_edits(edits, AXIS, name, bench, out, STORED)
        add_costs(found, AXIS, name, out)
        tick(f"control of {name}")


def few_latents(
    subject: Subject, source: str, exchanged: Sequence[str], bench: Bench, sizes: Sequence[int] = EDIT_SIZES
) -> dict[str, dict[int, Edit]]:
    """Agnostic and aware edits of every size; of several sites, of that size at each.

    The codes come from the sources of a name; an aware edit exchanges the values of some attributes.
    """
    section, dictionary = bench.section, subject.dictionary
    test = section.test
    alpha, beta = subject.test.codes, subject.source(source).codes
    tables = [subject.table(bench.properties[name], "select").f1 for name in exchanged]
    places = [section.index(name) for name in exchanged]
    values = [(test.labels[:, at], test.source_labels[source][:, at]) for at in places]
    agnostic, knowing = [], []
    for latents, columns in dictionary.blocks:
        base, rows = test.acts[:, columns], dictionary.W_dec[latents, columns]
        explained = subject.test.by_latents[:, columns]
        power = explained.square().sum(1, keepdim=True)
        # where nothing is reconstructed no latent has a share in it
        weight = torch.where(power > 0, explained / power, 0.0)
        codes = within(alpha, latents), within(beta, latents)
        there = [
            Exchange(detectors_within(f1, dictionary.d_sae, latents), *both)
            for f1, both in zip(tables, values, strict=True)
        ]
        target = test.source_acts[source][:, columns]
        agnostic.append(greedy(base, target, *codes, rows, sizes, weight))
        knowing.append(aware(base, *codes, rows, there, sizes, weight))
    return {"agnostic": edits_beside(agnostic), "aware": edits_beside(knowing)}


def by_chance(
    subject: Subject, name: str, bench: Bench, seed: int, sizes: Sequence[int] = EDIT_SIZES
) -> dict[tuple[str, int], Tensor]:
    """Agnostic edits with a shuffled decoder, random swaps of every size, and the swap of all latents."""
    test, dictionary = bench.section.test, subject.dictionary
    alpha, beta = subject.test.codes, subject.source(name).codes
    shuffled = dictionary.W_dec if dictionary.reads_labels else dictionary.shuffled(seed)
    permuted, drawn = [], []
    for latents, columns in dictionary.blocks:
        base, source = test.acts[:, columns], test.source_acts[name][:, columns]
        codes = within(alpha, latents), within(beta, latents)
        if not dictionary.reads_labels:
            edits = greedy(base, source, *codes, shuffled[latents, columns], sizes)
            permuted.append({k: edit.acts for k, edit in edits.items()})
        drawn.append(random_swap(base, *codes, dictionary.W_dec[latents, columns], sizes, seed))
    found = {("permuted", k): acts for k, acts in acts_beside(permuted).items()} if permuted else {}
    found |= {("random", k): acts for k, acts in acts_beside(drawn).items()}
    return found | {("full", -1): swap_all(test.acts, alpha, beta, dictionary.W_dec)}


def _writers(subject: Subject, at: int, bench: Bench, seed: int) -> dict[tuple[str, int], Tensor]:
    """The writers' edit, the same by specific writers alone, and all latents of the partner.

    A labelled dictionary makes its own edit from labels instead: it is the ceiling of these.
    """
    test, dictionary, name = bench.section.test, subject.dictionary, bench.section.attributes[at].name
    old, new = test.labels[:, at], test.source_labels[name][:, at]
    if isinstance(dictionary, LabelledDictionary):
        source, known = test.source_acts[name], test.source_known(name)
        return {("own", -1): dictionary.edit(at, test.acts, test.known, source, known)}
    others = partners(test.labels, new, at, test.content, seed, test.template)
    alpha, beta = subject.test.codes, at_rows(subject.test.codes, others)
    prop = bench.properties[name]
    writers = subject.writers(prop, bench.atoms_of(name))
    edits = {("partner", -1): swap_all(test.acts, alpha, beta, dictionary.W_dec)}
    for kind, specific, sizes in (
        ("writers", False, WRITER_SIZES),
        ("specific_writers", True, SPECIFIC_SIZES),
    ):
        gone, come = (strength(writers, codes, v, specific) for codes, v in ((alpha, old), (beta, new)))
        found = []
        for latents, columns in dictionary.blocks:
            base, rows = test.acts[:, columns], dictionary.W_dec[latents, columns]
            wrote = gone[of_latents(alpha, latents)], come[of_latents(beta, latents)]
            codes = within(alpha, latents), within(beta, latents)
            found.append(writers_edit(base, *codes, rows, *wrote, sizes))
        edits |= {(kind, e): acts for e, acts in acts_beside(found).items()}
    return edits


def measure_intervention(intervention: Intervention, bench: Bench, out: Outcomes, tick: Tick) -> None:
    """The one edit that an intervention makes of every attribute."""
    test = bench.section.test
    for attribute in bench.section.attributes:
        edited = intervention.edit(attribute.name, test.acts, test.source_acts[attribute.name])
        run_edits({("intervention", -1): edited}, AXIS, attribute.name, bench, out)
        tick(f"control of {attribute.name}")


def run_edits(
    edits: Mapping[tuple[str, int], Tensor],
    axis: str,
    name: str,
    bench: Bench,
    out: Outcomes,
    stored: Mapping[str, Sequence[str]] = {},
) -> None:
    """Records what the model answers under edits from the sources of a name; `stored` says what is kept of a kind."""
    test = bench.section.test
    runs = test.readout.run(edits, reference=test.source_acts[name])
    for (kind, k), run in runs.items():
        found = {"success": run.top == test.expected[name], "ld": run.ld, "kl": run.kl}
        for score in stored.get(kind, tuple(found)):
            out.add(Key(axis, score, name, kind, k), found[score])


def add_costs(found: Mapping[str, Mapping[int, Edit]], axis: str, name: str, out: Outcomes) -> None:
    """Records how many latents edits changed and how much of the reconstruction they took away."""
    for kind, sizes in found.items():
        for k, edit in sizes.items():
            out.add(Key(axis, "n_changed", name, kind, k), edit.n_changed)
            out.add(Key(axis, "removed_weight", name, kind, k), edit.removed_weight)


MEASURE = Measure(measure, prepare, intervene=measure_intervention)
