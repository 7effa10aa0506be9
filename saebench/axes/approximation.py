"""Approximation: does the model still compute the task through reconstructions? [PE §4.1]"""

from saebench.axes.base import Bench, Measure, Subject, Tick
from saebench.edits.few_latents import add_codes
from saebench.measures.detection import squared_norm
from saebench.records.outcomes import Key, Outcomes


def measure(subject: Subject, bench: Bench, out: Outcomes, seed: int, tick: Tick) -> None:
    """Runs the reconstruction (sufficiency) and `ā + a − â` (necessity) in place of the activation.

    Beside them the reconstruction by the same codes through a shuffled decoder.
    """
    test = bench.section.test
    hat = subject.test.reconstruction
    # ā + (a − â) in this order: for a perfect dictionary the bracket is exactly 0
    edits = {"hat": hat, "rest": bench.mean + (test.acts - hat)}
    if not subject.dictionary.reads_labels:
        shuffled = subject.dictionary.shuffled(seed)
        edits["permuted"] = add_codes(subject.test.offset, subject.test.codes, shuffled)
    runs = test.readout.run(edits, reference=test.acts)
    for edit, run in runs.items():
        out.add(Key("approximation", "ld", edit=edit), run.ld)
    out.add(Key("approximation", "kl"), runs["hat"].kl)
    out.add(Key("approximation", "agree"), runs["hat"].top == bench.clean.top)
    out.add(Key("approximation", "err2"), squared_norm(test.acts - hat))
    out.add(Key("approximation", "l0"), subject.test.codes.per_row)
    tick("approximation")


MEASURE = Measure(measure)
