"""IOI's prompts beside their sources, and the null: a third person gives, so that nothing is indirect."""

from collections.abc import Sequence

import numpy as np
import torch

from saebench.kinds.base import Settings
from saebench.kinds.names.prompts import ROLES, Case, counterfactual, write_prompt
from saebench.kinds.names.sections import draw
from saebench.kinds.names.words import Words, token
from saebench.models.language_model import LanguageModel
from saebench.patching.pairs import Number, Pairs, Passage, Questions, stacked
from saebench.spec import NamesSpec, Task

NULL = ("giver", "order")
"""What sources change on the null: who gives, and who of the other two is named first."""


def names_pairs(task: Task[NamesSpec], model: LanguageModel, settings: Settings, number: Number) -> Questions:
    """Prompts of `select` and `test`; a source's pair of names lies in the same split.

    On the null two people are named and a third gives. Which of the two is called IO is drawn, so that
    neither their order nor the giver moves the mean difference of their logits.
    """
    words, _, batches = draw(task, model, settings.budget, settings.seed)
    rng, n = np.random.default_rng([settings.seed, 21]), len(words.names)

    def write(cases: Sequence[Case], givers: Sequence[int | None]) -> tuple[Passage, ...]:
        pairs = zip(cases, givers, strict=True)
        return tuple(Passage(*write_prompt(case, words, model, giver)) for case, giver in pairs)

    sets, chosen = {}, []
    for split in ("select", "test"):
        cases = batches[split].cases
        chosen = [cases[i] for i in sorted(rng.permutation(len(cases))[: getattr(number, split)])]
        distances = sorted({(c.s - c.io) % n for c in cases})
        itself = [None] * len(chosen)
        sets[split] = stacked(
            [
                _pairs(at, ROLES, chosen, write(chosen, itself), write(changed, itself), words, model)
                for at, role in enumerate(ROLES)
                for changed in [[counterfactual(c, role, n, distances, rng) for c in chosen]]
            ]
        )
    # the null is of the test's own prompts; they were drawn last
    givers = [_another((c.io, c.s), n, rng) for c in chosen]
    others = [_another((c.io, c.s, giver), n, rng) for c, giver in zip(chosen, givers, strict=True)]
    base = write(chosen, givers)
    flipped = write([c._replace(pos=1 - c.pos) for c in chosen], givers)
    null = [(0, write(chosen, others)), (1, flipped)]
    parts = [_pairs(at, NULL, chosen, base, source, words, model) for at, source in null]
    return Questions(sets["select"], sets["test"], stacked(parts), words.notes)


def _another(names: Sequence[int], n: int, rng: np.random.Generator) -> int:
    """A name that is none of these."""
    others = [i for i in range(n) if i not in names]
    return others[int(rng.integers(len(others)))]


def _pairs(
    at: int,
    attributes: tuple[str, ...],
    cases: Sequence[Case],
    base: tuple[Passage, ...],
    source: tuple[Passage, ...],
    words: Words,
    model: LanguageModel,
) -> Pairs:
    """Answer IO, distractor S, for sources that change attribute number `at`."""
    tokens = torch.tensor([token(model, name) for name in words.names])
    io, s = (torch.tensor([getattr(c, role) for c in cases]) for role in ("io", "s"))
    n = len(words.names)
    return Pairs(
        base,
        source,
        np.full(len(cases), at),
        attributes,
        tokens[io],
        tokens[s],
        np.array([min(c.io, c.s) * n + max(c.io, c.s) for c in cases]),
        np.array([(c.io, c.s) for c in cases]),
        np.array([c.template for c in cases]),
    )
