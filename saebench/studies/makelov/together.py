"""Edits of several attributes at once: position and subject, and all three [PE §4.2]."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from saebench.axes.base import Subject
from saebench.cross_section import Outcome
from saebench.dictionaries.codes import SparseCodes, difference
from saebench.dictionaries.supervised import with_attribute
from saebench.dictionary import Dictionary, Known, LabelledDictionary
from saebench.edits.few_latents import Edit, add_codes, by_detector, greedy, only, rank_in_row, swap_all
from saebench.kinds.names.together import Source, joint_sources
from saebench.scoring.control import UNMOVED
from saebench.scoring.estimates import Estimate, ratio
from saebench.scoring.settings import EDIT_SIZES
from saebench.studies.makelov.stage import Stage, cells
from saebench.studies.rows import Row

SETS = (("io",), ("s",), ("pos",), ("s", "pos"), ("io", "s", "pos"))
"""What is changed together; single attributes for comparison, by the same source as in control."""
SIZES = (*EDIT_SIZES, 6)
"""Those of control, and the paper's largest."""


def rows(stage: Stage, names: Sequence[str]) -> Iterator[Row]:
    """Every edit of every set: how often it succeeds, how far LD and the answers follow the source."""
    test = stage.bench.section.test
    for roles in SETS:
        source = source_of(stage, roles)
        ceiling = {("supervised", 0): _labelled(stage.bench.ceiling, roles, stage, source)}
        references = {("none", 0): test.acts, ("source", 0): source.acts, **ceiling}
        runs = test.readout.run(references, reference=source.acts)
        for key in references:
            yield _row(stage, stage.row("reference"), roles, key, runs, runs[key], source, None)
        for row, subject in stage.subjects(names):
            edits = made(subject, roles, stage, source)
            done = test.readout.run({key: edit.acts for key, edit in edits.items()}, reference=source.acts)
            for key, edit in edits.items():
                changed = float(edit.n_changed.float().mean())
                yield _row(stage, row, roles, key, runs, done[key], source, changed)


def source_of(stage: Stage, roles: Sequence[str]) -> Source:
    """The source of a set of attributes; of one attribute that of the task."""
    test = stage.bench.section.test
    if len(roles) == 1:
        return Source(test.source_acts[roles[0]], test.source_labels[roles[0]])
    return joint_sources(stage.task, stage.model, stage.site, stage.settings, roles)


def made(subject: Subject, roles: Sequence[str], stage: Stage, source: Source) -> dict[tuple[str, int], Edit]:
    """Agnostic, aware and permuted edits of every size, and the swap of all latents.

    An agnostic edit of size k changes k latents for the whole set. An aware one of size e takes out, for each
    attribute, the e active latents that rank highest for its old value and puts in the e for its new one.
    """
    test, dictionary = stage.bench.section.test, subject.dictionary
    beta = subject.encode(source.acts, Known(source.labels)).codes
    alpha, W_dec = subject.test.codes, dictionary.W_dec
    edits = {("agnostic", k): e for k, e in greedy(test.acts, source.acts, alpha, beta, W_dec, SIZES).items()}
    edits |= {("aware", e): _aware(subject, roles, stage, source, beta, e) for e in SIZES}
    if isinstance(dictionary, Dictionary):
        shuffled = dictionary.shuffled(stage.arena.options.seed)
        null = greedy(test.acts, source.acts, alpha, beta, shuffled, SIZES)
        edits |= {("permuted", k): edit for k, edit in null.items()}
    change = difference(alpha, beta)
    full = swap_all(test.acts, alpha, beta, W_dec)
    return edits | {("full", 0): Edit(full, change.per_row, torch.zeros(len(full)))}


def _aware(
    subject: Subject, roles: Sequence[str], stage: Stage, source: Source, beta: SparseCodes, size: int
) -> Edit:
    section = stage.bench.section
    test, alpha = section.test, subject.test.codes
    parts = []
    for codes, labels in ((alpha, test.labels), (beta, source.labels)):
        chosen = torch.zeros(len(codes.row), dtype=torch.bool, device=codes.row.device)
        for role in roles:
            f1 = subject.table(stage.bench.properties[role], "select").f1
            chosen |= rank_in_row(codes, by_detector(codes, f1, labels[:, section.index(role)])) < size
        parts.append(only(codes, chosen))
    change = difference(*parts)
    acts = add_codes(test.acts, change, subject.dictionary.W_dec)
    return Edit(acts, change.per_row, torch.zeros(len(acts), device=acts.device))


def _labelled(ceiling: LabelledDictionary, roles: Sequence[str], stage: Stage, source: Source) -> Tensor:
    """The supervised edit: the atoms of all old values out, of all new ones in."""
    section = stage.bench.section
    test, labels = section.test, section.test.labels
    for role in roles:
        labels = with_attribute(labels, source.labels, section.index(role))
    old, new = (ceiling.encode(test.acts, Known(of)).codes for of in (test.labels, labels))
    return test.acts + (new - old) @ ceiling.W_dec


def _row(
    stage: Stage,
    begun: Row,
    roles: Sequence[str],
    key: tuple[str, int],
    references: dict[tuple[str, int], Outcome],
    run: Outcome,
    source: Source,
    changed: float | None,
) -> Row:
    """Success: the answer is what patching the source in gives. LD moved and fidelity: 0 no edit, 1 the source."""
    boot = stage.ctx.test.with_sources(source.labels[:, :2].numpy(force=True))
    wanted, clean = references["source", 0], references["none", 0]

    def mean(column: Tensor) -> Estimate:
        found = boot.mean(column.double().numpy(force=True))
        assert isinstance(found, Estimate), "there are test prompts"
        return found

    assert run.kl is not None and clean.kl is not None
    moved = ratio(mean(run.ld - clean.ld), mean(wanted.ld - clean.ld), UNMOVED)
    left = ratio(mean(run.kl), mean(clean.kl), "the source patch does not change the answers")
    return {
        **begun,
        "attributes": "+".join(roles),
        "edit": key[0],
        "k": key[1],
        "n_changed": "" if changed is None else changed,
        **cells("success", mean(run.top == wanted.top)),
        **cells("ld_moved", moved),
        **cells("fidelity", 1 - left if isinstance(left, Estimate) else left),
    }
