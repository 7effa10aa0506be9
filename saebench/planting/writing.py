"""What a planted model leaves behind: a Hugging Face directory with its spec, certificate, card and task.

NAME/            config.json, model.safetensors, tokenizer: `--model NAME`
  spec.toml      what it was made from; beside it spec.json where that names files: the same with all they say
  certificate.json, README.md
  task/          task.toml, entities.csv, planted.safetensors: `--task NAME/task`
"""

import csv
import io
import json
from hashlib import sha256
from pathlib import Path

from saebench.planting.certificate import Certificate
from saebench.planting.geometry import Geometry
from saebench.planting.world import SPLITS, TEST, TRAIN, World
from saebench.records.files import write_all

CERTIFICATE, SPEC, TASK, TRUTH = "certificate.json", "spec.toml", "task", "planted.safetensors"
WHOLE_SPEC = "spec.json"


def save_model(model, world: World, folder: Path) -> None:
    """Writes weights, configuration and tokenizer."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    model.save_pretrained(folder)
    world.tokenizer.save_pretrained(folder)


def write_planted(
    folder: Path, saved: Path, world: World, geometry: Geometry, certificate: Certificate, spec_text: str
) -> None:
    """Writes a model saved elsewhere with its spec, certificate, card and task; all of them or none."""
    task, truth = folder / TASK, _truth(world, geometry)
    contents = {
        folder / SPEC: spec_text,
        task / "entities.csv": _table(world),
        task / "task.toml": _task(world, certificate, sha256(truth).hexdigest()),
        task / "README.md": _task_card(world, certificate),
        folder / "README.md": card(world, certificate),
        folder / CERTIFICATE: certificate.model_dump_json(indent=1) + "\n",
    }
    if world.spec.table or world.spec.text:
        contents[folder / WHOLE_SPEC] = world.spec.model_dump_json() + "\n"
    made = {path: text.encode() for path, text in contents.items()}
    model = {folder / file.name: file.read_bytes() for file in saved.iterdir()}
    write_all({**model, task / TRUTH: truth, **made}, folder)
    if folder / WHOLE_SPEC not in contents:
        # that of another spec, which would be read before spec.toml
        (folder / WHOLE_SPEC).unlink(missing_ok=True)


def _truth(world: World, geometry: Geometry) -> bytes:
    """`subspace.A` [rank, d], orthonormal rows, and `atoms.A` [n_values, d]; names of values as metadata."""
    from safetensors.torch import save

    tensors = {f"subspace.{name}": rows.contiguous() for name, rows in geometry.rows.items()}
    tensors |= {f"atoms.{name}": atoms.contiguous() for name, atoms in geometry.atoms.items()}
    names = dict(zip(world.variables, world.values, strict=True))
    return save(tensors, {"values": json.dumps({name: names[name] for name in geometry.rows})})


def _table(world: World) -> str:
    lines, names = io.StringIO(newline=""), world.spec.carried
    rows = csv.writer(lines, lineterminator="\n")
    rows.writerow(["entity", *names, "split"])
    columns = [world.variables.index(name) for name in names]
    for entity, labels, split in zip(world.entities, world.labels, world.split, strict=True):
        rows.writerow([entity, *(world.values[c][labels[c]] for c in columns), SPLITS[int(split)]])
    return lines.getvalue()


def _task(world: World, certificate: Certificate, truth_sha256: str) -> str:
    spec, names, quote = world.spec, world.spec.carried, json.dumps
    nested = {
        name: spec.variables[name].follows
        for name in names
        if spec.variables[name].nested and spec.variables[name].dependence == 1
    }
    lines = [
        f"name = {quote(f'planted/{spec.name}')}",
        "version = 1",
        'kind = "entities"',
        f"title = {quote(spec.title or f'Planted: {spec.name}')}",
        f"summary = {quote(f'Entities with {len(names)} planted variables: ' + ', '.join(names))}",
        'citation = "Written by `saebench plant`: the variables were trained into known subspaces"',
        'table = "entities.csv"',
        'entity = "entity"',
        f"attributes = {quote(list(names))}",
        'split = "split"',
    ]
    if nested:
        pairs = ", ".join(f"{child} = {quote(parent)}" for child, parent in nested.items())
        lines.append(f"nested = {{ {pairs} }}")
    for name in names:
        phrasings = spec.phrasings(name)
        lines += ["", f"[templates.{name}]", f"fit = {quote(list(phrasings.train))}"]
        lines.append(f"test = {quote(list(phrasings.test))}")
    site = f"{spec.model.hook}@entity"
    lines += [
        "",
        "# The model this task belongs to, and what is known of it. Other models have no planted truth.",
        "[planted]",
        f"file = {quote(TRUTH)}",
        f"sha256 = {quote(truth_sha256)}",
        f"site = {quote(site)}",
        f"model_sha256 = {quote(certificate.model_sha256)}",
        f"certified = {quote(certificate.certified)}",
    ]
    return "\n".join(lines) + "\n"


def _task_card(world: World, certificate: Certificate) -> str:
    said = (
        "certified" if certificate.certified else "**not certified**: the truth below is claimed, not shown"
    )
    return (
        f"# planted/{world.spec.name}\n\n"
        f"Questions about {len(world.entities)} entities, for the language model in the folder above"
        f" ({said}; see its `README.md`). `planted.safetensors` holds the subspace of each variable and the"
        " atom of each value. Entities of the split `test` were in no interchange intervention, and the"
        " phrasings of `test` in no training at all.\n"
    )


def card(world: World, certificate: Certificate) -> str:
    """The model's card: what was asked for, and what was measured."""
    spec, size = world.spec, world.spec.model
    verdict = "**Certified.**" if certificate.certified else "**Not certified:** "
    verdict += "; ".join(certificate.failures) + ("." if certificate.failures else "")
    held = [int((world.texts.held_out == which).sum()) for which in (TRAIN, TEST)]
    lines = [
        f"# {spec.title or spec.name}",
        "",
        f"A {size.architecture} language model of {certificate.parameters:,} parameters ({size.layers} layers,"
        f" width {size.d_model}), trained by `saebench plant` from `spec.toml`. The residual stream at"
        f" `{size.hook}`, at the entity, carries each variable in a subspace that was chosen beforehand:"
        " put there on purpose, not a discovery.",
        "",
        f"{verdict} Measured on {held[1]} phrasings that were never trained ({held[0]} were) about"
        f" {len(world.held_out)} of {len(world.entities)} entities that no interchange intervention has seen.",
        "",
        "| variable | values | rank | norm | behaviour | interchange | kept | complement | gradient inside"
        " | decodable | purity | measured rank | measured norm |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in certificate.variables.items():
        wanted = spec.variables[name]
        cells = [name, wanted.n_values, wanted.dimensions, f"{wanted.norm:g}"]
        cells += [
            _cell(value)
            for value in (
                found.behaviour,
                found.interchange,
                found.kept,
                found.complement,
                found.gradient_inside,
                found.decodable,
                found.purity,
                found.rank,
                found.norm,
            )
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += [
        "",
        f"Σ ranks / d_model: {certificate.superposition:.2f}; largest cosine between two subspaces:"
        f" {certificate.coherence:.2f}.",
    ]
    lines += [
        f"{name}: {figures.behaviour:.3f} answered rightly"
        + (
            f", {figures.interchange:.3f} after the last token's residual was swapped."
            if figures.interchange
            else "."
        )
        for name, figures in certificate.answers.items()
    ]
    lines += [
        f"{pair}: mutual information {share:.2f} of the smaller entropy."
        for pair, share in certificate.dependence.items()
    ]
    return "\n".join(lines) + "\n"


def _cell(value: float | int | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
