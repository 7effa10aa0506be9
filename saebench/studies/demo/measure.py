"""What the demo model can do and where: the numbers of its card.

Everything here runs on the plain Hugging Face model with hooks of its own, independently of the code
that scores dictionaries, so that the two can be compared.
"""

from random import Random
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from saebench.demo.corpus import ATTRIBUTES, Prompt, fact_prompt, ioi_prompt, words
from saebench.planting.tokens import encode
from saebench.studies.demo.lm import (
    draw_interchange,
    first_token,
    interchange_logits,
    patched_logits,
    positions_of,
    residual,
)


@torch.no_grad()
def is_right(model: nn.Module, tokenizer, prompts: list[Prompt]) -> Bool[Tensor, "n"]:
    """Whether the arg-max over the whole vocabulary is the answer's first token."""
    ids, lengths = encode(tokenizer, [prompt.text for prompt in prompts])
    top = model(ids).logits[torch.arange(len(ids)), lengths - 1].argmax(-1)
    return top == first_token(tokenizer, [prompt.answer for prompt in prompts])


def accuracies(model: nn.Module, tokenizer, n: int = 2000, seed: int = 100) -> dict[str, float]:
    """Shares of right answers, in 0..1: IOI, IOI on held-out name pairs, and every attribute."""
    rng = Random(seed)
    sets = {
        "ioi": [ioi_prompt(rng) for _ in range(n)],
        "ioi_held_out_pairs": [ioi_prompt(rng, held_out=True) for _ in range(n)],
    }
    for attribute in ATTRIBUTES:
        every = [fact_prompt(rng, city, attribute) for city in words().cities for _ in range(n // 390)]
        sets[attribute] = every
    return {name: is_right(model, tokenizer, p).double().mean().item() for name, p in sets.items()}


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


def write_out(tokenizer, choices: list[Choice]) -> Triples:
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


def position(tokenizer, prompts: Triples, name: str) -> Int[Tensor, "n"]:
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
def ioi_site(model: nn.Module, tokenizer, layer: int, where: str, n: int = 6000, seed: int = 7) -> SiteRow:
    """Measure one site with `n` prompts to fit the dictionary and 1000 others to score it."""
    rng = Random(seed)
    names = len(words().names)
    sizes = {"io": names, "s": names, "pos": 2}

    def capture(prompts: Triples) -> Float[Tensor, "n d"]:
        at = position(tokenizer, prompts, where)
        return residual(model, prompts.ids, layer)[torch.arange(len(at)), at]

    fit = write_out(tokenizer, draw_choices(rng, n))
    acts = capture(fit)
    mean = acts.mean(0)
    atom = {a: atoms(acts, getattr(fit, a), sizes[a]) for a in sizes}
    choices = draw_choices(rng, 1000)
    base = write_out(tokenizer, choices)
    here, at = capture(base), position(tokenizer, base, where)
    rows = torch.arange(len(at))
    token_of = first_token(tokenizer, [f" {name}" for name in words().names])

    def outcome(new: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n"], Int[Tensor, "n"]]:
        logits = patched_logits(model, base.ids, layer, at, lambda _: new)[rows, base.last]
        return logits[rows, token_of[base.io]] - logits[rows, token_of[base.s]], logits.argmax(-1)

    clean, clean_top = outcome(here)
    ablated = outcome(mean.expand_as(here))[0].mean()
    whole = torch.stack([atom[a][getattr(base, a)] for a in sizes]).sum(0)
    rebuilt = outcome(mean + whole)[0].mean()
    row = SiteRow(f"blocks.{layer}.hook_resid_pre", where, 0.0, {}, {}, {}, {}, {})
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
def planted_figures(
    model: nn.Module, tokenizer, subspaces: dict[str, Tensor], layer: int = 1, n: int = 1500
) -> dict[str, dict[str, float]]:
    """For every swap (a planted subspace, everything, nothing planted): share of wanted answers.

    Keyed by swap and by the attribute asked for, over held-out phrasings. The whole residual swapped is
    the full source patch: its figure is the site's ceiling for `cause`.
    """
    swaps = {name: (name,) for name in ATTRIBUTES}
    swaps |= {"everything": (*ATTRIBUTES, "rest"), "complement": ("rest",)}
    figures: dict[str, dict[str, float]] = {}
    for name, swap in swaps.items():
        pairs = draw_interchange(Random(n), n, swap, splits=("test",))
        logits = interchange_logits(model, tokenizer, pairs, subspaces, layer)
        right = logits.argmax(-1) == first_token(tokenizer, pairs.answers)
        asked = [prompt.attribute for prompt in pairs.base]
        figures[name] = {
            a: right[torch.tensor([x == a for x in asked])].double().mean().item() for a in ATTRIBUTES
        }
    return figures


def read_from(
    model: nn.Module, tokenizer, subspaces: dict[str, Tensor], layer: int = 1, n: int = 300
) -> dict[str, float]:
    """For every attribute, how much of what its answers respond to lies in its planted subspace.

    The share, in [0, 1], of the squared gradient of `logit(source's answer) − logit(own answer)` by the
    residual at the city, at the base and at the source, over pairs of cities with different values.
    """
    shares = {}
    for attribute in ATTRIBUTES:
        pairs = draw_interchange(Random(n), 2 * n, (attribute,), asked=attribute)
        new = first_token(tokenizer, pairs.answers)
        own = first_token(tokenizer, [prompt.answer for prompt in pairs.base])
        ids, lengths = encode(tokenizer, [prompt.text for prompt in pairs.base])
        at, differ = positions_of(tokenizer, pairs.base), new != own
        inside = total = 0.0
        for prompts in (pairs.base, pairs.source):
            texts, _ = encode(tokenizer, [prompt.text for prompt in prompts])
            places = positions_of(tokenizer, prompts)
            with torch.no_grad():
                point = residual(model, texts, layer)[torch.arange(len(texts)), places]
            point = point.clone().requires_grad_()
            logits = patched_logits(model, ids, layer, at, lambda _, x=point: x)
            logits = logits[torch.arange(len(ids)), lengths - 1]
            gap = logits.gather(1, torch.stack([new, own], 1))
            (gradient,) = torch.autograd.grad((gap[:, 0] - gap[:, 1])[differ].sum(), point)
            inside += (gradient @ subspaces[attribute].T).square().sum().item()
            total += gradient.square().sum().item()
        shares[attribute] = inside / total
    return shares
