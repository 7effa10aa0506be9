"""What latents stand for, how often they write against the reconstruction, and what is left with the best alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from saebench.axes.base import Bench, Subject
from saebench.axes.interpretability import LARGEST_UNION, Candidate, candidates, matching
from saebench.edits.few_latents import add_codes, only
from saebench.kinds.names.sections import draw
from saebench.measures.detection import explain, f1_table, frequent
from saebench.scoring.estimates import Bootstrap, Estimate, ratio
from saebench.scoring.interpretability import EXPLAINED_AT
from saebench.studies.makelov.stage import Stage, cells
from saebench.studies.rows import Row

GRID = tuple(i / 20 for i in range(21))
"""Thresholds of F1* at which latents are kept or removed (figures 30 and 31)."""
NOTHING = "none"
TOKEN = "current token"


def interpretations(stage: Stage, names: Sequence[str]) -> Iterator[Row]:
    """Figure 5: of the latents on at the site, the share that stands for each predicate.

    A latent stands for the predicate (union of up to ten values) that suits it best on `select`, if it
    reaches F1* ≥ .8 for it on `test`.
    """
    tokens = current_tokens(stage, [stage.site.position])
    for row, subject in stage.subjects(names):
        yield from shares(row, subject, stage.bench, tokens)


def shares(row: Row, subject: Subject, bench: Bench, tokens: Mapping[str, Tensor]) -> Iterator[Row]:
    """A row for every predicate; `tokens` are those that stand at the site, by split."""
    predicates = [*candidates(subject, bench), *_token(tokens, subject)]
    said, active = _best(subject, predicates)
    boot = Bootstrap(np.arange(len(active)))
    for at, name in enumerate([*(each.name for each in predicates), NOTHING]):
        share = boot.mean((said == at).double().numpy(force=True))
        yield {**row, "predicate": name, "latents": len(active), **cells("share", share)}


def current_tokens(stage: Stage, positions: Sequence[str]) -> dict[str, Tensor]:
    """The tokens at some positions of the prompts of `select` and `test`, one position after another."""
    _, _, batches = draw(stage.task, stage.model, stage.arena.options.budget, stage.arena.options.seed)
    return {
        split: torch.tensor([p.tokens[p.positions[at]] for at in positions for p in batches[split].prompts])
        for split in ("select", "test")
    }


def _best(subject: Subject, predicates: Sequence[Candidate]) -> tuple[Tensor, Tensor]:
    """Number of the predicate of every active latent, the last for none, and the active latents."""
    d_sae = subject.dictionary.d_sae
    chosen, star = (torch.full((2 * d_sae,), -torch.inf) for _ in range(2))
    which = torch.full((2 * d_sae,), len(predicates))
    for at, each in enumerate(predicates):
        found = explain(each.select, each.test, each.keep, each.most)
        better = (found.select.cpu() > chosen[: len(found.select)]).nonzero()[:, 0]
        chosen[better], star[better] = found.select.cpu()[better], found.f1_star.cpu()[better]
        which[better] = at
    # of a latent's two signs the one that suits better on `select`
    side = chosen.view(2, -1).argmax(0, keepdim=True)
    active = subject.test.codes.latent.unique().cpu()
    which, star = (values.view(2, -1).gather(0, side)[0][active] for values in (which, star))
    return torch.where(star >= EXPLAINED_AT, which, len(predicates)), active


def _token(tokens: Mapping[str, Tensor], subject: Subject) -> Iterator[Candidate]:
    """The token at the site's own position, which keys and values there are made of."""
    values, index = torch.cat(list(tokens.values())).unique(return_inverse=True)
    labels = dict(zip(tokens, index.split([len(t) for t in tokens.values()]), strict=True))
    keep = torch.ones(len(values), dtype=torch.bool)
    for name, label in labels.items():
        keep &= frequent(label, getattr(subject.section, name).cluster.cpu(), len(values))
    if keep.sum() > 1:
        select, test = (
            f1_table(codes.codes, labels[name].to(codes.offset.device), len(values), subject.signed)
            for name, codes in (("select", subject.select), ("test", subject.test))
        )
        yield Candidate(TOKEN, select, test, keep, LARGEST_UNION)


def negative_weights(stage: Stage, names: Sequence[str]) -> Iterator[Row]:
    """Share of active latents whose part `α_j w_jᵀ(â − b) / ‖â − b‖²` of a reconstruction is below 0, and their sum."""
    for row, subject in stage.subjects(names):
        codes, explained = subject.test.codes, subject.test.by_latents
        power = explained.square().sum(1, keepdim=True)
        weight = torch.where(power > 0, explained / power, 0.0)
        part = codes.value * (subject.dictionary.W_dec[codes.latent] * weight[codes.row]).sum(1)
        below = part < 0
        sums = [
            part.new_zeros(codes.n).index_add(0, codes.row, values).double().numpy(force=True)
            for values in (below.to(part), torch.ones_like(part), part.clamp(max=0))
        ]
        below, on, mass = (stage.ctx.test.mean(column) for column in sums)
        assert isinstance(below, Estimate) and isinstance(on, Estimate) and isinstance(mass, Estimate)
        share = ratio(below, on, "no latent is on")
        # a sum of weights that are all 0 is no share of prompts
        yield {**row, **cells("share", share), **cells("sum", replace(mass, share_of=None))}


def thresholds(stage: Stage, names: Sequence[str]) -> Iterator[Row]:
    """Figures 30 and 31: LD recovered with only the latents of F1* ≥ t, and without exactly those.

    0: mean ablation, 1: the clean run; the error of the reconstruction stays in either case.
    """
    test, boot = stage.bench.section.test, stage.ctx.test
    ends = test.readout.run({"clean": test.acts, "mean": stage.bench.mean.expand_as(test.acts)})
    clean, mean = ends["clean"].ld, ends["mean"].ld
    for row, subject in stage.subjects(names):
        codes, W_dec = subject.test.codes, subject.dictionary.W_dec
        edits, counts = {}, {}
        for t in GRID:
            chosen = matching(subject, stage.bench, list(stage.bench.properties), t)
            counts[t], inside = int(chosen.sum()), chosen[codes.latent]
            for edit, gone in (("keep", ~inside), ("remove", inside)):
                part = only(codes, gone)
                edits[edit, t] = add_codes(test.acts, part._replace(value=-part.value), W_dec)
        for (edit, t), run in test.readout.run(edits).items():
            over, whole = (boot.mean((ld - mean).double().numpy(force=True)) for ld in (run.ld, clean))
            assert isinstance(over, Estimate) and isinstance(whole, Estimate)
            value = ratio(over, whole, "the site does not matter")
            yield {**row, "edit": edit, "t": t, "latents": counts[t], **cells("ld_recovered", value)}
