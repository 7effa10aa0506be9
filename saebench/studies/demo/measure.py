"""What the bundled model can do and where: the numbers of its card that are not its certificate's.

Everything here runs on the two halves of the plain Hugging Face model, independently of the code that
scores dictionaries, so that the two can be compared.
"""

from random import Random
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saebench.demo.corpus import ATTRIBUTES, Prompt, fact_prompt, ioi_prompt, words
from saebench.planting.geometry import Geometry
from saebench.planting.interchange import Parts, draw_pairs, run, targets
from saebench.planting.network import Halves
from saebench.planting.tokens import encode
from saebench.planting.world import TEST, World


def first_token(tokenizer: Any, answers: list[str]) -> Int[Tensor, "b"]:
    """The first token of every answer."""
    return encode(tokenizer, answers)[0][:, 1]


@torch.no_grad()
def is_right(halves: Halves, tokenizer: Any, prompts: list[Prompt]) -> Bool[Tensor, "n"]:
    """Whether the arg-max over the whole vocabulary is the answer's first token."""
    ids, lengths = encode(tokenizer, [prompt.text for prompt in prompts])
    top = halves.after(halves.before(ids), lengths - 1).argmax(-1)
    return top == first_token(tokenizer, [prompt.answer for prompt in prompts])


def accuracies(halves: Halves, tokenizer: Any, n: int = 2000, seed: int = 100) -> dict[str, float]:
    """Shares of right answers, in 0..1: IOI, IOI on held-out name pairs, and every attribute."""
    rng = Random(seed)
    sets = {
        "ioi": [ioi_prompt(rng) for _ in range(n)],
        "ioi_held_out_pairs": [ioi_prompt(rng, held_out=True) for _ in range(n)],
    }
    for attribute in ATTRIBUTES:
        every = [fact_prompt(rng, city, attribute) for city in words().cities for _ in range(n // 390)]
        sets[attribute] = every
    return {name: is_right(halves, tokenizer, p).double().mean().item() for name, p in sets.items()}


class Triples(NamedTuple):
    """IOI prompts by what they are made of, and their tokens."""

    ids: Int[Tensor, "n t"]
    last: Int[Tensor, "n"]
    io: Int[Tensor, "n"]
    s: Int[Tensor, "n"]
    pos: Int[Tensor, "n"]


class Choice(NamedTuple):
    """One IOI prompt before it is written out; `pos` is 0 if the indirect object is named first."""

    template: str
    io: str
    s: str
    pos: int
    place: str
    thing: str


def draw_choices(rng: Random, n: int) -> list[Choice]:
    """`n` IOI prompts, all attributes independent."""
    w, choices = words(), []
    for _ in range(n):
        template, (io, s) = rng.choice(w.ioi_templates), rng.sample(w.names, 2)
        pos, place, thing = rng.randrange(2), rng.choice(w.places), rng.choice(w.objects)
        choices.append(Choice(template, io, s, pos, place, thing))
    return choices


def counterfactual(rng: Random, choice: Choice, attribute: str) -> Choice:
    """The same prompt with another value of one attribute."""
    if attribute == "pos":
        return choice._replace(pos=1 - choice.pos)
    other = rng.choice([name for name in words().names if name not in (choice.io, choice.s)])
    return choice._replace(**{attribute: other})


def write_out(tokenizer: Any, choices: list[Choice]) -> Triples:
    """Tokens and labels of IOI prompts."""
    names = {name: i for i, name in enumerate(words().names)}
    texts = []
    for c in choices:
        first, second = (c.io, c.s) if c.pos == 0 else (c.s, c.io)
        slots = {"first": first, "second": second, "s": c.s, "place": c.place, "object": c.thing}
        texts.append(c.template.format(**slots))
    ids, lengths = encode(tokenizer, texts)
    labels = torch.tensor([[names[c.io], names[c.s], c.pos] for c in choices])
    io, s, pos = labels.T
    return Triples(ids, lengths - 1, io, s, pos)


def position(tokenizer: Any, prompts: Triples, name: str) -> Int[Tensor, "n"]:
    """The token index of a semantic position: io, s1, s1+1, s2 or end."""
    if name == "end":
        return prompts.last
    token_of = first_token(tokenizer, [f" {name}" for name in words().names])
    label = prompts.io if name == "io" else prompts.s
    hits = (prompts.ids == token_of[label][:, None]).int()
    first = hits.argmax(1)
    if name == "s2":
        return hits.shape[1] - 1 - hits.flip(1).argmax(1)
    return first + (name == "s1+1")


class SiteRow(NamedTuple):
    """What a mean supervised dictionary and source patches show at one IOI site.

    `norm`: mean norm of the attribute's atoms. `effect`: mean change of the logit difference under the
    source patch, as a share of |LD(a) - LD(mean)|, with the half-width of its 95 % interval. `edit`: share
    of prompts whose arg-max under the supervised edit equals that under the source patch; `no_edit`: the
    same with nothing edited.
    """

    hook: str
    position: str
    sufficiency: float
    norm: dict[str, float]
    effect: dict[str, float]
    effect_half_width: dict[str, float]
    edit: dict[str, float]
    no_edit: dict[str, float]


def atoms(acts: Float[Tensor, "n d"], labels: Int[Tensor, "n"], k: int) -> Float[Tensor, "k d"]:
    """Mean supervised atoms: the mean activation of every value less the mean over all."""
    total = torch.zeros(k, acts.shape[1]).index_add_(0, labels, acts)
    return total / torch.bincount(labels, minlength=k).clamp_min(1)[:, None] - acts.mean(0)


@torch.no_grad()
def ioi_site(halves: Halves, tokenizer: Any, where: str, n: int = 6000, seed: int = 7) -> SiteRow:
    """Measure one position at the halves' site: `n` prompts to fit the dictionary, 1000 others to score it."""
    rng = Random(seed)
    names = len(words().names)
    sizes = {"io": names, "s": names, "pos": 2}

    def capture(prompts: Triples) -> Float[Tensor, "n d"]:
        at = position(tokenizer, prompts, where)
        return halves.before(prompts.ids)[torch.arange(len(at)), at]

    fit = write_out(tokenizer, draw_choices(rng, n))
    acts = capture(fit)
    mean = acts.mean(0)
    atom = {a: atoms(acts, getattr(fit, a), sizes[a]) for a in sizes}
    choices = draw_choices(rng, 1000)
    base = write_out(tokenizer, choices)
    everywhere, at = halves.before(base.ids), position(tokenizer, base, where)
    rows = torch.arange(len(at))
    here = everywhere[rows, at]
    token_of = first_token(tokenizer, [f" {name}" for name in words().names])

    def outcome(new: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n"], Int[Tensor, "n"]]:
        edited = everywhere.clone()
        edited[rows, at] = new
        logits = halves.after(edited, base.last)
        return logits[rows, token_of[base.io]] - logits[rows, token_of[base.s]], logits.argmax(-1)

    clean, clean_top = outcome(here)
    ablated = outcome(mean.expand_as(here))[0].mean()
    whole = torch.stack([atom[a][getattr(base, a)] for a in sizes]).sum(0)
    rebuilt = outcome(mean + whole)[0].mean()
    row = SiteRow(f"blocks.{halves.site}.hook_resid_pre", where, 0.0, {}, {}, {}, {}, {})
    scale = (clean.mean() - ablated).abs()
    for a in sizes:
        source = write_out(tokenizer, [counterfactual(rng, c, a) for c in choices])
        patched, wanted = outcome(capture(source))
        edited = here - atom[a][getattr(base, a)] + atom[a][getattr(source, a)]
        change = (patched - clean).double()
        row.norm[a] = atom[a].norm(dim=1).mean().item()
        row.effect[a] = (change.mean() / scale).item()
        row.effect_half_width[a] = (1.96 * change.std() / len(change) ** 0.5 / scale).item()
        row.edit[a] = (outcome(edited)[1] == wanted).double().mean().item()
        row.no_edit[a] = (clean_top == wanted).double().mean().item()
    return row._replace(sufficiency=((rebuilt - ablated) / (clean.mean() - ablated)).item())


@torch.no_grad()
def swaps(halves: Halves, world: World, geometry: Geometry, draws: int = 500) -> dict[str, dict[str, float]]:
    """For every swap (a planted subspace, everything, nothing planted): share of wanted answers.

    Keyed by swap and by the variable asked for, on what the certificate asks about. The whole residual
    swapped is the full source patch: its figure is the site's ceiling for `cause`. The halves may be cut
    at a later block than the subspaces were planted at.
    """
    carried, parts = world.spec.carried, Parts(geometry)
    moved = {name: [float(name == other) for other in carried] + [0.0] for name in carried}
    moved |= {"everything": [1.0] * (len(carried) + 1), "complement": [0.0] * len(carried) + [1.0]}
    figures: dict[str, dict[str, float]] = {name: {} for name in moved}
    for at, asked in enumerate(world.variables):
        about = torch.full((draws,), at)
        generator = torch.Generator().manual_seed(30_000 + at)
        base, source = draw_pairs(world, about, world.held_out, TEST, generator)
        for name, strength in moved.items():
            each = torch.tensor(strength).expand(draws, -1)
            pairs = targets(world, base, source, each, torch.zeros(draws, len(carried)))
            right = run(halves, world, parts, pairs).argmax(-1) == pairs.wanted
            figures[name][asked] = right.double().mean().item()
    return figures
