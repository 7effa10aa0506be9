"""The audit's table of planted models: `python -m saebench.studies.audit.planted` makes it of the study's scores.

One row an SAE of `saebench.studies.planted.study`: the five axes, explained variance, and how much of the planted
subspaces it recovers.
"""

import argparse
from pathlib import Path

import pandas as pd

from saebench.audit.evidence import EXPLAINED, PLANTED_RECOVERY
from saebench.audit.standing import note
from saebench.records.files import write_text
from saebench.scoring.axes import AXES

SCORES = Path("results/planted/scores.csv")
OUT = Path("results/audit/after/planted.csv")


def table(scores: pd.DataFrame) -> pd.DataFrame:
    """The study's SAEs as the audit reads them; what a model does not define stays empty."""
    saes = scores.loc[scores["architecture"] != "control"]
    columns = {
        "model": saes["model"],
        "architecture": saes["architecture"],
        "share": saes["sparsity"],
        "seed": saes["seed"].astype(int),
        "l0": saes["l0"],
        **{axis: saes[f"{axis}_normalized"] for axis in AXES if f"{axis}_normalized" in saes},
        EXPLAINED: 1 - saes["fvu"],
        PLANTED_RECOVERY[0]: saes["subspace_overlap_normalized"],
        PLANTED_RECOVERY[1]: saes["atom_f1"],
    }
    return pd.DataFrame(columns).sort_values(["model", "architecture", "share", "seed"], kind="stable")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scores", type=Path, default=SCORES)
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    made = table(pd.read_csv(asked.scores))
    note(asked.out.parent, asked.out.name)
    write_text(asked.out, made.to_csv(index=False, float_format="%.6g"))
    print(f"{asked.out}: {len(made)} SAEs of {made['model'].nunique()} planted models")


if __name__ == "__main__":
    main()
