"""Choices are made on `select`, scores on `test`."""

from dataclasses import replace

import torch
from worlds import Planted, bench_of, entry, scores, two_groups

from saebench.scoring.estimates import Estimate


def spoiled(which: str):
    """A world in which one split's labels of attribute one are shuffled."""
    section, rows, bias = two_groups()
    split = getattr(section, which)
    labels = split.labels.clone()
    labels[:, 0] = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)), 0]
    return replace(section, **{which: replace(split, labels=labels)}), rows, bias


def found(which: str) -> dict[str, float]:
    section, rows, bias = spoiled(which)
    scored = scores(Planted(rows, bias), bench_of(section))
    out = {}
    for name in ("f1_star", "inverse_n90"):
        value = entry(scored, name, "one").value
        assert isinstance(value, Estimate)
        out[name] = float(value)
    return out


def test_with_select_spoiled_nothing_can_be_chosen():
    assert found("select") == {"f1_star": found("select")["f1_star"], "inverse_n90": 0}
    assert found("select")["f1_star"] < 0.3


def test_with_test_spoiled_the_choice_is_right_but_the_score_is_low():
    values = found("test")
    assert values["f1_star"] < 0.3
    # the union is grown on `select`, but counts only if it detects on `test`
    assert values["inverse_n90"] == 0


def test_with_fit_spoiled_detection_is_untouched():
    values = found("fit")
    assert values["f1_star"] == 1
