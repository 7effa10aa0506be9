"""The order of samples is no part of a measurement: shuffled rows, the same scores."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from saebench.axes.bench import make_bench
from saebench.cross_section import CrossSection, LinearReadout, Split
from saebench.dictionaries.objects import from_object
from saebench.dictionaries.supervised import fit_supervised
from saebench.kinds.base import Settings
from saebench.kinds.synthetic import build
from saebench.scoring import Scored, score
from saebench.scoring.base import Entry
from saebench.scoring.estimates import Estimate
from saebench.site import Site
from saebench.spec import load_task
from saebench.synthetic.registry import make_generator
from saebench.synthetic.training import Recipe, fit


def drawn(entry: Entry) -> bool:
    """Controls that shuffle labels or draw latents row by row: another order is another draw."""
    return entry.name == "permuted_f1_star" or entry.edit == "random"


def reordered(split: Split, seed: int) -> Split:
    """The same rows in another order, everything that belongs to a row carried along."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    old = split.readout
    assert isinstance(old, LinearReadout) and split.query is not None

    def moved(rows: dict) -> dict[str, Tensor]:
        return {name: values[order] for name, values in rows.items()}

    readout = LinearReadout(old.weight, old.bias, old.head[order], old.answer[order], old.distractor[order])
    return Split(
        split.acts[order],
        split.labels[order],
        split.cluster[order],
        readout,
        moved(dict(split.source_acts)),
        moved(dict(split.source_labels)),
        moved(dict(split.expected)),
        split.query[order],
        row=split.row[order],
        source_row=moved(dict(split.source_row)),
    )


def shuffled(section: CrossSection) -> CrossSection:
    parts = {name: reordered(getattr(section, name), i) for i, name in enumerate(("fit", "select", "test"))}
    return replace(section, **parts)


def everything(sae, section: CrossSection) -> Scored:
    """All axes and the recovery scores, as `evaluate` collects them."""
    assert section.truth is not None
    bench = make_bench(section, section.truth, fit_supervised(section), ["recovery"])
    return score(bench.measure(from_object(sae)))


def values(scored: Scored) -> dict:
    return {
        e.identity: float(e.value) if isinstance(e.value, Estimate) else None
        for e in scored.entries
        if not drawn(e)
    }


def alike(one: float | None, other: float | None) -> bool:
    """Equal to the rounding of float32 sums, or both undefined."""
    if one is None or other is None:
        return one is other
    return one == pytest.approx(other, abs=1e-6, rel=1e-6)


@pytest.mark.parametrize(
    "name", ["independent", "correlated", "hierarchical", "occlusion", "splitting", "composed"]
)
def test_the_order_of_samples_moves_no_score(name):
    task = load_task(f"synthetic/{name}")
    made = make_generator(task)
    width = max(16, made.n_features)
    sae = fit(made, Recipe("batchtopk", width, made.true_l0(), samples=10_000, batch=256, lr=3e-3))
    section = build(task, made, Site("synthetic", "sample"), Settings("tiny", 0)).section
    one, two = everything(sae, section), everything(sae, shuffled(section))
    plain, other = values(one), values(two)
    assert set(plain) == set(other) and len(plain) > 40
    apart = {k: (v, other[k]) for k, v in plain.items() if not alike(v, other[k])}
    assert not apart
    headlines = [{k: v.value for k, v in scored.axes.items()} for scored in (one, two)]
    for axis, value in headlines[0].items():
        again = headlines[1][axis]
        assert isinstance(value, Estimate) == isinstance(again, Estimate), axis
        if isinstance(value, Estimate) and isinstance(again, Estimate):
            assert float(value) == pytest.approx(float(again), abs=1e-6), axis
