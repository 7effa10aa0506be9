"""IOI's sources that change several attributes at once, where somebody asks for them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from saebench.cross_section import Read, Split
from saebench.kinds.base import Built, Settings
from saebench.kinds.names import sections
from saebench.kinds.names.prompts import Case, counterfactual, write_prompt
from saebench.models.language_model import LanguageModel
from saebench.site import Site
from saebench.spec import NamesSpec, Task


def build(task: Task[NamesSpec], model: LanguageModel, site: Site, settings: Settings) -> Built:
    """IOI as a cross-section; `test` has a source for every set of attributes in `settings.sets` too.

    Raises:
        TaskError, SiteError: as `sections.build`.
    """
    built = sections.build(task, model, site, settings)
    test = built.section.test
    for name, roles in settings.sets.items():
        # of a single attribute there is a source already
        if name not in test.source_acts:
            test = _with_source(test, name, _written(task, model, settings, roles), model, site)
            settings.tick(f"sources of {name}")
    return replace(built, section=replace(built.section, test=test, sets=settings.sets))


def _written(
    task: Task[NamesSpec], model: LanguageModel, settings: Settings, roles: Sequence[str]
) -> sections.Written:
    """The test prompts with all of `roles` changed, the pair of names in the same split."""
    words, _, batches = sections.draw(task, model, settings.budget, settings.seed)
    cases, rng, n = batches["test"].cases, np.random.default_rng([settings.seed, 31]), len(words.names)
    distances = sorted({(case.s - case.io) % n for case in cases})
    for role in roles:
        cases = [counterfactual(case, role, n, distances, rng) for case in cases]
    return sections.Written(cases, [write_prompt(case, words, model) for case in cases])


def _with_source(
    test: Split, name: str, written: sections.Written, model: LanguageModel, site: Site
) -> Split:
    """The split with a further source; a perfect edit gives the answer that patching it in gives."""

    def at(there: Site) -> Tensor:
        return sections.activations(written.prompts, model, there)

    def read(hook: str) -> Read:
        assert test.reader is not None, "prompts have a language model"
        found = test.reader(hook)
        return Read(found.acts, {**found.source_acts, name: at(Site(hook, site.position))})

    acts, labels = at(site), _labels(written.cases).to(model.device)
    return replace(
        test,
        source_acts={**test.source_acts, name: acts},
        source_labels={**test.source_labels, name: labels},
        expected={**test.expected, name: test.readout.remembered({name: acts})[name].top},
        source_units={**test.source_units, name: labels[:, :2]},
        reader=read,
    )


def _labels(cases: Sequence[Case]) -> Tensor:
    return torch.tensor([(case.io, case.s, case.pos) for case in cases])
