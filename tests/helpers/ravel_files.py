"""Files of the published RAVEL form that the bundled model can answer about."""

import json
from pathlib import Path

from saebench.kinds.entities.release_files import FILES
from saebench.spec import load_task


def write(folder: Path, files: dict) -> Path:
    for name, part in files.items():
        (folder / name).write_text(part if isinstance(part, str) else json.dumps(part))
    return folder


def known_cities(folder: Path) -> Path:
    """Files of the published form about cities, in words that the bundled model knows."""
    bundled = load_task("ravel")
    spec, chosen = bundled.spec, {}
    for row in bundled.rows("cities.csv"):
        if row["country"] in ("France", "Japan", "Brazil", "Egypt", "Germany", "China"):
            chosen.setdefault(row["country"], []).append(row)
    names = {"Country": "country", "Continent": "continent"}
    values, splits = {}, {}
    for rows in chosen.values():
        for i, row in enumerate(rows[:9]):
            values[row["city"]] = {ours: row[theirs] for ours, theirs in names.items()}
            splits[row["city"]] = ("train", "val", "test")[i % 3]
    prompts, phrase_splits = {}, {}
    for ours, theirs in names.items():
        listed = spec.templates[theirs]
        prompts[ours] = [t.replace("{city}", "%s") for t in (*listed.fit, *listed.test)]
        phrase_splits |= {t.replace("{city}", "%s"): "train" for t in listed.fit}
        phrase_splits |= {t.replace("{city}", "%s"): "test" for t in listed.test}
    parts = (values, prompts, {}, splits, phrase_splits)
    return write(folder, {name.format("city"): p for name, p in zip(FILES, parts, strict=True)})
