"""Why does the ordering not follow recovery better? `python -m saebench.studies.audit.why` takes it apart.

Reads the audit's table of truth alone, and writes `results/audit/why.csv`: rank correlations with recovery (the
weaker of the two measures, inside L0 bands) of some of the SAEs only, of other ways to make one number of the same
axes, and where the first snapshots of every architecture stand.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from saebench.audit.correlations import Correlations
from saebench.audit.evidence import EXPLAINED, HELD_OUT, RECOVERY, Evidence, load
from saebench.audit.lenses.truth import OVERALL, defined, with_means
from saebench.reporting.ordering import read_verdicts
from saebench.studies.rows import Row, write

TABLES, OUT = Path("results/audit/after"), Path("results/audit/why.csv")
ALL, ENDS, FIRST = "all", "fully trained", "first snapshots"
PARTS = {"": "chosen on", HELD_OUT: "held out"}
LEAST = 0.01
"""A geometric mean takes smaller scores for this one: one latent that is dead on one axis is no 0 of everything."""


def _geometric(x: pd.DataFrame) -> pd.Series:
    return pd.Series(np.exp(np.log(x.clip(LEAST, 1)).mean(axis=1)), index=x.index)


BEGUN = {
    "matched cosine": RECOVERY[0],
    "L0 over the true L0": "density",
    "written": "interpretability/written",
    "control": "control",
    "standing too high": "lead",
}
"""What is said of first snapshots, and the column that says it."""
WAYS: Mapping[str, Callable[[pd.DataFrame], pd.Series]] = {
    "mean": lambda x: x.mean(axis=1),
    "mean of ranks": lambda x: x.rank().mean(axis=1),
    "standardised mean": lambda x: ((x - x.mean()) / x.std()).mean(axis=1),
    "minimum": lambda x: x.min(axis=1),
    "geometric mean": _geometric,
}
"""One number of several axes, an undefined one counting 0."""


def ordered_by(axes: tuple[str, ...]) -> list[str]:
    """The axes that may order any board, as the committed audit says."""
    said = read_verdicts("any board")
    return [axis for axis in axes if said is None or axis not in said.axes or said.axes[axis].passes]


def subsets(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """All SAEs of a part, those at the end of their training, and all but those of one architecture."""
    yield ALL, frame
    yield ENDS, frame.loc[frame["step"] == frame["step"].max()]
    for name in sorted(set(frame["architecture"])):
        yield f"without {name}", frame.loc[frame["architecture"] != name]


def correlated(frame: pd.DataFrame, names: list[str], blank: Row) -> Iterator[Row]:
    found = Correlations(frame.reset_index(drop=True), names)
    for name in names:
        got = found.interval(name)
        if got is not None:
            value, low, high = got
            yield blank | {"score": name, "value": value, "low": low, "high": high, "saes": len(frame)}


def orderings(frame: pd.DataFrame, axes: list[str], blank: Row) -> Iterator[Row]:
    """Every way to make one number of every set of at least two axes."""
    columns: dict[str, pd.Series] = {}
    for n in range(2, len(axes) + 1):
        for some in combinations(axes, n):
            x = pd.DataFrame(frame, columns=list(some)).fillna(0.0)
            columns |= {f"{way} of {', '.join(some)}": make(x) for way, make in WAYS.items()}
    whole = pd.concat([frame, pd.DataFrame(columns)], axis=1)
    yield from correlated(whole, list(columns), blank | {"saes_of": ALL})


def beginnings(frame: pd.DataFrame, blank: Row) -> Iterator[Row]:
    """Each architecture's first snapshots: how good, how dense, what they write, how far above recovery they stand.

    `written` is a share of what the attributes write, so that 1 is right. Standing is a share of the ranks of all
    SAEs of the family and part: of the ordering minus of matched cosine.
    """
    ranks = frame[[OVERALL, RECOVERY[0]]].rank(pct=True)
    frame = frame.assign(lead=ranks[OVERALL] - ranks[RECOVERY[0]], density=2.0 ** frame["band"])
    first = frame.loc[frame["step"] == frame["step"].min()]
    for name, part in first.groupby("architecture"):
        for score, column in BEGUN.items():
            of = f"{FIRST} of {name}"
            yield blank | {
                "saes_of": of,
                "score": score,
                "value": float(part[column].mean()),
                "saes": len(part),
            }


def rows(evidence: Evidence) -> Iterator[Row]:
    by = ordered_by(evidence.axes)
    for family in evidence.families:
        for end, frame in evidence.parts(family).items():
            blank: Row = {"family": family, "part": PARTS[end]}
            axes = [axis for axis in evidence.axes if defined(frame, axis)]
            frame = with_means(frame, axes, [axis for axis in axes if axis in by])
            for of, some in subsets(frame):
                yield from correlated(some, [OVERALL, EXPLAINED], blank | {"saes_of": of})
            if not end:
                # what orders boards was chosen here, and here alone another choice may be looked at
                yield from orderings(frame, axes, blank)
            yield from beginnings(frame, blank)


def told(found: pd.DataFrame) -> str:
    """The table in a few lines: the ordering of some SAEs by family, and the best of the other orderings."""
    simple = found.loc[found["score"].isin([OVERALL, EXPLAINED])]
    shown = simple.pivot(index=["part", "saes_of", "score"], columns="family", values="value")
    other = found.loc[found["score"].str.contains(" of ") & (found["saes_of"] == ALL)]
    table = other.pivot(index="score", columns="family", values="value")
    best = pd.DataFrame({"families at .8": (table >= 0.8).sum(axis=1), "mean": table.mean(axis=1)})
    first = found.loc[found["saes_of"].str.startswith(FIRST)]
    begun = first.pivot(index=["part", "saes_of", "score"], columns="family", values="value")
    top = best.sort_values(["families at .8", "mean"], ascending=False).head(12)
    return "\n\n".join(part.round(2).to_string() for part in (shown, top, begun))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=Path, default=TABLES)
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    found = list(rows(load(asked.tables)))
    write(found, asked.out)
    print(told(pd.DataFrame(found)))


if __name__ == "__main__":
    main()
