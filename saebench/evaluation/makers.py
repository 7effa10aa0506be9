"""Makes the controls of the table from a bench."""

from typing import Literal

from saebench.axes.base import Bench
from saebench.dictionaries.codes import SparseCodes, encode_split
from saebench.dictionaries.controls import PCA, Identity, Mean, NoEdit, Permuted, Random, SourcePatch
from saebench.dictionaries.frozen import FROZEN_DECODER, FROZEN_ENCODER, SOFT, Freedom, Frozen, frozen
from saebench.dictionaries.frozen import soft_frozen as within
from saebench.dictionaries.matched import MatchedRandom
from saebench.dictionaries.supervised import CEILING, SupervisedDictionary, fit_supervised
from saebench.dictionary import Dictionary, Intervention, LabelledDictionary
from saebench.errors import ControlError
from saebench.scoring.disentangle import AXIS
from saebench.synthetic.oracle import Oracle, Pursuit

WIDTH = 8
"""Latents per input dimension of `control:random` where nothing else is said."""


def identity(bench: Bench, value: None, seed: int) -> Identity:
    return Identity(bench.section.mean)


def mean(bench: Bench, value: None, seed: int) -> Mean:
    return Mean(bench.section.mean)


def pca(bench: Bench, value: tuple[int], seed: int) -> PCA:
    return PCA(bench.section.fit.acts, min(value[0], bench.section.d_in))


def random(bench: Bench, value: tuple[int, ...], seed: int) -> Random:
    l0, d_sae = value[0], value[1] if len(value) > 1 else WIDTH * bench.section.d_in
    return Random(bench.section.fit.acts, d_sae, l0, seed)


Made = tuple[Dictionary, float | None]
"""The SAE that a control is made from, and the cosine where one was given."""


def random_like(bench: Bench, value: Made, seed: int) -> MatchedRandom:
    return MatchedRandom(
        f"control:random-like:{value[0].name}", _fit_codes(bench, value[0]), bench.section.fit.acts, seed
    )


def _fit_codes(bench: Bench, dictionary: Dictionary) -> SparseCodes:
    """Codes on `fit`, of what a transcoder reads there."""
    section = bench.section if dictionary.reads is None else bench.section.read_at(dictionary.reads)
    return encode_split(dictionary, section.fit.acts, section.fit.known).codes


def permuted(bench: Bench, value: Made, seed: int) -> Permuted:
    return Permuted(value[0], seed)


def frozen_decoder(bench: Bench, value: Made, seed: int) -> Frozen:
    return _frozen(bench, value[0], FROZEN_DECODER, seed)


def soft_frozen(bench: Bench, value: Made, seed: int) -> Frozen:
    return _frozen(bench, value[0], within(value[1] or SOFT), seed)


def frozen_encoder(bench: Bench, value: Made, seed: int) -> Frozen:
    return _frozen(bench, value[0], FROZEN_ENCODER, seed)


def _frozen(bench: Bench, dictionary: Dictionary, freedom: Freedom, seed: int) -> Frozen:
    """Of a transcoder: an SAE of what it writes, as sparse as it is on what it reads of `fit`."""
    l0 = None if dictionary.reads is None else float(_fit_codes(bench, dictionary).per_row.float().mean())
    return frozen(dictionary, bench.section.typical(), freedom, seed, l0=l0)


def supervised(bench: Bench, value: Literal["mean", "mse"] | None, seed: int) -> SupervisedDictionary:
    if value is None and isinstance(bench.ceiling, SupervisedDictionary):
        return bench.ceiling
    return fit_supervised(bench.section, value or CEILING)


def no_edit(bench: Bench, value: None, seed: int) -> NoEdit:
    return NoEdit()


def source_patch(bench: Bench, value: None, seed: int) -> SourcePatch:
    return SourcePatch()


def _truth(bench: Bench, name: str) -> Oracle:
    truth = bench.section.truth
    if not isinstance(truth, Oracle):
        raise ControlError(
            f"control:{name} exists on synthetic tasks only, where the generating features are"
            " known. Use control:supervised here."
        )
    return truth


def oracle(bench: Bench, value: None, seed: int) -> LabelledDictionary:
    if bench.section.truth is None:
        raise ControlError(
            "control:oracle exists where the truth is known: on synthetic tasks, and on planted ones in the"
            " model they were planted in. Use control:supervised here."
        )
    return bench.section.truth


def pursuit(bench: Bench, value: tuple[int] | None, seed: int) -> Pursuit:
    generator = _truth(bench, "matching-pursuit").generator
    return Pursuit(generator, value[0] if value else max(1, round(generator.true_l0())))


def das(bench: Bench, value: str | None, seed: int) -> Intervention:
    if AXIS not in bench.learned:
        raise ControlError(
            "control:das needs a task whose prompts ask for different attributes, such as ravel, with"
            " pairs to learn from. Use control:source-patch here."
        )
    both, single = bench.learned[AXIS]
    return single if value else both
