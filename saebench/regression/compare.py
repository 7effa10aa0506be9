"""Compares two results prompt by prompt, and says whether one is credibly worse.

docs/methods.md §2. Differences are paired: both results are scored again from their stored outcomes on the
same resamples of the same units, so what the prompts have in common cancels. Several SAE seeds on
either side are a second level of resampling. A score regresses when it is worse after Holm's
correction and by more than its tolerance: large samples make any difference credible, and no build
should fail for one that nobody would act on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from saebench.errors import ResultError
from saebench.records.outcomes import OWN, Outcomes
from saebench.records.result import Result
from saebench.records.store import Stored, load
from saebench.regression.differences import FAILURES, Difference, differences
from saebench.regression.tolerances import Tolerances
from saebench.scoring.axes import of_headlines
from saebench.scoring.estimates import Bootstrap


@dataclass(frozen=True)
class Measured:
    """A result with its outcomes in memory."""

    result: Result
    outcomes: Outcomes


Comparable = Stored | Measured | Result | Path | str


@dataclass(frozen=True)
class Comparison:
    """All scores of a candidate against a baseline."""

    candidate: tuple[Result, ...]
    baseline: tuple[Result, ...]
    judged: tuple[Difference, ...]
    """The family that Holm corrects for: headlines and main scores."""
    shown: tuple[Difference, ...]
    """Every other score; it has an interval of its own and no verdict."""
    n_units: int
    """Independent units of the test prompts, of the way that has fewest (cities; IO names)."""
    notes: tuple[str, ...] = ()

    @property
    def failures(self) -> tuple[Difference, ...]:
        return tuple(d for d in self.judged if d.status in FAILURES)


@dataclass(frozen=True)
class Verdict:
    """Whether a candidate may replace its baseline."""

    comparison: Comparison

    @property
    def passed(self) -> bool:
        return not self.comparison.failures

    @property
    def sentence(self) -> str:
        """The verdict in one line."""
        failures = self.comparison.failures
        m = len(self.comparison.judged)
        if not failures:
            return f"No regression: none of {m} scores is credibly worse by more than its tolerance."
        names = ", ".join(d.label for d in failures)
        return f"Regression: {len(failures)} of {m} scores credibly worse: {names}."


def compare(
    a: Comparable | Sequence[Comparable],
    b: Comparable | Sequence[Comparable],
    tolerances: Tolerances | None = None,
) -> Comparison:
    """Differences a − b of every score, paired by prompt and cluster.

    `a` and `b` are stored results (paths or loaded), or several of them: the same architecture
    trained from different seeds.

    Raises:
        ResultError: if they differ in task, model, axis version, site, budget or seed, or if their
            outcomes are missing.
    """
    from saebench.scoring import score

    members = [[_open(x) for x in _several(side)] for side in (a, b)]
    everyone = [m.result for side in members for m in side]
    for other in everyone[1:]:
        refuse_different(everyone[0], other)
    tables = [[m.outcomes for m in side] for side in members]
    first = tables[1][0]
    for table in (t for side in tables for t in side):
        _refuse_other_prompts(table, first)
    try:
        scored = [[score(o, seed=everyone[0].seed) for o in side] for side in tables]
    except KeyError as error:
        raise ResultError(_other_version(everyone[0], error)) from error
    n_units = Bootstrap(first.cluster["test"], first.units.get("test"), n_resamples=1).n_units()
    judged, shown = differences(scored[0], scored[1], tolerances or Tolerances())
    candidate, baseline = (tuple(m.result for m in side) for side in members)
    return Comparison(candidate, baseline, judged, shown, n_units, _notes(candidate, baseline))


def regress(
    candidate: Comparable | Sequence[Comparable],
    baseline: Comparable | Sequence[Comparable],
    tolerances: Tolerances | Path | str | None = None,
) -> Verdict:
    """Whether any score of `candidate` is credibly worse than `baseline`'s by more than it may be.

    Raises:
        ResultError: if the two cannot be compared; see `compare`.
        OptionError: if the tolerances file is wrong.
    """
    if isinstance(tolerances, Path | str):
        tolerances = Tolerances.load(Path(tolerances))
    comparison = compare(candidate, baseline, tolerances)
    if all(d.status == "undefined" for d in comparison.judged):
        reasons = "; ".join(dict.fromkeys(d.reason or "" for d in comparison.judged))
        raise ResultError(f"No score of the two results could be judged: {reasons}.")
    return Verdict(comparison)


def _several(side: Comparable | Sequence[Comparable]) -> Sequence[Comparable]:
    return [side] if isinstance(side, Comparable) else side


def _open(item: Comparable) -> Stored | Measured:
    if isinstance(item, Path | str):
        return load(Path(item))
    if not isinstance(item, Result):
        return item
    # an evaluation may leave its outcomes on the result it returns
    outcomes = getattr(item, "outcomes", None)
    if outcomes is None:
        raise ResultError(
            f"The result {item.id[:8]} of {item.dictionary.name!r} comes without its outcomes, and"
            " averages alone cannot be paired. Pass the path it was saved under, or what"
            " `saebench.records.store.load` returns for it."
        )
    return Measured(item, outcomes)


# What must agree before two numbers measure the same thing, and how to read it off a result.
_MUST_AGREE: dict[str, Callable[[Result], object]] = {
    "task": lambda r: r.task.name,
    "task version": lambda r: r.task.version,
    "task digest": lambda r: r.task.sha256[:12],
    "model": lambda r: r.model.name,
    "model digest": lambda r: r.model.sha256[:12],
    "site": lambda r: r.site,
    "budget": lambda r: r.budget,
    "seed": lambda r: r.seed,
    "axis versions": lambda r: of_headlines(dict(sorted(r.axis_versions.items()))),
}


def refuse_different(a: Result, b: Result) -> None:
    """Raises a ResultError naming every difference that makes a comparison meaningless."""
    found = [f"{what} {read(a)} and {read(b)}" for what, read in _MUST_AGREE.items() if read(a) != read(b)]
    if found:
        raise ResultError(
            f"Cannot compare {a.dictionary.name!r} with {b.dictionary.name!r}: they differ in"
            f" {'; '.join(found)}. A difference between their scores would say nothing about the"
            " dictionaries. Score both under the same conditions."
        )


def _refuse_other_prompts(a: Outcomes, b: Outcomes) -> None:
    prompts = [(table.cluster, table.units, table.template) for table in (a, b)]
    same = all(
        set(one) == set(two) and all(np.array_equal(one[s], two[s]) for s in one if s not in OWN)
        for one, two in zip(*prompts, strict=True)
    )
    if not same:
        raise ResultError(
            "Cannot compare results on different prompts: their tables of outcomes list other"
            " prompts or units of resampling, although task and seed agree. Score both again with one version"
            " of saebench."
        )


def _other_version(result: Result, missing: KeyError) -> str:
    versions = ", ".join(f"{axis} {version}" for axis, version in sorted(result.axis_versions.items()))
    return (
        f"Cannot score {result.dictionary.name!r} again: its table of outcomes lacks"
        f" {str(missing.args[0]) if missing.args else 'a column'}, which this version of saebench scores. It was"
        f" made with axis versions {versions}. Score both results again (--force), or compare them with the"
        f" version that made them ({result.provenance.saebench})."
    )


def _notes(candidate: Sequence[Result], baseline: Sequence[Result]) -> tuple[str, ...]:
    notes = []
    a, b = candidate[0].provenance, baseline[0].provenance
    for what in ("device", "dtype"):
        if getattr(a, what) != getattr(b, what):
            notes.append(
                f"{what} differs ({getattr(a, what)}, {getattr(b, what)}): small differences may"
                " come from arithmetic."
            )
    if len(candidate) == 1 or len(baseline) == 1:
        notes.append(
            "One training seed on a side: the verdict is about these dictionaries, not about their"
            " architecture."
            if len(candidate) == len(baseline)
            else "One training seed on a side: it is taken to vary between seeds as the other side does."
        )
    return tuple(notes)
