"""IOI's sources that change several attributes at once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.kinds.base import Settings
from saebench.kinds.names.prompts import counterfactual, write_prompt
from saebench.kinds.names.sections import draw
from saebench.models.language_model import LanguageModel
from saebench.patching import Placement, remembered_beside
from saebench.site import Site
from saebench.spec import NamesSpec, Task


class Source(NamedTuple):
    """What sources hold at a site, prompt by prompt of `test`, and the values that they have."""

    acts: Float[Tensor, "n d_in"]
    labels: Int[Tensor, "n 3"]


def joint_sources(
    task: Task[NamesSpec], model: LanguageModel, site: Site, settings: Settings, roles: Sequence[str]
) -> Source:
    """The test prompts with all of `roles` (of io, s, pos) changed, the pair of names in the same split."""
    words, _, batches = draw(task, model, settings.budget, settings.seed)
    cases, rng, n = batches["test"].cases, np.random.default_rng([settings.seed, 31]), len(words.names)
    distances = sorted({(case.s - case.io) % n for case in cases})
    for role in roles:
        cases = [counterfactual(case, role, n, distances, rng) for case in cases]
    prompts = [write_prompt(case, words, model) for case in cases]
    places = [
        Placement(part.hook, torch.tensor([p.positions[part.position] for p in prompts]), part.head)
        for part in site.parts
    ]
    acts = remembered_beside(model, [p.tokens for p in prompts], places)
    return Source(acts, torch.tensor([(case.io, case.s, case.pos) for case in cases], device=acts.device))
