"""What all axes share: the bench (measured once per site) and the subject (encoded once).

The measuring half of an axis is a `Measure`: what it records of a dictionary, and what it prepares
on a bench. `saebench.scoring.axes` lists the axes with their versions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saebench.answers import Outcome
from saebench.cross_section import CrossSection
from saebench.dictionaries.codes import Encoded, SparseCodes, encode_split
from saebench.dictionaries.supervised import SupervisedDictionary, product
from saebench.dictionaries.writers import Writers
from saebench.dictionary import Encodes, Intervention, Known, LabelledDictionary, Scorable
from saebench.measures.detection import F1Table, f1_table, frequent
from saebench.measures.read_write import Readings, choose
from saebench.measures.thresholds import Cuts, best_cuts, best_levels, cut, dense_latents, from_level
from saebench.records.outcomes import Outcomes

Tick = Callable[[str], None]
"""Called with a short description whenever a piece of work is done."""


@dataclass(frozen=True)
class Property:
    """Something a latent may stand for: the values of an attribute, or of two jointly."""

    name: str
    select: Int[Tensor, "n_select"]
    test: Int[Tensor, "n_test"]
    values: tuple[str, ...]
    keep: Bool[Tensor, "n_values"]
    """Values with enough positives in both splits, of those that may be looked for."""
    common: Bool[Tensor, "n_values"]
    """Values with enough positives on `select`, whether looked for or not."""

    @property
    def kept(self) -> list[int]:
        return self.keep.nonzero()[:, 0].tolist()

    @property
    def dropped(self) -> int:
        return int((~self.keep).sum())


def properties(section: CrossSection) -> dict[str, Property]:
    """Every attribute, then every conjunction that the task lists."""
    found = {}
    for names in [(a.name,) for a in section.attributes] + list(section.conjunctions):
        variable = product(section.attributes, names)
        parts = [a for a in section.attributes if a.name in names]
        values = [""]
        for name in names:
            attribute = next(a for a in parts if a.name == name)
            values = [f"{v}∧{w}".strip("∧") for v in values for w in attribute.values]
        select = variable.index(section.select.labels)
        test = variable.index(section.test.labels)
        sought = torch.ones(variable.size, dtype=torch.bool, device=test.device)
        if len(names) == 1:
            sought[:] = False
            sought[list(parts[0].detectable)] = True
        common = frequent(select, section.select.cluster, variable.size)
        keep = sought & common & frequent(test, section.test.cluster, variable.size)
        found[variable.name] = Property(variable.name, select, test, tuple(values), keep, common)
    return found


class Subject:
    """A dictionary with its encodings of a cross-section, each made once and shared by the axes."""

    def __init__(self, dictionary: Encodes, section: CrossSection) -> None:
        self.dictionary, self.section = dictionary, section
        self._sources: dict[str, Encoded] = {}
        self._tables: dict[tuple[str, str], F1Table] = {}
        self._cuts: dict[str, Cuts] = {}
        self._writers: dict[str, Writers] = {}

    @cached_property
    def select(self) -> Encoded:
        split = self.section.select
        return self.encode(split.acts, split.known)

    @cached_property
    def test(self) -> Encoded:
        split = self.section.test
        return self.encode(split.acts, split.known)

    @cached_property
    def signed(self) -> bool:
        """Whether codes are ever negative or cut at a threshold, so that latents detect on both sides."""
        negative = any(bool((e.codes.value < 0).any()) for e in (self.select, self.test))
        return negative or len(self.dense) > 0

    @cached_property
    def dense(self) -> Int[Tensor, "m"]:
        """Latents without a natural threshold: neurons, principal components, codes that are never 0."""
        return dense_latents(self.select.codes)

    def source(self, attribute: str) -> Encoded:
        if attribute not in self._sources:
            split = self.section.test
            self._sources[attribute] = self.encode(
                split.source_acts[attribute], split.source_known(attribute)
            )
        return self._sources[attribute]

    def table(self, prop: Property, split: str) -> F1Table:
        """F1 counts of every detector × value of a property, both splits over the same detectors."""
        key = (prop.name, split)
        if key not in self._tables:
            codes = self.detections(prop, split)
            self._tables[key] = f1_table(codes, getattr(prop, split), len(prop.values), self.signed)
        return self._tables[key]

    def writers(self, prop: Property, atoms: Float[Tensor, "n_values d_in"]) -> Writers:
        """Who writes the values of an attribute and what they stand for, chosen on `select`."""
        if prop.name not in self._writers:
            readings = Readings.of(self.readable(prop), self.dictionary.d_sae)
            self._writers[prop.name] = choose(
                self.select.codes, readings, self.dictionary.W_dec, atoms, prop.select, prop.keep, prop.common
            )
        return self._writers[prop.name]

    def readable(self, prop: Property) -> F1Table:
        """The same on `select` with every sparse latent cut where it tells a value of the property best."""
        codes = self.detections(prop, "select")
        level = best_levels(codes, prop.select, prop.common)
        # those without a natural threshold are cut already, on either side
        level[self.dense] = -torch.inf
        return f1_table(from_level(codes, level), prop.select, len(prop.values), self.signed)

    def detections(self, prop: Property, split: str) -> SparseCodes:
        """Codes as detectors see them: dense latents cut where they tell the property best on `select`."""
        if prop.name not in self._cuts:
            found = best_cuts(self.select.codes, self.dense, prop.select, len(prop.values))
            self._cuts[prop.name] = found
        return cut(getattr(self, split).codes, self._cuts[prop.name])

    def encode(self, acts: Float[Tensor, "n d_in"], known: Known) -> Encoded:
        """Codes, reconstruction and offset of some activations."""
        return encode_split(self.dictionary, acts, known)


@dataclass(frozen=True)
class Bench:
    """A cross-section with its ceiling and the reference outcomes that every dictionary reuses."""

    section: CrossSection
    ceiling: LabelledDictionary
    properties: dict[str, Property]
    outcomes: Outcomes
    atoms: SupervisedDictionary
    """Class means (`mean`, also where attributes are nested): what is written, and taken away for occlusion."""
    mean: Float[Tensor, "d_in"]
    clean: Outcome
    """What the model answers to the test prompts as they are."""
    measures: "Mapping[str, Measure]"
    """The axes that are measured here."""
    learned: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """What axes have trained on this bench (DAS), by axis."""
    parts: "Mapping[str, Bench]" = field(default_factory=dict, repr=False, compare=False)
    """Of several sites that are edited together: a bench of each by itself, by site."""

    def atoms_of(self, attribute: str) -> Float[Tensor, "n_values d_in"]:
        """The supervised atoms of one attribute's values."""
        start = 0
        for variable in self.atoms.variables:
            if variable.name == attribute:
                return self.atoms.W_dec[start : start + variable.size]
            start += variable.size
        raise KeyError(attribute)

    def fit_labels(self, attribute: str) -> Int[Tensor, "n_fit"]:
        """The value of one attribute on every prompt of `fit`."""
        names = [a.name for a in self.section.attributes]
        return self.section.fit.labels[:, names.index(attribute)]

    def measure(self, scorable: Scorable, seed: int = 0, tick: Tick = lambda _: None) -> Outcomes:
        """The bench's outcomes with those of a dictionary or an intervention on every axis."""
        out = self.outcomes.like()
        out.merge(self.outcomes)
        if isinstance(scorable, Intervention):
            for axis in self.measures.values():
                axis.intervene(scorable, self, out, tick)
            return out
        bench = self
        if scorable.reads is not None:
            # a transcoder's codes come from where it reads; all else lives where it writes
            bench = replace(self, section=self.section.read_at(scorable.reads))
        subject = Subject(scorable, bench.section)
        for axis in self.measures.values():
            axis.measure(subject, bench, out, seed, tick)
        return out


class Measure(NamedTuple):
    """The measuring half of an axis; `saebench.scoring` turns what it records into scores."""

    measure: Callable[[Subject, Bench, Outcomes, int, Tick], None]
    """Records the outcomes of a dictionary, with a seed for what is drawn."""
    prepare: Callable[[Bench, int, Tick], None] = lambda bench, seed, tick: None
    """What a bench needs once before anything is measured on it."""
    intervene: Callable[[Intervention, Bench, Outcomes, Tick], None] = lambda it, bench, out, tick: None
    """Records the outcomes of something that only edits; most axes have none."""
