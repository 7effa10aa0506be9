"""Recovery: which of the true features a dictionary has found; synthetic tasks only (docs/methods.md §9).

Not one of the five axes, which ask what is needed on real models too: a set of scores beside them.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saebench.axes.base import Bench, Measure, Subject, Tick
from saebench.dictionaries.codes import SparseCodes, encode_split
from saebench.dictionary import encode_any
from saebench.measures import recovery as rec
from saebench.measures.detection import squared_norm
from saebench.records.outcomes import LATENTS, Key, Outcomes
from saebench.scoring.recovery import AXIS, CHILDREN, FEATURES
from saebench.synthetic.oracle import Oracle

_RARE = 1e-3
_NULL_DRAWS, _SMALL = 8, 2**20
_SMALLEST_NORM = 1e-6


def measure(subject: Subject, bench: Bench, out: Outcomes, seed: int, tick: Tick) -> None:
    """Per-feature, per-latent and per-sample numbers."""
    truth = bench.section.truth
    assert isinstance(truth, Oracle), "measured on generated data, which knows its features"
    dictionary, d_sae = subject.dictionary, subject.dictionary.d_sae
    cluster = {FEATURES: torch.arange(truth.d_sae).numpy(), LATENTS: torch.arange(d_sae).numpy()}
    out.cluster = {**out.cluster, **cluster}
    cos = rec.cosines(truth.W_dec, dictionary.W_dec)
    matching = rec.match(cos)
    known = encode_split(truth, bench.section.test.acts, bench.section.test.known).codes
    _directions(cos, matching, out)
    _null_directions(truth, known, d_sae, seed, out)
    _detection(subject, known, cos, matching, seed, out)
    _reconstruction(subject, bench, out)
    _phenomena(subject, truth, known, matching, seed, out)
    tick("recovery")


def _feature(score: str) -> Key:
    return Key(AXIS, score, split=FEATURES)


def _latent(score: str) -> Key:
    return Key(AXIS, score, split=LATENTS)


def _directions(cos: Tensor, matching: rec.Matching, out: Outcomes) -> None:
    out.add(_feature("cosine"), matching.cosine.abs())
    out.add(_feature("matched"), matching.matched)
    out.add(_feature("recovered"), matching.cosine.abs() > rec.RECOVERED_AT)
    out.add(_feature("best"), cos.abs().max(1).values)
    out.add(_latent("best"), cos.abs().max(0).values)
    near = rec.nearest(cos)
    # the mean over latents of 1 / (latents with the same feature) is features found / latents
    out.add(_latent("share"), 1 / torch.bincount(near, minlength=len(cos))[near])


def _null_directions(truth: Oracle, known: SparseCodes, d_sae: int, seed: int, out: Outcomes) -> None:
    """What independent random decoders of the same size reach on the same features."""
    D, frequent = truth.W_dec, _frequent(known)
    draws = _NULL_DRAWS if len(D) * d_sae <= _SMALL else 1
    found: dict[str, list[float]] = {}
    for i in range(draws):
        rows = rec.random_rows(d_sae, D.shape[1], 1000 * (seed + 1) + i).to(D.device)
        cos = rec.cosines(D, rows)
        matching = rec.match(cos)
        near = rec.nearest(cos)
        matched = matching.cosine.abs()
        here = {
            "matched_cosine": matched[matching.matched].mean(),
            "matched_cosine_frequent": matched[matching.matched & frequent].mean(),
            "mmcs_recall": cos.abs().max(1).values.mean(),
            "mmcs_precision": cos.abs().max(0).values.mean(),
            "recovered": (matched > rec.RECOVERED_AT).double().mean(),
            "uniqueness": torch.tensor(len(near.unique()) / d_sae),
            **_null_leaning(truth, rows, matching),
        }
        for name, value in here.items():
            found.setdefault(name, []).append(float(value))
    for name, values in found.items():
        there = [value for value in values if value == value]
        if there:
            out.facts[Key(AXIS, "null", name)] = sum(there) / len(there)


def _null_leaning(truth: Oracle, rows: Tensor, matching: rec.Matching) -> dict[str, Tensor]:
    """Leakage and hedging of random decoder rows, where the family has them."""
    made, out = truth.generator, {}
    if made.parent is not None:
        leaked = rec.leakage(truth.W_dec, rows, matching, made.parent.to(rows.device))
        out["leakage"] = leaked.nanmean()
    if made.correlation is not None:
        found = rec.hedging(truth.W_dec, rows, matching, made.correlation.to(rows.device))
        out["hedging"] = found.total.sum() / found.pairs.sum()
    return out


def _detection(
    subject: Subject, known, cos: Tensor, matching: rec.Matching, seed: int, out: Outcomes
) -> None:
    """F1 of features under the matching, and of latents for their nearest feature."""
    codes = subject.test.codes
    positives = torch.bincount(known.latent, minlength=known.d_sae)
    out.add(_feature("fires"), positives > 0)
    out.add(_feature("frequent"), _frequent(known))
    out.add(_feature("f1"), _feature_f1(codes, known, matching))
    order = torch.randperm(len(cos), generator=_generator(seed))
    shuffled = matching._replace(latent=matching.latent[order.to(matching.latent.device)])
    out.add(_feature("null_f1"), _feature_f1(codes, known, shuffled))
    own = rec.detections(codes, known, rec.nearest(cos))
    out.add(_latent("f1"), own.f1)
    dealt = rec.nearest(cos)[torch.randperm(codes.d_sae, generator=_generator(seed)).to(cos.device)]
    out.add(_latent("null_f1"), rec.detections(codes, known, dealt).f1)
    out.add(_latent("dead"), own.fires == 0)


def _frequent(known: SparseCodes) -> Bool[Tensor, "n_features"]:
    """Features that are on at least once in 1,000 samples."""
    return torch.bincount(known.latent, minlength=known.d_sae) >= _RARE * known.n


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _feature_f1(codes, known, matching: rec.Matching) -> Float[Tensor, "n_features"]:
    f1 = rec.detections(codes, known, rec.inverse(matching, codes.d_sae)).f1
    return torch.where(matching.matched, f1[matching.latent.clamp(min=0)], 0.0)


def _reconstruction(subject: Subject, bench: Bench, out: Outcomes) -> None:
    """Squared errors about the test mean, and the ratio of norms (SAELens' shrinkage)."""
    acts, hat = bench.section.test.acts, subject.test.reconstruction
    out.add(Key(AXIS, "err2"), squared_norm(acts - hat))
    out.add(Key(AXIS, "dev2"), squared_norm(acts.double() - acts.double().mean(0)))
    norm = acts.norm(dim=1)
    known = norm > _SMALLEST_NORM
    size = torch.where(known, norm, 1.0)
    out.add(Key(AXIS, "has_norm"), known)
    out.add(Key(AXIS, "shrinkage"), hat.norm(dim=1) / size * known)
    out.add(Key(AXIS, "null_shrinkage"), bench.mean.norm() / size * known)


def _phenomena(
    subject: Subject, truth: Oracle, known, matching: rec.Matching, seed: int, out: Outcomes
) -> None:
    """What a family is about: hierarchies, correlations, parts."""
    made, W, codes = truth.generator, subject.dictionary.W_dec, subject.test.codes
    if made.parent is not None:
        parent = made.parent.to(W.device)
        n = int((parent >= 0).sum())
        out.cluster = {**out.cluster, CHILDREN: torch.arange(n).numpy()}
        order = torch.randperm(len(parent), generator=_generator(seed))
        shuffled = matching.latent[order.to(W.device)]
        _masked(
            Key(AXIS, "absorption", split=CHILDREN),
            rec.absorption(codes, known, matching.latent, parent),
            out,
        )
        _masked(
            Key(AXIS, "null_absorption", split=CHILDREN), rec.absorption(codes, known, shuffled, parent), out
        )
        _masked(Key(AXIS, "leakage", split=CHILDREN), rec.leakage(truth.W_dec, W, matching, parent), out)
    if made.correlation is not None:
        found = rec.hedging(truth.W_dec, W, matching, made.correlation.to(W.device))
        out.add(_feature("hedging"), found.total)
        out.add(_feature("hedging_pairs"), found.pairs)
    if truth.parts is not None:
        alone = encode_any(subject.dictionary, *truth.parts).codes
        _masked(_latent("composition"), rec.composition(alone), out)
        # a latent that every part turns on alike
        out.facts[Key(AXIS, "null", "composition")] = 1 / len(alone)
    if truth.pairs is not None:
        one, other = (len(group.features) for group in made.groups)
        together = encode_split(subject.dictionary, *truth.pairs).codes
        _masked(_latent("pair_composition"), rec.pair_composition(together, (one, other)), out)
        out.facts[Key(AXIS, "null", "pair_composition")] = 1 / (one + other)


def _masked(key: Key, values: Tensor, out: Outcomes) -> None:
    """A column in which some entries do not exist: those are 0, and a second column says which."""
    there = ~values.isnan()
    out.add(key, torch.where(there, values, 0.0))
    out.add(key._replace(score=f"has_{key.score}"), there)


MEASURE = Measure(measure)
