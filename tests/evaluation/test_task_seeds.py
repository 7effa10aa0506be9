"""Other draws of names and prompts: do a score's intervals say how far it moves? (docs/methods.md §2)

Scheme: every SAE is scored at eight task seeds. For every pair of seeds (28 an SAE and headline) the
difference of the two values is held against ± 1.96 √(SE₁² + SE₂²), the interval of a difference of two
independent draws; at least 94 % must lie inside.
"""

from itertools import combinations

import numpy as np
import pytest

from saebench.evaluation.api import make_arena
from saebench.evaluation.arena import Options
from saebench.evaluation.contestants import resolve
from saebench.models.loading import load_model
from saebench.scoring import score
from saebench.scoring.estimates import Estimate
from saebench.site import Site

SEEDS = range(8)
SAES = ("demo:standard", "demo:topk", "demo:topk-k32")


def headlines(model, seed: int) -> dict[tuple[str, str], tuple[float, float]]:
    """Value and standard error of every headline that is defined, by SAE and axis."""
    arena = make_arena("ioi", model, Options(budget="quick", seed=seed))
    (site,) = arena.sites([None], None)
    found = {}
    for name in SAES:
        (contestant,) = resolve(name)
        outcomes = arena.score(arena.realise(contestant, site), site).outcomes
        for axis, headline in score(outcomes, seed=seed).axes.items():
            if isinstance(headline.value, Estimate):
                found[name, axis] = (float(headline.value), headline.value.standard_error)
    assert isinstance(site, Site)
    return found


@pytest.mark.slow
def test_values_at_other_task_seeds_lie_inside_each_others_intervals() -> None:
    model = load_model("demo", device="cpu")
    seen = [headlines(model, seed) for seed in SEEDS]
    inside: dict[str, list[bool]] = {}
    for key in seen[0]:
        values = [found[key] for found in seen if key in found]
        for (a, error), (b, other) in combinations(values, 2):
            inside.setdefault(key[1], []).append(abs(a - b) <= 1.96 * np.hypot(error, other) + 1e-12)
    for axis, hits in inside.items():
        print(f"{axis}: {np.mean(hits):.1%} of {len(hits)} pairs of task seeds inside")
    assert np.mean([hit for hits in inside.values() for hit in hits]) >= 0.94
