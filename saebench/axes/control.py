"""Control: can attributes be edited by changing few latents? [PE §4.2, A.16]"""

import torch
from torch import Tensor

from saebench.axes.base import Bench, Measure, Subject, Tick
from saebench.dictionary import Intervention
from saebench.edits.few_latents import EDIT_SIZES, Edit, aware, greedy, random_swap, swap_all
from saebench.records.outcomes import Key, Outcomes

_SUCCESS_ONLY = ("random", "permuted")
"""Edits kept as references: their success is enough, and a stored outcome costs space."""


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
        _run(edits, name, bench, out)
        for kind, sizes in found.items():
            for k, edit in sizes.items():
                out.add(Key("control", "n_changed", name, kind, k), edit.n_changed)
                out.add(Key("control", "removed_weight", name, kind, k), edit.removed_weight)
        tick(f"control of {name}")


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
        out.add(Key("control", "success", name, kind, k), run.top == test.expected[name])
        if kind not in _SUCCESS_ONLY:
            out.add(Key("control", "ld", name, kind, k), run.ld)
            out.add(Key("control", "kl", name, kind, k), run.kl)


MEASURE = Measure(1, measure, intervene=measure_intervention)
