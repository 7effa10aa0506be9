"""Control: can attributes be edited by changing few latents? [PE §4.2, A.16]"""

import torch
from torch import Tensor

from saebench.axes.base import Bench, Measure, Subject, Tick
from saebench.dictionaries.codes import at_rows
from saebench.dictionary import Intervention, LabelledDictionary
from saebench.edits.few_latents import Edit, aware, greedy, random_swap, swap_all
from saebench.edits.writers import SPECIFIC_SIZES, WRITER_SIZES, partners, strength, writers_edit
from saebench.records.outcomes import Key, Outcomes
from saebench.scoring import Context
from saebench.scoring.causal import weights
from saebench.scoring.control import AXIS
from saebench.scoring.settings import EDIT_SIZES

_STORED = {
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
    test = bench.section.test
    alpha, W_dec = subject.test.codes, subject.dictionary.W_dec
    explained = subject.test.reconstruction - subject.test.offset
    power = explained.square().sum(1, keepdim=True)
    # where nothing is reconstructed no latent has a share in it
    weight = torch.where(power > 0, explained / power, 0.0)
    for at, attribute in enumerate(bench.section.attributes):
        name = attribute.name
        source, beta = test.source_acts[name], subject.source(name).codes
        table = subject.table(bench.properties[name], "select")
        old, new = test.labels[:, at], test.source_labels[name][:, at]
        found: dict[str, dict[int, Edit]] = {
            "agnostic": greedy(test.acts, source, alpha, beta, W_dec, EDIT_SIZES, weight),
            "aware": aware(test.acts, alpha, beta, W_dec, table.f1, old, new, EDIT_SIZES, weight),
        }
        edits: dict[tuple[str, int], Tensor] = {
            (kind, k): edit.acts for kind, sizes in found.items() for k, edit in sizes.items()
        }
        if not subject.dictionary.reads_labels:
            shuffled = subject.dictionary.shuffled(seed)
            for k, edit in greedy(test.acts, source, alpha, beta, shuffled, EDIT_SIZES).items():
                edits["permuted", k] = edit.acts
        drawn = random_swap(test.acts, alpha, beta, W_dec, EDIT_SIZES, seed)
        edits |= {("random", k): acts for k, acts in drawn.items()}
        edits["full", -1] = swap_all(test.acts, alpha, beta, W_dec)
        if name in bench.learned[AXIS]:
            edits |= _writers(subject, at, bench, seed)
        _run(edits, name, bench, out)
        for kind, sizes in found.items():
            for k, edit in sizes.items():
                out.add(Key(AXIS, "n_changed", name, kind, k), edit.n_changed)
                out.add(Key(AXIS, "removed_weight", name, kind, k), edit.removed_weight)
        tick(f"control of {name}")


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
        found = writers_edit(test.acts, alpha, beta, dictionary.W_dec, gone, come, sizes)
        edits |= {(kind, e): acts for e, acts in found.items()}
    return edits


def measure_intervention(intervention: Intervention, bench: Bench, out: Outcomes, tick: Tick) -> None:
    """The one edit that an intervention makes of every attribute."""
    test = bench.section.test
    for attribute in bench.section.attributes:
        edited = intervention.edit(attribute.name, test.acts, test.source_acts[attribute.name])
        _run({("intervention", -1): edited}, attribute.name, bench, out)
        tick(f"control of {attribute.name}")


def _run(edits: dict[tuple[str, int], Tensor], name: str, bench: Bench, out: Outcomes) -> None:
    test = bench.section.test
    runs = test.readout.run(edits, reference=test.source_acts[name])
    for (kind, k), run in runs.items():
        found = {"success": run.top == test.expected[name], "ld": run.ld, "kl": run.kl}
        for score in _STORED.get(kind, tuple(found)):
            out.add(Key(AXIS, score, name, kind, k), found[score])


MEASURE = Measure(measure, prepare, intervene=measure_intervention)
