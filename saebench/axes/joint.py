"""Joint edits: several attributes changed at once by few latents, where somebody asks for it [PE §4.2]."""

from saebench.axes.base import Bench, Measure, Subject, Tick
from saebench.axes.control import add_costs, by_chance, few_latents, run_edits
from saebench.axes.references import edit_references, exchange
from saebench.dictionary import Intervention, LabelledDictionary
from saebench.records.outcomes import Key, Outcomes
from saebench.scoring.joint import AXIS, SIZES

STORED = {"random": ("success",)}


def prepare(bench: Bench, seed: int, tick: Tick) -> None:
    """The references of every set; a single attribute has them from the start."""
    for name, exchanged in bench.section.sets.items():
        if Key("task", "success", name, "source") not in bench.outcomes:
            edit_references(bench.section, bench.ceiling, name, exchanged, bench.outcomes)
            tick(f"references of {name}")


def measure(subject: Subject, bench: Bench, out: Outcomes, seed: int, tick: Tick) -> None:
    """Agnostic, aware, permuted, random and full edits of every set, each size, over one clean run.

    An agnostic edit of size k changes k latents for the whole set; an aware one of size e takes out, for each
    attribute, the e active latents that rank highest for its old value and puts in the e for its new one.
    """
    section, test = bench.section, bench.section.test
    for name, exchanged in section.sets.items():
        found = few_latents(subject, name, exchanged, bench, SIZES)
        edits = {(kind, k): edit.acts for kind, sizes in found.items() for k, edit in sizes.items()}
        edits |= by_chance(subject, name, bench, seed, SIZES)
        if isinstance(subject.dictionary, LabelledDictionary):
            places, source = [section.index(each) for each in exchanged], test.source_known(name)
            own = exchange(subject.dictionary, places, test.acts, test.known, test.source_acts[name], source)
            edits["own", -1] = own
        run_edits(edits, AXIS, name, bench, out, STORED)
        add_costs(found, AXIS, name, out)
        tick(f"joint edits of {name}")


def intervene(intervention: Intervention, bench: Bench, out: Outcomes, tick: Tick) -> None:
    """The one edit that an intervention makes of every set."""
    test = bench.section.test
    for name in bench.section.sets:
        edited = intervention.edit(name, test.acts, test.source_acts[name])
        run_edits({("intervention", -1): edited}, AXIS, name, bench, out)
        tick(f"joint edits of {name}")


MEASURE = Measure(measure, prepare, intervene)
