"""Circuits set by hand: discovery returns exactly the heads that were planted, and none where nothing acts."""

import numpy as np
import pytest
from planted_circuits import HEADS, LAYERS, Head, build, direct, questions, relay

from saebench.discovery.candidates import components, every_site
from saebench.discovery.run import Plan, search
from saebench.records.discovery import Discovery
from saebench.spec import load_task

# for each of the two attributes: how many heads bring it to the end side by side, or "relay"
SHAPES = [(1, 0), (1, 1), (2, 0), (3, 0), ("relay", 0), (1, "relay"), ("relay", "relay"), (2, 1), (0, 2)]


def plant(shape: tuple, seed: int) -> list[list[Head]]:
    """The heads of each attribute, every one at another place, drawn at random."""
    rng = np.random.default_rng(seed)
    free = [(layer, head) for layer in range(LAYERS) for head in range(HEADS)]
    rng.shuffle(free)
    planted = []
    for attribute, paths in enumerate(shape):
        if paths == "relay":
            first = next(place for place in free if place[0] < LAYERS - 1)
            free.remove(first)
            second = next(place for place in free if place[0] > first[0])
            free.remove(second)
            planted.append(relay(first, second, attribute))
        else:
            planted.append([direct(*free.pop(0), attribute, gain=1 / max(1, paths)) for _ in range(paths)])
    return planted


def look(folder, planted: list[list[Head]], seed: int, **plan) -> Discovery:
    model = build(folder, [head for heads in planted for head in heads], seed)
    asked = questions(model, attributes=[at for at, heads in enumerate(planted) if heads], seed=seed)
    sites = components(every_site(model, ("first", "middle", "end")))
    return search(load_task("ioi"), model, asked, sites, sites, Plan("tiny", **plan))


@pytest.mark.parametrize("seed, shape", list(enumerate(SHAPES)), ids=map(str, SHAPES))
def test_exactly_the_planted_sites_are_found(tmp_path, seed, shape):
    planted = plant(shape, seed)
    found = look(tmp_path, planted, seed)
    by_name = {each.attribute: each for each in found.found}
    assert set(by_name) == {name for name, heads in zip(("one", "two"), planted, strict=True) if heads}
    for name, heads, paths in zip(("one", "two"), planted, shape, strict=True):
        if not heads:
            continue
        sites = {head.site for head in heads}
        assert {e.site for e in found.effects if e.attribute == name and e.real} == sites
        each = by_name[name]
        # of a chain one link is enough: the first, since both do the same
        wanted = {heads[0].site} if paths == "relay" else sites
        assert set(each.sites) == wanted
        assert each.share is not None and each.ci is not None and each.ci[0] >= 0.8
        assert set(each.redraws + each.templates) == {1.0}
    assert len(found.null) == len(by_name) and not any(each.sites for each in found.null)
    assert found.agreement.rank_correlation is not None and found.agreement.rank_correlation > 0.5


def test_a_first_pass_by_attribution_finds_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("saebench.discovery.run.SHORT_LIST", 6)
    planted = plant((2, "relay"), 11)
    found = look(tmp_path, planted, 11, first_pass="attribution")
    assert {each.attribute: set(each.sites) for each in found.found} == {
        "one": {head.site for head in planted[0]},
        "two": {planted[1][0].site},
    }
    run = [e for e in found.effects if e.effect is not None]
    mlps = {e.site for e in found.effects if "mlp" in e.site}
    # no MLP is left to gradients, and of 36 heads twelve at most are run
    assert mlps <= {e.site for e in run} and 6 <= len({e.site for e in run} - mlps) <= 12
    assert found.agreement.n == len(run)
    assert not any(e.real for e in found.effects if e.effect is None)
