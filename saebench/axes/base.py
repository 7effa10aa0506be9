"""What all axes share: the bench (measured once per site) and the subject (encoded once)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saebench.cross_section import CrossSection, Split
from saebench.dictionaries.base import Dictionary, LabelledDictionary
from saebench.dictionaries.codes import Encoded, encode_split
from saebench.dictionaries.supervised import SupervisedDictionary, product
from saebench.edits.few_latents import EDIT_SIZES, greedy
from saebench.measures.detection import MIN_POSITIVES, F1Table, f1_table, squared_norm
from saebench.records.outcomes import AttributeFacts, Key, Outcomes

Tick = Callable[[str], None]
CAUSAL_SHARE = 0.05
"""A causal effect is at least this share of |LD(a) − LD(ā)| (METHODS §0)."""


@dataclass(frozen=True)
class Property:
    """Something a latent may stand for: the values of an attribute, or of two jointly."""

    name: str
    select: Int[Tensor, "n_select"]
    test: Int[Tensor, "n_test"]
    values: tuple[str, ...]
    keep: Bool[Tensor, "n_values"]
    """Values with enough positives in both splits, of those that may be looked for."""

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
        keep = torch.ones(variable.size, dtype=torch.bool, device=test.device)
        if len(names) == 1:
            keep[:] = False
            keep[list(parts[0].detectable)] = True
        for labels in (select, test):
            keep &= torch.bincount(labels, minlength=variable.size) >= MIN_POSITIVES
        found[variable.name] = Property(variable.name, select, test, tuple(values), keep)
    return found


@dataclass(frozen=True)
class Bench:
    """A cross-section with its ceiling and the reference outcomes that every dictionary reuses."""

    section: CrossSection
    ceiling: LabelledDictionary
    properties: dict[str, Property]
    outcomes: Outcomes
    atoms: SupervisedDictionary
    """Supervised atoms with one block per attribute: norms, and what is subtracted for occlusion."""
    causal: tuple[str, ...]
    """Attributes whose mean effect is large enough to be looked at in detail (point estimate)."""
    mean: Float[Tensor, "d_in"]


class Subject:
    """A dictionary with its encodings of a cross-section, each made once and shared by the axes."""

    def __init__(self, dictionary: Dictionary | LabelledDictionary, section: CrossSection) -> None:
        self.dictionary, self.section = dictionary, section
        self._sources: dict[str, Encoded] = {}
        self._tables: dict[tuple[str, str], F1Table] = {}

    @cached_property
    def select(self) -> Encoded:
        return self._encode(self.section.select)

    @cached_property
    def test(self) -> Encoded:
        return self._encode(self.section.test)

    @cached_property
    def signed(self) -> bool:
        """Whether codes are ever negative, so that latents detect by sign."""
        return any(bool((e.codes.value < 0).any()) for e in (self.select, self.test))

    def source(self, attribute: str) -> Encoded:
        if attribute not in self._sources:
            split = self.section.test
            self._sources[attribute] = encode_split(
                self.dictionary, split.source_acts[attribute], split.source_labels[attribute]
            )
        return self._sources[attribute]

    def table(self, prop: Property, split: str) -> F1Table:
        """F1 counts of every detector × value of a property, both splits over the same detectors."""
        key = (prop.name, split)
        if key not in self._tables:
            codes = getattr(self, split).codes
            self._tables[key] = f1_table(codes, getattr(prop, split), len(prop.values), self.signed)
        return self._tables[key]

    def _encode(self, split: Split) -> Encoded:
        return encode_split(self.dictionary, split.acts, split.labels)


def make_bench(
    section: CrossSection,
    ceiling: LabelledDictionary,
    atoms: SupervisedDictionary,
    tick: Tick = lambda _: None,
) -> Bench:
    """Runs the references: clean, mean ablation, no edit, source patch, the ceiling's edit."""
    out = _blank(section)
    mean = section.mean
    _approximation_references(section, ceiling, mean, out)
    tick("mean ablation and ceiling")
    norms = _norms(atoms, section)
    for at, attribute in enumerate(section.attributes):
        out.facts[Key("task", "norm", attribute.name)] = norms[at]
        _edit_references(section, ceiling, at, out)
        tick(f"references of {attribute.name}")
    spread = abs(out[Key("task", "ld", edit="clean")] - out[Key("task", "ld", edit="mean")]).mean()
    causal = tuple(a.name for a in section.attributes if _effect(out, a.name) >= CAUSAL_SHARE * spread * 0.5)
    return Bench(section, ceiling, properties(section), out, atoms, causal, mean)


def _blank(section: CrossSection) -> Outcomes:
    """A table over the section's prompts without a column."""

    def arrays(name: str) -> dict[str, np.ndarray]:
        found = {split: getattr(getattr(section, split), name) for split in ("select", "test")}
        return {split: tensor.numpy(force=True) for split, tensor in found.items() if tensor is not None}

    facts = {a.name: AttributeFacts(a.values, a.parent, a.on_off) for a in section.attributes}
    return Outcomes(
        arrays("cluster"),
        facts,
        units=arrays("units"),
        template=arrays("template"),
        templates=section.templates,
    )


def _effect(out: Outcomes, attribute: str) -> float:
    asks = out[Key("task", "asks", attribute)] > 0
    change = out[Key("task", "ld", attribute, "source")] - out[Key("task", "ld", edit="clean")]
    return float(abs(change[asks].mean())) if asks.any() else 0.0


def _norms(atoms: SupervisedDictionary, section: CrossSection) -> list[float]:
    """Mean ‖u_{A,v}‖ over the values that occur on `fit`."""
    found, start = [], 0
    for variable in atoms.variables:
        seen = variable.index(section.fit.labels).unique()
        found.append(float(atoms.W_dec[start + seen].norm(dim=1).mean()))
        start += variable.size
    return found


def _approximation_references(
    section: CrossSection, ceiling: LabelledDictionary, mean: Tensor, out: Outcomes
) -> None:
    test = section.test
    hat = encode_split(ceiling, test.acts, test.labels).reconstruction
    flat = mean.expand_as(test.acts)
    edits = {"clean": test.acts, "mean": flat, "ceiling": hat, "ceiling_rest": mean + (test.acts - hat)}
    runs = test.readout.run(edits, reference=test.acts)
    clean = runs["clean"]
    for edit, run in runs.items():
        out.add(Key("task", "ld", edit=edit), run.ld)
        out.add(Key("task", "kl", edit=edit), run.kl)
        out.add(Key("task", "agree", edit=edit), run.top == clean.top)
    out.add(Key("task", "right", edit="clean"), clean.top == test.readout.answer)
    out.add(Key("task", "dev2"), squared_norm(test.acts - mean))
    out.add(Key("task", "err2", edit="ceiling"), squared_norm(test.acts - hat))


def _edit_references(section: CrossSection, ceiling: LabelledDictionary, at: int, out: Outcomes) -> None:
    test, name = section.test, section.attributes[at].name
    source = test.source_acts[name]
    supervised = ceiling.edit(at, test.acts, test.labels, source, test.source_labels[name])
    runs = test.readout.run({"none": test.acts, "source": source, "ceiling": supervised}, reference=source)
    out.add(Key("task", "asks", name), test.asks(at))
    for edit, run in runs.items():
        out.add(Key("task", "ld", name, edit), run.ld)
        out.add(Key("task", "kl", name, edit), run.kl)
        out.add(Key("task", "success", name, edit), run.top == test.expected[name])
    if not isinstance(ceiling, SupervisedDictionary):
        _oracle_edits(section, ceiling, name, out)


def _oracle_edits(section: CrossSection, oracle: LabelledDictionary, name: str, out: Outcomes) -> None:
    """Agnostic edits by a true dictionary: what k latents can do at most.

    One latent cannot exchange a one-hot value for another; where the truth is known, an edit of
    size k is held against the truth's own edit of that size.
    """
    test = section.test
    source, moved = test.source_acts[name], test.source_labels[name]
    alpha = encode_split(oracle, test.acts, test.labels).codes
    beta = encode_split(oracle, source, moved).codes
    edits = greedy(test.acts, source, alpha, beta, oracle.W_dec, EDIT_SIZES)
    for k, run in test.readout.run({k: edit.acts for k, edit in edits.items()}).items():
        out.add(Key("task", "success", name, "ceiling", k), run.top == test.expected[name])
