"""What the study scored as tables: a row for each dictionary, for each of its attributes, for each variable."""

from pathlib import Path
from typing import Any

import pandas as pd

from saebench.records.files import write_text
from saebench.scoring.axes import EVERY
from saebench.studies.planted import zoo
from saebench.studies.planted.saes import recipes

CONTROLS = ("oracle", "supervised", "identity", "random:8:256")
KEYS = ("model", "dictionary", "architecture", "sparsity", "seed")
NUMBERS = ("value", "normalized", "low", "high", "floor", "ceiling")
RECOVERY = ("subspace_overlap", "atom_cosine", "atom_f1")


def write(models: Path, work: Path, out: Path) -> None:
    """`scores.csv` and `attributes.csv` of what is scored, and `models.csv` of specs and certificates."""
    parts = [_scored(path) for path in sorted(work.glob("*.csv"))]
    if any(map(len, parts)):
        rows = pd.concat(parts)
        _write(out / "scores.csv", dictionaries(rows))
        _write(out / "attributes.csv", attributes(rows))
    _write(out / "models.csv", described(models))


def current(rows: Any) -> Any:
    """Rows of the dictionaries of one model that were scored by the axes' versions of now, and by no other."""
    now = rows.axis.map({axis.name: axis.version for axis in EVERY.values()}).fillna(0)
    was = rows.get("version", pd.Series(0, rows.index)).fillna(0)
    return rows[~rows.dictionary.isin(rows.dictionary[was != now])]


def _scored(path: Path) -> Any:
    """What is scored of one model; another choice of recipes or controls stays on disk, and out of the tables."""
    rows: Any = pd.read_csv(path)
    rows = rows[rows.dictionary.isin([*CONTROLS, *(recipe.name for recipe in recipes())])]
    kept = current(rows)
    if left := rows.dictionary.nunique() - kept.dictionary.nunique():
        print(f"{path.stem}: {left} left out, scored by other versions of axes; the study scores them again")
    return kept


def _write(path: Path, frame: pd.DataFrame) -> None:
    write_text(path, frame.to_csv(index=False, float_format="%.5g"))


def dictionaries(rows: Any) -> pd.DataFrame:
    """One row a dictionary: AXIS and AXIS_normalized, _low, _high, _floor, _ceiling; recovery alike."""
    whole = rows[rows.attribute.isna()]
    heads, recovered = whole.score == "headline", whole.score.isin(RECOVERY)
    plain = (whole.axis == "approximation") & whole.score.isin(["fvu", "l0"])
    named = whole.assign(column=whole.axis.where(heads, whole.score))
    return _wide(named[heads | recovered], NUMBERS).merge(
        _wide(named[plain], ("value",)), on=list(KEYS), how="left"
    )


def attributes(rows: Any) -> pd.DataFrame:
    """One row a dictionary and attribute: what is recovered, read and written, caused and isolated of it."""
    each = rows[rows.attribute.notna() & ~rows.attribute.astype(str).str.contains(">")]
    return _wide(each.assign(column=each.score), ("value",), (*KEYS, "attribute"))


def _wide(rows: Any, numbers: tuple[str, ...], keys: tuple[str, ...] = KEYS) -> pd.DataFrame:
    """Scores side by side; a control, which has no sparsity and seed, stays a row."""
    held = rows.assign(**{key: rows[key].astype(object).where(rows[key].notna(), "") for key in keys})
    wide = held.pivot_table(index=list(keys), columns="column", values=list(numbers), aggfunc="first")
    order = list(dict.fromkeys(rows.column))
    found = {
        (name if number == "value" else f"{name}_{number}"): wide[number, name]
        for name in order
        for number in numbers
        if (number, name) in wide.columns
    }
    return pd.DataFrame(found).reset_index()


def described(models: Path) -> pd.DataFrame:
    """One row a variable: what the spec asks, then what the certificate measured."""
    from saebench.planting.making import read_certificate
    from saebench.planting.reading import read_spec
    from saebench.planting.spec import QUIET_VERSION, VERSION

    rows = []
    for name in zoo.names():
        certificate = read_certificate(models / name)
        if certificate is None:
            continue
        spec = read_spec(zoo.SPECS / f"{name}.toml")
        for variable, figures in certificate.variables.items():
            asked = spec.variables[variable]
            rows.append(
                {
                    "model": name,
                    "certified": certificate.certified,
                    "training": QUIET_VERSION if spec.quiet else VERSION,
                    "parameters": certificate.parameters,
                    "superposition": certificate.superposition,
                    "coherence": certificate.coherence,
                    "variable": variable,
                    "values": asked.n_values,
                    "rank": asked.dimensions,
                    "norm": asked.norm,
                    "present": asked.present,
                    "used": asked.used,
                    "follows": asked.follows,
                    "asked_dependence": asked.dependence if asked.follows else None,
                    "dependence": certificate.dependence.get(f"{variable} follows {asked.follows}"),
                    **{f"measured_{k}": v for k, v in figures.model_dump().items()},
                }
            )
    return pd.DataFrame(rows)
