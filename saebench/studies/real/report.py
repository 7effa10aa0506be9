"""`python -m saebench.studies.real.report`: `results/smollm2-135m/README.md`, statement by statement.

Every statement is a number over the same prompts and resamples as what it is compared with: means over
SAEs, and differences of such means, with the 95 % interval of the difference. What contradicts the
papers stands first.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from saebench.records import store
from saebench.records.files import write_text
from saebench.scoring import score
from saebench.scoring.axes import versions
from saebench.scoring.estimates import Estimate, Undefined
from saebench.studies.real.ravel import differences_table, edits_table, sae_ravel
from saebench.studies.real.statements import (
    NOBODY,
    Row,
    Statement,
    above,
    below,
    difference,
    entry,
    headline,
    mean,
    named,
    shown,
    statements_table,
)

FOLDER = Path("results/smollm2-135m")
AXES = ("approximation", "control", "interpretability", "occlusion", "oversplitting")


def load(folder: Path) -> dict[tuple[str, str], list[Row]]:
    """Results of one model's folder, by task and site."""
    found: dict[tuple[str, str], list[Row]] = {}
    for path in store.find(folder.parent):
        if folder not in path.parents:
            continue
        stored = store.load(path)
        row = Row(stored.result, score(stored.outcomes, stored.result.seed))
        found.setdefault((row.result.task.name, row.result.site), []).append(row)
    return found


def counting(rows: Sequence[Row]) -> list[str]:
    """Attributes whose source credibly moves LD at the site: of others an edit cannot be faithful."""
    effects = {
        e.attribute: e.value
        for row in rows[:1]
        for e in row.scored.entries
        if (e.axis, e.name) == ("task", "effect") and e.attribute and isinstance(e.value, Estimate)
    }
    ends = {name: value.interval() for name, value in effects.items()}
    return [name for name, (low, high) in ends.items() if low > 0 or high < 0]


def makelov(rows: Sequence[Row]) -> Iterator[Statement]:
    """Findings of arXiv 2405.08366 on one board."""
    supervised, tasks = named(rows, "control:supervised"), named(rows, "-ioi-seed0")
    identity, web = named(rows, "control:identity"), named(rows, "-docs-")
    for name in ("sufficiency", "necessity"):
        value = mean(entry(row, "approximation", name) for row in supervised)
        yield Statement(
            "Supervised dictionaries approximate", f"{name} of the supervised one", value, above(0.9)
        )
    for attribute in counting(rows):
        value = mean(entry(row, "control", "edit_fidelity", attribute, "supervised") for row in supervised)
        told = f"fidelity of the supervised edit of {attribute.upper()}"
        yield Statement("Supervised dictionaries control", told, value, above(0.9))
    told = "read & write of the supervised one − mean of the task SAEs"
    axis = "interpretability"
    value = difference(mean(headline(r, axis) for r in supervised), mean(headline(r, axis) for r in tasks))
    yield Statement("Supervised dictionaries can be interpreted, SAEs less", told, value, above(0.0))
    value = difference(
        mean(headline(r, "control") for r in tasks), mean(headline(r, "control") for r in supervised)
    )
    yield Statement(
        "SAEs' control trails the supervised one's", "control, task SAEs − supervised", value, below(0.0)
    )
    value = difference(
        mean(headline(r, "control") for r in tasks), mean(headline(r, "control") for r in identity)
    )
    yield Statement("SAEs edit better than neurons", "control, task SAEs − neurons", value, above(0.0))
    if web:
        twins = [row for name in ("topk-", "batchtopk-") for row in tasks if row.name.startswith(name)]
        twins = [row for row in twins if "-64-" in row.name]
        for axis in ("approximation", "control", "interpretability"):
            value = difference(mean(headline(r, axis) for r in twins), mean(headline(r, axis) for r in web))
            told = f"{axis}, task SAEs − web-text SAEs (topk and batchtopk, k = 64)"
            yield Statement("Task SAEs do better than web-text SAEs", told, value, above(0.0))
    value = mean(headline(row, "occlusion") for row in tasks)
    told = (
        "what is written of the weaker attribute, of what is written of the stronger; mean of the task SAEs"
    )
    yield Statement("A strong attribute occludes a weak one", told, value, below(1.0))
    value = mean(headline(row, "oversplitting") for row in tasks)
    told = "1 = one latent for each value; mean of the task SAEs"
    yield Statement("SAEs split a value over many latents", told, value, below(0.5))


def board_table(rows: Sequence[Row]) -> str:
    """Raw headlines of every row of a board."""
    axes = [axis for axis in AXES if any(axis in row.scored.axes for row in rows)]
    lines = ["| | L0 | " + " | ".join(axes) + " |", "|---|---|" + "---|" * len(axes)]
    for row in sorted(rows, key=lambda row: (row.name.startswith("control:"), row.name)):
        l0 = row.result.dictionary.l0
        cells = [shown(headline(row, axis)).split(":")[0] for axis in axes]
        lines.append(f"| `{row.name}` | {'–' if l0 is None else f'{l0:.1f}'} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


class Contrast(NamedTuple):
    """SAEs of one kind against SAEs of another."""

    what: str
    these: Sequence[Row]
    those: Sequence[Row]


def contrasts(rows: Sequence[Row]) -> Iterator[Contrast]:
    """Sparse against dense, every architecture against the others, seeds against the first one."""
    saes = [row for row in rows if "-ioi-seed" in row.name]
    first: dict[str, list[Row]] = {}
    for row in saes:
        if row.name.endswith("seed0"):
            first.setdefault(row.name.split("-")[0], []).append(row)
    both = {
        name: sorted(pair, key=lambda row: row.result.dictionary.l0 or 0.0) for name, pair in first.items()
    }
    both = {name: pair for name, pair in both.items() if len(pair) == 2}
    if len(both) > 1:
        named_all = ", ".join(both)
        sparse, dense = ([pair[at] for pair in both.values()] for at in (0, 1))
        yield Contrast(f"the sparser − the denser of each architecture ({named_all})", sparse, dense)
        for name, pair in both.items():
            others = [row for other in both if other != name for row in both[other]]
            yield Contrast(f"{name} − the other architectures", pair, others)
    for row in saes:
        stem, _, seed = row.name.rpartition("-seed")
        if seed != "0":
            yield Contrast(f"{stem}: seed {seed} − seed 0", [row], named(saes, f"{stem}-seed0"))


def contrasts_table(rows: Sequence[Row]) -> str:
    """Markdown; empty where there is nothing to contrast."""
    listed = [c for c in contrasts(rows) if c.those]
    if not listed:
        return ""
    axes = [axis for axis in AXES if any(axis in row.scored.axes for row in rows)]
    lines = ["| difference | " + " | ".join(axes) + " |", "|---|" + "---|" * len(axes)]
    for what, these, those in listed:
        means = [[mean(headline(row, axis) for row in side) for side in (these, those)] for axis in axes]
        cells = [shown(difference(*pair)).split(":")[0] for pair in means]
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def saes_table(folder: Path) -> str:
    """Digests, commands and times of the SAEs, by the machine that trained them."""
    machines: dict[tuple[str, str], list[str]] = {}
    for row in json.loads((folder / "saes.json").read_text(encoding="utf-8"))["saes"]:
        name = "/".join(row["path"].split("/")[1:])
        machines.setdefault((row["device"], row["torch"]), []).append(
            f"| `{name}` | {row['fvu']:.4f} | {row['l0']:.1f} | {row['dead']} | {row['seconds']:.0f} |"
            f" `{row['sha256'][:12]}` | `{row['command']}` |"
        )
    parts = ["Held out: 4,096 activations that were not trained on."]
    for (device, torch), lines in machines.items():
        head = "| | FVU | L0 | dead | s | sha256 | command |\n|---|---|---|---|---|---|---|"
        where = "a CPU" if device == "cpu" else device
        parts += [f"Trained on {where} (torch {torch}):", "\n".join([head, *lines])]
    return "\n\n".join(parts)


def model_notes(rows: Sequence[Row], told: set[str]) -> str:
    """What was left out on this model, and how well it does what is left; long lists stand under the first board."""
    first = rows[0].result
    argmax = [r for r in rows[0].scored.entries if r.axis == "task" and r.name == "accuracy"]
    lines = [f"- LD > 0 on {first.task.model_accuracy:.1%} of {first.task.n.test} test prompts"]
    lines += [
        f"- vocabulary arg-max right on {float(e.value):.1%}" for e in argmax if isinstance(e.value, Estimate)
    ]
    for note in first.warnings:
        what, _, listed = note.partition(" (“")
        if "not competent" not in note:
            lines.append(f"- {what}: those listed above" if listed and what in told else f"- {note}")
        told.add(what)
    return "\n".join(lines)


def write(folder: Path) -> str:
    """The whole page."""
    boards, told = load(folder), set[str]()
    parts = [(folder / "intro.md").read_text(encoding="utf-8").rstrip()]
    for (task, site), rows in sorted(boards.items()):
        statements = list(sae_ravel(rows) if task == "ravel" else makelov(rows))
        statements = [s for s in statements if s.value != Undefined(NOBODY)]
        parts += [
            f"## {task.upper()} at `{site}`",
            model_notes(rows, told),
            statements_table(statements),
            edits_table(rows),
            differences_table(rows),
            board_table(rows),
            contrasts_table(rows),
        ]
    parts += ["## The SAEs", saes_table(folder)]
    return "\n\n".join(part for part in parts if part) + "\n"


def of_other_versions(folder: Path) -> str | None:
    """What stands in the way of statements: rows that were measured by definitions that have moved since."""
    found = {}
    for path in store.find(folder.parent):
        measured = store.load(path).result.axis_versions if folder in path.parents else {}
        today = versions([axis for axis in measured if axis not in AXES])
        found[path] = {a: (v, today[a]) for a, v in measured.items() if v != today[a]}
    old = {path: moved for path, moved in found.items() if moved}
    if not old:
        return None
    moved = ", ".join(f"{axis} {was} (now {now})" for axis, (was, now) in next(iter(old.values())).items())
    return (
        f"{len(old)} rows of {folder} were measured by earlier definitions: {moved}. Statements made from their"
        " columns today would mix the two, so the page stays as it was written then. Score the SAEs again"
        " (benchmarks/gpu.sh trains and scores them) and remove the old rows."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    folder = parser.parse_args().folder
    trouble = of_other_versions(folder)
    if trouble:
        raise SystemExit(trouble)
    write_text(folder / "README.md", write(folder))
    print(folder / "README.md")


if __name__ == "__main__":
    main()
