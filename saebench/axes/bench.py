"""Makes a bench: the references that every dictionary at a site is read against."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from saebench.answers import Outcome
from saebench.axes import select_axes
from saebench.axes.base import Bench, Tick, properties
from saebench.axes.references import edit_references
from saebench.cross_section import CrossSection
from saebench.dictionaries.codes import encode_split
from saebench.dictionaries.supervised import SupervisedDictionary
from saebench.dictionary import LabelledDictionary
from saebench.measures.detection import squared_norm
from saebench.records.outcomes import AttributeFacts, Key, Outcomes
from saebench.scoring.axes import axes_with


def make_bench(
    section: CrossSection,
    ceiling: LabelledDictionary,
    atoms: SupervisedDictionary,
    further: Sequence[str] = (),
    facts: Mapping[Key, float] = {},
    seed: int = 0,
    tick: Tick = lambda _: None,
    axes: Sequence[str] | None = None,
) -> Bench:
    """Runs the references: clean, mean ablation, no edit, source patch, the ceiling's edit.

    `further` names axes beside the five, which then prepare their own references; `facts` are numbers
    of the task itself. With `axes` only those are measured.
    """
    out = _blank(section)
    mean = section.mean
    clean = _approximation_references(section, ceiling, mean, out)
    tick("mean ablation and ceiling")
    norms = _norms(atoms, section)
    for at, attribute in enumerate(section.attributes):
        out.facts[Key("task", "norm", attribute.name)] = norms[at]
        edit_references(section, ceiling, attribute.name, [attribute.name], out)
        tick(f"references of {attribute.name}")
    for child, parent in _followers(section):
        out.facts[Key("task", "follows", f"{child}>{parent}")] = 1.0
    out.facts.update(facts)
    measures = select_axes(axes_with(further) if axes is None else axes)
    bench = Bench(section, ceiling, properties(section), out, atoms, mean, clean, measures)
    for axis in bench.measures.values():
        axis.prepare(bench, seed, tick)
    return bench


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


def _followers(section: CrossSection) -> list[tuple[str, str]]:
    """Pairs of which the second's value follows from the first's on `fit` (a continent from a country)."""
    labels, found = section.fit.labels, []
    for one, child in enumerate(section.attributes):
        looked_for = torch.isin(labels[:, one], torch.tensor(child.detectable, device=labels.device))
        seen = labels[looked_for]
        for two, parent in enumerate(section.attributes):
            if one == two or len(labels[:, two].unique()) < 2:
                continue
            pairs = seen[:, [one, two]].unique(dim=0)
            # two rare features that never meet do not follow from each other
            ever = not parent.on_off or bool(pairs[:, 1].any())
            if ever and len(pairs) and len(pairs) == len(pairs[:, 0].unique()):
                found.append((child.name, parent.name))
    return found


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
) -> Outcome:
    """Records clean run, mean ablation and ceiling; returns the clean run."""
    test = section.test
    hat = encode_split(ceiling, test.acts, test.known).reconstruction
    flat = mean.expand_as(test.acts)
    edits = {"clean": test.acts, "mean": flat, "ceiling": hat, "ceiling_rest": mean + (test.acts - hat)}
    runs = test.readout.remembered(edits, reference=test.acts)
    clean = runs["clean"]
    for edit, run in runs.items():
        out.add(Key("task", "ld", edit=edit), run.ld)
        out.add(Key("task", "kl", edit=edit), run.kl)
        out.add(Key("task", "agree", edit=edit), run.top == clean.top)
    out.add(Key("task", "right", edit="clean"), clean.top == test.readout.answer)
    out.add(Key("task", "dev2"), squared_norm(test.acts - mean))
    out.add(Key("task", "err2", edit="ceiling"), squared_norm(test.acts - hat))
    return clean
