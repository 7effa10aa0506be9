"""Several sites edited together: theorems on a world whose activation is cut in two, and on one where a value
is carried twice."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted_circuits import VALUES, build, direct, questions
from worlds import Planted, bench_of, entry, measure, two_groups

from saebench.axes.bench import make_bench
from saebench.cross_section import Attribute, CrossSection, Split
from saebench.dictionaries.controls import PCA, Identity
from saebench.dictionaries.joint import JointDictionary
from saebench.dictionaries.supervised import fit_supervised
from saebench.discovery.scan import place
from saebench.errors import SiteError
from saebench.evaluation.contestants import Realised
from saebench.evaluation.several_sites import make_benches
from saebench.evaluation.several_sites import measure as measure_sites
from saebench.patching import PatchedReadout, remembered_beside
from saebench.records.outcomes import Key
from saebench.records.parts import flat, parted
from saebench.scoring import score
from saebench.scoring.estimates import Bootstrap
from saebench.scoring.several_sites import mean
from saebench.site import Site, Span

HALVES = (Span("blocks.0.hook_mlp_out@end", 0, 20), Span("blocks.1.hook_mlp_out@end", 20, 40))


def bench(section: CrossSection, axes=None):
    supervised = fit_supervised(section)
    return make_bench(section, supervised, supervised, axes=axes)


@pytest.fixture(scope="module")
def world():
    section, rows, bias = two_groups(noise=0.3)
    return section, rows, bias


@pytest.fixture(scope="module")
def cut(world):
    return make_benches(replace(world[0], spans=HALVES), (), bench)


def halves(section: CrossSection) -> list[PCA]:
    return [PCA(section.fit.acts[:, span.columns], 6) for span in HALVES]


def scored(cut, parts):
    made = JointDictionary("two", parts)
    realised = Realised(made, None, (), tuple(parts))  # pyright: ignore[reportArgumentType]
    return measure_sites(realised, cut, 0, lambda what: None)


def test_a_joint_edit_of_one_site_is_that_site_alone(world):
    section, rows, bias = world
    alone, axes = bench_of(section), ("approximation", "control")
    single = Planted(rows, bias)
    one = measure(single, alone, axes)
    other = measure(JointDictionary("same", [single]), alone, axes)
    assert one.columns.keys() == other.columns.keys()
    assert all((one[key] == other[key]).all() for key in one.columns)


def test_all_sites_with_the_sources_activations_are_the_source_patch(world, cut):
    section = world[0]
    parts = [Identity(section.mean[span.columns]) for span in HALVES]
    out = scored(cut, parts)
    for name in ("one", "two"):
        whole = out[Key("control", "ld", name, "full")]
        assert np.allclose(whole, out[Key("task", "ld", name, "source")], atol=1e-4)
        # and one of the two is not
        assert np.abs(whole - out.parts[HALVES[0].site][Key("task", "ld", name, "source")]).max() > 0.1


def test_sizes_of_edits_are_per_site(world, cut):
    parts = halves(world[0])
    out = scored(cut, parts)
    pairs = zip(parts, cut.section.parts(), strict=True)
    alone = [measure(part, bench(section), ("control",)) for part, section in pairs]
    for kind, k in (("agnostic", 1), ("agnostic", 4), ("aware", 2)):
        key = Key("control", "n_changed", "one", kind, k)
        assert (out[key] == alone[0][key] + alone[1][key]).all()
    assert out[Key("control", "n_changed", "one", "agnostic", 2)].max() == 4


def test_what_belongs_to_one_site_is_the_mean_over_sites(world, cut):
    parts = halves(world[0])
    out = scored(cut, parts)
    joint = score(out)
    single = [score(measure(part, bench(s))) for part, s in zip(parts, cut.section.parts(), strict=True)]
    for axis in ("interpretability", "oversplitting"):
        values = [float(s.axes[axis].value) for s in single]
        assert float(joint.axes[axis].value) == pytest.approx(np.mean(values))
        assert "mean over 2 of 2 sites" in joint.axes[axis].note
    f1 = [entry(s, "f1_star", "one").value for s in single]
    assert float(entry(joint, "f1_star", "one").value) == pytest.approx(float(mean(f1)))
    assert set(joint.axes) == set(single[0].axes)


def test_outcomes_of_the_parts_survive_the_table(world, cut):
    out = scored(cut, halves(world[0]))
    again = parted(flat(out))
    assert again.parts.keys() == out.parts.keys() and again.columns.keys() == out.columns.keys()
    for site, part in out.parts.items():
        assert again.parts[site].columns.keys() == part.columns.keys()
        assert again.parts[site].facts == part.facts
        assert set(again.parts[site].cluster) == set(part.cluster)
    one, other = score(out), score(again)
    assert {n: float(h.value) for n, h in one.axes.items() if h.n} == {
        n: float(h.value) for n, h in other.axes.items() if h.n
    }
    # a table of one site has no parts
    assert parted(out.parts[HALVES[0].site]).parts == {}


def carried_twice(folder) -> tuple[CrossSection, list[str]]:
    """Two heads bring half of a value each to the answer; activations of both, side by side."""
    heads = [direct(0, 1, 0, 0.5), direct(2, 3, 0, 0.5)]
    model = build(folder, heads, 0)
    sites = [Site.parse(head.site) for head in heads]
    splits = {}
    for number, name in enumerate(("fit", "select", "test")):
        pairs = questions(model, 120, (0,), seed=10 * number).select
        places = [place(site, pairs.base) for site in sites]
        tokens, others = ([p.tokens for p in side] for side in (pairs.base, pairs.source))
        values = torch.stack([pairs.answer, pairs.distractor], 1)
        values = values - model.tokenizer.convert_tokens_to_ids("a0")
        readout = PatchedReadout(model, tokens, places, pairs.answer, pairs.distractor)
        source = remembered_beside(model, others, [place(site, pairs.source) for site in sites])
        splits[name] = Split(
            readout.clean(),
            values[:, :1],
            torch.arange(len(pairs)),
            readout,
            {"one": source},
            {"one": values[:, 1:]},
            {"one": pairs.distractor},
        )
    spans = tuple(Span(head.site, 16 * i, 16 * (i + 1)) for i, head in enumerate(heads))
    attribute = Attribute("one", tuple(f"a{i}" for i in range(VALUES)))
    return CrossSection((attribute,), **splits, spans=spans), [head.site for head in heads]


def test_joint_supervised_edits_beat_the_best_single_site_where_a_value_is_carried_twice(tmp_path):
    section, sites = carried_twice(tmp_path)
    key = Key("task", "ld", "one", "ceiling")
    made = make_benches(section, (), bench)
    assert list(made.parts) == sites
    joint, singles = made.outcomes[key], [part.outcomes[key] for part in made.parts.values()]
    clean = made.outcomes[Key("task", "ld", edit="clean")]
    boot = Bootstrap(np.arange(len(joint)))
    # LD is of the base's value against the source's: it falls to its opposite where the edit is whole
    assert joint.mean() < -0.9 * clean.mean()
    for single in singles:
        gain = boot.mean(single - joint)
        assert gain.excludes_zero and float(gain) > 0.5 * float(clean.mean())


def test_sites_that_overlap_are_refused():
    head, whole = "blocks.1.attn.hook_z[2]@end", "blocks.1.attn.hook_z@end"
    for text in (f"{head} & {head}", f"{head} & {whole}", f"{whole} & {head}"):
        with pytest.raises(SiteError, match="occurs twice"):
            Site.parse(text)
    both = Site.parse(f"{head} & blocks.1.attn.hook_z[3]@end")
    assert Site.parse(str(both)) == both and [part.head for part in both.parts] == [2, 3]
    assert Site.joined([Site.parse(head)]) == Site.parse(head)
