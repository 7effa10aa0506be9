"""Cause and isolate: does an edit change one fact about an entity and leave the others? [RAVEL; SR; SB]

Part of control, for tasks whose prompts ask for different attributes and bring pairs to learn from.
Edits are recorded for every prompt, whatever it asks for: `success` where the prompt asks for the
edited attribute is cause, elsewhere it is isolate (docs/methods.md §5).
"""

from collections.abc import Mapping

from torch import Tensor

from saebench.axes.base import Bench, Measure, Subject, Tick
from saebench.cross_section import CrossSection
from saebench.dictionaries.codes import difference
from saebench.dictionaries.controls import PCA, Identity
from saebench.dictionaries.supervised import fit_supervised
from saebench.dictionary import LabelledDictionary
from saebench.edits.das import DAS, fit_das
from saebench.edits.few_latents import Exchange, aware
from saebench.edits.masks import Mask, fit_masks, random_masks, swap_masked
from saebench.measures.subspaces import by_chance, overlap, swapped
from saebench.records.outcomes import Key, Outcomes
from saebench.scoring.disentangle import AXIS, MEDIATED, ORIGINS, UNDER
from saebench.scoring.settings import EDIT_SIZES


def add_references(bench: Bench, seed: int, tick: Tick) -> None:
    """Fits DAS on the section and records the methods that every dictionary is read against.

    DAS trained on cause and isolate (the skyline), on cause alone, the `mse` and `mean` supervised
    dictionaries, and masks over neurons and over all principal components.
    """
    section, out = bench.section, bench.outcomes
    das, single = bench.learned[AXIS] = fit_skylines(section, seed, tick)
    supervised = {"mse": fit_supervised(section, "mse"), "mean": fit_supervised(section, "mean")}
    bases = {"neurons": Identity(section.mean), "pca": PCA(section.fit.acts, section.d_in)}
    masks = {}
    if any(len(rows) for rows in das.rows.values()):
        # where no attribute can be edited at all, there is no mask to learn
        for name, base in bases.items():
            masks[f"{name}_mask"] = base, fit_masks(base, section, seed, tick=tick)[0]
    test = section.test
    for at, attribute in enumerate(section.attributes):
        name = attribute.name
        source, known = test.source_acts[name], test.source_known(name)
        edits: dict[str, Tensor] = {
            "das": das.edit(name, test.acts, source),
            "das_single": single.edit(name, test.acts, source),
        }
        for kind, dictionary in supervised.items():
            edits[kind] = dictionary.edit(at, test.acts, test.known, source, known)
        for kind, (base, found) in masks.items():
            moved = (base.encode(source).codes - base.encode(test.acts).codes) * found[name].latents
            edits[kind] = test.acts + moved @ base.W_dec
            _note_mask(out, "task", name, kind, found[name])
        runs = test.readout.remembered(edits)
        for kind, run in runs.items():
            out.add(Key("task", "success", name, kind), run.top == test.expected[name])
        out.add(Key("task", "same_label", name), _same_label(section, at))
        out.facts[Key("task", "das_rank", name)] = float(len(das.rows[name]))
        if name in section.planted:
            out.facts.update(_against_planted(section, name, das.rows[name]))
        tick(f"references of {name}")


def _against_planted(section: CrossSection, name: str, rows: Tensor) -> dict[Key, float]:
    """Overlap, principal angles, and what the swap does to the planted subspaces over `test`."""
    planted, test = section.planted, section.test
    share, angles = overlap(rows, planted[name])
    does = swapped(test.source_acts[name] - test.acts, rows, planted, name)
    found = {
        "das_overlap": share,
        "das_overlap_chance": by_chance(len(rows), len(planted[name]), section.d_in),
        "das_carried": does.carried,
    }
    facts = {Key("task", score, name): value for score, value in found.items()}
    for other, value in does.leaked.items():
        facts[Key("task", "das_leaked", f"{name}>{other}")] = value
    for i, angle in enumerate(angles.tolist()):
        facts[Key("task", "das_angle", name, k=i + 1)] = angle
    return facts


def fit_skylines(section: CrossSection, seed: int = 0, tick: Tick = lambda _: None) -> tuple[DAS, DAS]:
    """Multi-task DAS and, at the largest rank it chose, DAS on cause alone."""
    sources = {at: {"": section.select.source_acts[a.name]} for at, a in enumerate(section.attributes)}
    reach = _causes(section, sources)
    skip = [a.name for at, a in enumerate(section.attributes) if reach[at] < MEDIATED]
    das = fit_das(section, seed, skip=skip, tick=tick)
    rank = max((len(r) for r in das.rows.values() if len(r) < section.d_in), default=0)
    ranks = [rank] if rank else []
    return das, fit_das(section, seed, isolate=False, ranks=ranks, skip=skip, tick=tick)


def _causes(section: CrossSection, edits: Mapping[int, Mapping[str, Tensor]]) -> dict[int, float]:
    """Share of right answers on `select` where the edited attribute is asked for."""
    found = {}
    for at, by_name in edits.items():
        asks = section.select.asks(at)
        run = section.select.readout.remembered(by_name)[""]
        right = run.top == section.select.expected[section.attributes[at].name]
        found[at] = float(right[asks].float().mean())
    return found


def _same_label(section: CrossSection, at: int) -> Tensor:
    """For every prompt the share of other clusters' prompts with the same value of the attribute."""
    labels, cluster = section.test.labels[:, at], section.test.cluster
    other = cluster[:, None] != cluster[None]
    same = (labels[:, None] == labels[None]) & other
    return same.sum(1) / other.sum(1).clamp(min=1)


def _note_mask(out: Outcomes, axis: str, name: str, kind: str, mask: Mask) -> None:
    out.facts[Key(axis, "mask_size", name, kind)] = float(mask.size)
    for fact, origin in ORIGINS.items():
        out.facts[Key(axis, fact, name, kind)] = float(mask.origin == origin)


def edits_of(
    subject: Subject, bench: Bench, out: Outcomes, seed: int, tick: Tick
) -> dict[str, dict[tuple[str, int], Tensor]]:
    """Edits by attribute, then by kind and size, that only such tasks ask of a dictionary.

    `mask`: the learned mask; `mask_no_error`: the same without the reconstruction error; `random_live`:
    as many latents drawn among those active on `fit`; `aware_no_error`: aware edits from the
    reconstruction; `identity_swap`: nothing swapped, the reconstruction alone. A labelled dictionary
    makes its `own` edit instead of a masked one.
    """
    section, dictionary = bench.section, subject.dictionary
    test, hat = section.test, subject.test.reconstruction
    if isinstance(dictionary, LabelledDictionary):
        return {
            a.name: {("own", -1): _own(dictionary, section, at)} for at, a in enumerate(section.attributes)
        }
    masks, live = fit_masks(dictionary, section, seed, tick=tick)
    found = {}
    for at, attribute in enumerate(section.attributes):
        name, mask = attribute.name, masks[attribute.name]
        alpha, beta, W_dec = subject.test.codes, subject.source(name).codes, dictionary.W_dec
        change = difference(alpha, beta)
        drawn = random_masks(len(test), mask.size, live, dictionary.d_sae, seed)
        edits = {
            ("mask", -1): swap_masked(test.acts, change, W_dec, mask.latents),
            ("mask_no_error", -1): swap_masked(hat, change, W_dec, mask.latents),
            ("random_live", -1): swap_masked(test.acts, change, W_dec, drawn),
            ("identity_swap", -1): hat,
        }
        table = subject.table(bench.properties[name], "select")
        old, new = test.labels[:, at], test.source_labels[name][:, at]
        without = aware(hat, alpha, beta, W_dec, [Exchange(table.f1, old, new)], EDIT_SIZES)
        found[name] = edits | {("aware_no_error", k): e.acts for k, e in without.items()}
        _note_mask(out, UNDER, name, "mask", mask)
    return found


def _own(dictionary: LabelledDictionary, section: CrossSection, at: int) -> Tensor:
    test, name = section.test, section.attributes[at].name
    return dictionary.edit(at, test.acts, test.known, test.source_acts[name], test.source_known(name))


def measure(subject: Subject, bench: Bench, out: Outcomes, seed: int, tick: Tick) -> None:
    """Records the edits of `edits_of` over all prompts."""
    test = bench.section.test
    for name, edits in edits_of(subject, bench, out, seed, tick).items():
        runs = test.readout.run(edits, reference=test.source_acts[name])
        for (kind, k), run in runs.items():
            out.add(Key(UNDER, "success", name, kind, k), run.top == test.expected[name])
            out.add(Key(UNDER, "ld", name, kind, k), run.ld)
            out.add(Key(UNDER, "kl", name, kind, k), run.kl)
        tick(f"cause and isolate of {name}")


MEASURE = Measure(measure, add_references)
