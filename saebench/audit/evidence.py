"""Everything that the lenses look at: rows of the boards, SAEs whose truth is known, tolerances."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from saebench.audit.rows import Rows, read
from saebench.regression.tolerances import AXES, Tolerances

RECOVERY = ("recovery/matched_cosine_calibrated", "recovery/feature_f1")
EXPLAINED = "recovery/explained_variance"
PEERS = ("probing@1", "probing@4", "tpp", "scr")


@dataclass(frozen=True)
class Evidence:
    """The tables of one set of definitions. Frames have one row an SAE; undefined scores are NaN there."""

    rows: Rows
    truth: pd.DataFrame = field(repr=False)
    tolerances: Mapping[str, float] = field(default_factory=dict)
    axes: tuple[str, ...] = tuple(AXES)
    about: Mapping[str, str] = field(default_factory=dict)
    """What `about.json` says of the tables: their definitions, commit, command, and what orders a board."""

    @property
    def boards(self) -> list[str]:
        return self.rows.distinct("board")

    @property
    def families(self) -> list[str]:
        return list(dict.fromkeys(self.truth["family"])) if len(self.truth) else []

    def family(self, name: str) -> pd.DataFrame:
        return self.truth.loc[self.truth["family"] == name].reset_index(drop=True)


def board_of(family: str) -> str:
    """The board of a synthetic family, as the leaderboard titles it."""
    return f"synthetic/{family} · synthetic · synthetic@sample"


def load(folder: Path, tolerances: Path | None = None) -> Evidence:
    """All tables in a folder: every `*.parquet` and `truth.csv`.

    Raises:
        ResultError: if a table cannot be read.
    """
    rows = Rows(())
    for path in sorted(folder.glob("*.parquet")):
        rows += read(path)
    truth = pd.DataFrame({"family": []})
    if (folder / "truth.csv").is_file():
        truth = pd.read_csv(folder / "truth.csv")
        truth["band"] = np.log2(truth["approximation/l0"].clip(lower=1e-3) / truth["true_l0"])
    known = {}
    if tolerances is not None and tolerances.is_file():
        known = {axis: t.size for axis, t in Tolerances.load(tolerances).headlines.items()}
    about = {}
    if (folder / "about.json").is_file():
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    return Evidence(rows, truth, known, about=about)
