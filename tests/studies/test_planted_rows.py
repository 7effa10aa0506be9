"""Rows of the planted study that another version of an axis scored are scored again, and are in no table."""

from pathlib import Path

import pandas as pd
import pytest

from saebench.scoring.axes import EVERY
from saebench.studies.planted import study, tables

ORACLE, IDENTITY = "oracle", "identity"


def rows(dictionary: str, value: float, behind: int = 0) -> list[study.Row]:
    """What one dictionary scores; its subspaces by the version of `behind` versions ago."""
    of = {"dictionary": dictionary, "architecture": "control", "sparsity": None, "seed": None}
    whole = {"attribute": None, **dict.fromkeys(tables.NUMBERS, value)}
    subspaces = EVERY["subspaces"].version - behind
    return [
        {**of, "axis": "approximation", "version": EVERY["approximation"].version, "score": "l0", **whole},
        {**of, "axis": "subspaces", "version": subspaces, "score": "atom_f1", **whole},
        {**of, "axis": "task", "version": None, "score": "effect", **whole, "attribute": "colour"},
    ]


def kept(work: Path, found: list[study.Row]) -> Path:
    pd.DataFrame([{"model": "plain", **row} for row in found]).to_csv(work / "plain.csv", index=False)
    return work / "plain.csv"


@pytest.mark.parametrize("versioned", [True, False])
def test_what_another_version_scored_is_scored_again(tmp_path, monkeypatch, versioned):
    file = kept(tmp_path, rows(ORACLE, 0.5, behind=1) + rows(IDENTITY, 0.25))
    if not versioned:
        pd.read_csv(file).drop(columns="version").to_csv(file, index=False)
    asked = []

    def score(folder, done, seeds):
        asked.append(done)
        yield from (rows(name, 1.0) for name in (ORACLE, IDENTITY) if name not in done)

    monkeypatch.setattr(study, "score", score)
    study.run("plain", tmp_path, tmp_path, (0,))
    assert asked == [{IDENTITY} if versioned else set()]
    after = pd.read_csv(file)
    assert sorted(after.dictionary) == [IDENTITY] * 3 + [ORACLE] * 3
    assert after.value[after.dictionary == ORACLE].eq(1).all()
    assert len(tables.current(after)) == len(after)


def test_what_another_version_scored_is_in_no_table(tmp_path, capsys):
    kept(tmp_path, rows(ORACLE, 0.5, behind=1) + rows(IDENTITY, 0.25))
    tables.write(tmp_path, tmp_path, tmp_path / "out")
    assert "plain: 1 left out" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "out" / "scores.csv").dictionary.tolist() == [IDENTITY]
