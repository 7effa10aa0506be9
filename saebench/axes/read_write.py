"""What a dictionary writes of each attribute, and by whom: one pass that three axes read (docs/methods.md §6–8).

Encoding only. The matched null and the ceiling go through the same pass.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.axes.base import Bench, Property, Subject
from saebench.dictionaries.codes import Encoded
from saebench.dictionaries.matched import DRAWS, MatchedRandom
from saebench.measures.read_write import along_atoms, contributions
from saebench.records.outcomes import Key, Outcomes
from saebench.scoring.read_write import AXIS, CEILING, NULL


def prepare(bench: Bench) -> None:
    """What is available of every attribute, and what the ceiling writes of it."""
    ceiling, fit = Subject(bench.ceiling, bench.section), bench.section.fit
    bench.outcomes.facts[Key("task", "scale", edit=CEILING)] = _scale(
        ceiling.encode(fit.acts, fit.known), fit.acts
    )
    for prop in _measured(bench):
        atoms = bench.atoms_of(prop.name)
        whole = along_atoms(bench.section.test.acts, atoms, prop.test, prop.keep)
        bench.outcomes.add(Key("task", "available", prop.name), whole)
        # on the prompts that atoms were made from their noise is in it too
        seen = along_atoms(fit.acts, atoms, bench.fit_labels(prop.name), prop.keep)
        bench.outcomes.facts[Key("task", "available_on_fit", prop.name)] = float(seen.mean())
        _add(bench.outcomes, "task", prop, CEILING, written_by(ceiling, prop, bench))


def measure(subject: Subject, bench: Bench, out: Outcomes, seed: int) -> None:
    """Records what the dictionary writes, and what its matched null does, mean over its draws."""
    fit = bench.section.fit
    seen = subject.encode(fit.acts, fit.known)
    out.facts[Key(AXIS, "scale")] = _scale(seen, fit.acts)
    nulls = [
        Subject(MatchedRandom("null", seen.codes, fit.acts, seed * DRAWS + draw), bench.section)
        for draw in range(DRAWS)
    ]
    for prop in _measured(bench):
        _add(out, AXIS, prop, "", written_by(subject, prop, bench))
        drawn = [written_by(null, prop, bench) for null in nulls]
        mean = {name: torch.stack([one[name] for one in drawn]).mean(0) for name in drawn[0]}
        _add(out, AXIS, prop, NULL, mean)


def _scale(seen: Encoded, acts: Float[Tensor, "n d_in"]) -> float:
    """The one number times which what latents write comes closest to the activations, both about their means.

    It undoes a shrinkage that all latents share, as an L1 penalty causes. The matched null's is fitted already.
    """
    hat, wanted = (x.double() - x.double().mean(0) for x in (seen.by_latents, acts))
    power = float(hat.square().sum())
    return max(0.0, float((hat * wanted).sum())) / power if power > 0 else 0.0


def written_by(subject: Subject, prop: Property, bench: Bench) -> dict[str, Float[Tensor, "n"]]:
    """One number a prompt of `test`: what is written of its value, and the parts of that."""
    atoms = bench.atoms_of(prop.name)
    written = along_atoms(subject.test.by_latents, atoms, prop.test, prop.keep)
    writers = subject.writers(prop, atoms)
    return {"written": written} | contributions(writers, subject.test.codes, prop.test, prop.keep)


def _measured(bench: Bench) -> list[Property]:
    """The attributes of which some value occurs often enough."""
    found = [bench.properties[attribute.name] for attribute in bench.section.attributes]
    return [prop for prop in found if prop.keep.any()]


def _add(out: Outcomes, axis: str, prop: Property, edit: str, parts: Mapping[str, Tensor]) -> None:
    for name, values in parts.items():
        out.add(Key(axis, name, prop.name, edit), values)
