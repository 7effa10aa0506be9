"""Everything that the lenses look at: rows of the boards, SAEs whose truth is known, tolerances."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from saebench.audit.rows import Rows, read
from saebench.regression.tolerances import AXES, Tolerances

RECOVERY = ("recovery/matched_cosine_calibrated", "recovery/feature_f1")
ABOUT = "about.json"
"""The note beside the tables: what they hold, and where each comes from."""
PLANTED = "planted models"
PLANTED_RECOVERY = ("recovery/subspace_overlap", "recovery/atom_f1")
HELD_OUT = ", held out"
"""Ends the names of checks on SAEs that no definition, cap or ordering was chosen on."""
EXPLAINED = "recovery/explained_variance"
PEERS = ("probing@1", "probing@4", "tpp", "scr")


@dataclass(frozen=True)
class Evidence:
    """The tables of one set of definitions. Frames have one row an SAE; undefined scores are NaN there."""

    rows: Rows
    truth: pd.DataFrame = field(repr=False)
    tolerances: Mapping[str, float] = field(default_factory=dict)
    axes: tuple[str, ...] = tuple(AXES)
    about: Mapping[str, Any] = field(default_factory=dict)
    """What `about.json` says of the tables: their definitions, commit, command, what orders a board, and the
    training seeds of the SAEs that definitions were chosen on."""
    planted: pd.DataFrame = field(default_factory=lambda: pd.DataFrame({"model": []}), repr=False)
    """SAEs of planted models, with how much of the planted subspaces they recover."""
    sources: Mapping[str, Rows] = field(default_factory=dict, repr=False)
    """The same rows by the file that they stand in."""

    @property
    def history(self) -> bool:
        """Whether these are the tables of version 1, which ordered boards by the mean of all axes."""
        return self.about.get("ordering") == "all"

    @property
    def boards(self) -> list[str]:
        return self.rows.distinct("board")

    @property
    def families(self) -> list[str]:
        return list(dict.fromkeys(self.truth["family"])) if len(self.truth) else []

    def family(self, name: str) -> pd.DataFrame:
        return self.truth.loc[self.truth["family"] == name].reset_index(drop=True)

    def parts(self, name: str) -> dict[str, pd.DataFrame]:
        """A family's SAEs by the end of their checks' names: those chosen on, and apart those held out."""
        frame, seeds = self.family(name), self.about.get("chosen_on_seeds")
        if not seeds:
            return {"": frame}
        chosen = frame["seed"].isin(seeds)
        found = {"": frame.loc[chosen], HELD_OUT: frame.loc[~chosen]}
        return {end: part.reset_index(drop=True) for end, part in found.items() if len(part)}

    def tables(self, board: str, names: Iterable[str]) -> tuple[str, ...]:
        """The files that rows of these names stand in; `truth.csv: 80 SAEs` names its file itself."""
        wanted = set(names)
        found = {name for name, rows in self.sources.items() if wanted & rows.names.get(board, set())}
        return (*sorted(found), *sorted({n.partition(": ")[0] for n in wanted if ".csv: " in n}))


def board_of(family: str) -> str:
    """The board of a synthetic family, as the leaderboard titles it."""
    return f"synthetic/{family} · synthetic · synthetic@sample"


def load(folder: Path, tolerances: Path | None = None) -> Evidence:
    """All tables in a folder: every `*.parquet`, `truth.csv` and `planted.csv`.

    Raises:
        ResultError: if a table cannot be read.
    """
    sources = {path.name: read(path) for path in sorted(folder.glob("*.parquet"))}
    rows = Rows(tuple(row for part in sources.values() for row in part))
    truth = _saes(folder / "truth.csv", "family")
    planted = _saes(folder / "planted.csv", "model")
    known = {}
    if tolerances is not None and tolerances.is_file():
        known = {axis: t.size for axis, t in Tolerances.load(tolerances).headlines.items()}
    about = read_about(folder)
    return Evidence(rows, truth, known, about=about, planted=planted, sources=sources)


def read_about(folder: Path) -> dict[str, Any]:
    """The note beside the tables; empty where there is none."""
    path = folder / ABOUT
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _saes(path: Path, by: str) -> pd.DataFrame:
    """One row an SAE, with its L0 over the true one, where that is known, in powers of two; empty without a file."""
    if not path.is_file():
        return pd.DataFrame({by: []})
    frame = pd.read_csv(path)
    if "true_l0" not in frame:
        return frame
    band = np.log2(frame["approximation/l0"].clip(lower=1e-3) / frame["true_l0"])
    return frame.assign(band=band)
