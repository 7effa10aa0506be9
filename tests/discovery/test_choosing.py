"""The rule that chooses a set, on made-up effects: what is enough, what can be left out, what is nothing."""

import numpy as np
import pytest

from saebench.discovery.choosing import ALONE, NOTHING, Effects, choose, effects, pruned, real
from saebench.discovery.run import jaccard
from saebench.discovery.scan import Scan
from saebench.scoring.estimates import Bootstrap
from saebench.site import Site

N = 40
SITES = [Site(f"blocks.{i}.hook_mlp_out", "end") for i in range(10)]


class Imagined:
    """A patcher whose joint patch lowers LD, 1 in the clean run, by a rule."""

    def __init__(self, rule, ahead: int) -> None:
        self.rule, self.runs, self.ahead = rule, 0, ahead

    def joint(self, sets, near=()):
        self.runs += 1
        return np.stack([np.full(N, 1.0 - self.rule({SITES.index(site) for site in s})) for s in sets])


def chosen(rule, noise: float = 0.0, ahead: int = 16):
    imagined = Imagined(rule, ahead)
    value = np.array([-rule({i}) for i in range(len(SITES))])
    error = np.full(len(SITES), noise)
    single = Effects(value, value, value, np.zeros(len(SITES)), real(value, error))
    found = choose(imagined, SITES, single, np.ones(N), Bootstrap(np.arange(N)), 1.0, 0.8)
    return [SITES.index(site) for site in found.sites], found, imagined.runs


@pytest.mark.parametrize(
    "rule, wanted",
    [
        (lambda s: 1.0 * (4 in s), [4]),
        (lambda s: 0.5 * (4 in s) + 0.5 * (7 in s), [4, 7]),
        (lambda s: 0.7 * (4 in s) + 0.2 * (7 in s) + 0.1 * (9 in s), [4, 7]),
        # a chain: either link does it all, and the first is taken
        (lambda s: 1.0 * bool({3, 8} & s), [3]),
        # a pair that does nothing unless both are patched
        (lambda s: 1.0 * ({2, 6} <= s), [2, 6]),
        # one that works against the rest is left out
        (lambda s: 1.0 * (1 in s) - 0.05 * (5 in s), [1]),
    ],
)
def test_the_set_is_the_smallest_that_is_enough(rule, wanted):
    found, choice, _ = chosen(rule)
    assert found == wanted and choice.reason is None and choice.of == tuple(SITES)
    # however many sets are tried in one pass
    assert chosen(rule, ahead=1)[0] == chosen(rule, ahead=3)[0] == wanted


def test_nothing_is_chosen_where_nothing_acts():
    found, choice, runs = chosen(lambda s: 0.0)
    assert found == [] and choice.reason == NOTHING and runs == 1


def test_where_all_together_cancel_the_strongest_site_is_the_whole():
    found, choice, _ = chosen(lambda s: 1.0 * (len({0, 1} & s) == 1))
    assert found == [0] and choice.reason == ALONE and choice.of == (SITES[0],)


def test_a_long_list_of_idle_sites_goes_in_few_steps():
    asked = []

    def enough(sets, near):
        assert all(set(sites) < set(near) for sites in sets)
        asked.append(len(sets))
        return [{many[3], many[170]} <= set(sites) for sites in sets]

    many = [Site("blocks.0.hook_mlp_out", f"p{i}") for i in range(250)]
    assert pruned(many, enough) == [many[3], many[170]] and len(asked) < 40 and sum(asked) < 60


def test_effects_are_tested_together_and_have_to_be_large():
    value = np.array([0.3, 0.3, 0.04, 0.0, 0.3])
    error = np.array([0.01, 0.15, 0.001, 0.0, 0.0])
    # two standard errors are enough for one number and not for one of five
    assert real(value, error).tolist() == [True, False, False, False, True]
    assert real(value[1:2], error[1:2]).tolist() == [True]


def test_the_interval_of_a_mean_does_not_grow_with_the_number_of_prompts_that_a_resample_holds():
    # both of a prompt's names are resampled: some resamples hold half as many prompts, others twice as many
    units = np.stack([np.arange(24) % 6, np.arange(24) // 4], axis=1)
    change = np.stack([np.full(24, -0.3), np.linspace(-0.35, -0.25, 24)], axis=1)
    found = effects(
        Scan(np.ones(24), change, change < -1), Bootstrap(np.arange(24), units, n_resamples=400), 1.0
    )
    assert found.low[0] == pytest.approx(-0.3) == found.high[0] and found.real.all()
    assert -0.36 < found.low[1] < found.value[1] < found.high[1] < -0.24


def test_overlap():
    assert jaccard(SITES[:2], SITES[1:3]) == pytest.approx(1 / 3)
    assert jaccard([], []) == 1.0 and jaccard([], SITES[:1]) == 0.0
