"""The other texts of a spec: language modelling on them, and answers that follow from the site alone."""

from random import Random
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn.functional import cross_entropy

from saebench.planting.network import Halves
from saebench.planting.sentences import Sentence, TextSpec
from saebench.planting.tokens import encode
from saebench.planting.world import World


class Rows(NamedTuple):
    """Sentences as padded tokens."""

    ids: Int[Tensor, "b t"]
    length: Int[Tensor, "b"]
    last: Int[Tensor, "b"]
    """Position of the last token of the prompt, −1 where nothing is asked."""

    @property
    def answer(self) -> Int[Tensor, "b"]:
        """The token that follows the prompt."""
        return self.ids.gather(1, self.last[:, None] + 1)[:, 0]


def write_rows(world: World, sentences: list[Sentence]) -> Rows:
    """Tokens of sentences."""
    ids, length = encode(world.tokenizer, [one.text for one in sentences])
    asks = torch.tensor([bool(one.prompt) for one in sentences])
    _, prompt = encode(world.tokenizer, [one.prompt for one in sentences])
    return Rows(ids, length, torch.where(asks, prompt - 1, -1))


def draw_rows(world: World, generator: torch.Generator, n: int) -> tuple[Rows, Bool[Tensor, "b"]]:
    """`n` sentences, each kind at its share; and which of them are `at_site`."""
    rng = Random(int(torch.randint(2**62, (), generator=generator)))
    kinds = rng.choices(world.spec.text, [text.share for text in world.spec.text], k=n)
    rows = write_rows(world, [text.draw(rng, world.entities, slips=True) for text in kinds])
    return rows, torch.tensor([text.at_site for text in kinds])


def beside_loss(
    halves: Halves, world: World, generator: torch.Generator, answer_weight: float
) -> tuple[Tensor, Tensor]:
    """Next-token cross-entropy of the other texts, and that of the answers after interchanges at the site."""
    rows, at_site = draw_rows(world, generator, world.spec.beside)
    hidden = halves.before(rows.ids)
    logits = halves.after(hidden)[:, :-1]
    steps = torch.arange(logits.shape[1])
    weight = (steps < (rows.length - 1)[:, None]) * torch.where(
        steps == rows.last[:, None], answer_weight, 1.0
    )
    loss = cross_entropy(logits.flatten(0, 1), rows.ids[:, 1:].flatten(), reduction="none")
    loss = (loss * weight.flatten()).sum() / weight.sum()
    swapped = at_site.nonzero()[:, 0]
    if not world.spec.training.interchange or len(swapped) < 2:
        return loss, loss.new_zeros(())
    of = swapped.roll(1)
    return loss, cross_entropy(interchanged(halves, hidden, rows.last, swapped, of), rows.answer[of])


def interchanged(
    halves: Halves,
    hidden: Float[Tensor, "b t d"],
    last: Int[Tensor, "b"],
    base: Int[Tensor, "n"],
    source: Int[Tensor, "n"],
) -> Float[Tensor, "n vocab"]:
    """Logits of the rows `base` with the residual at their last token taken from the rows `source`."""
    edited = hidden[base].clone()
    edited[torch.arange(len(base)), last[base]] = hidden[source, last[source]]
    return halves.after(edited, last[base])


class AnswerCertificate(BaseModel):
    """Shares of right answers in [0, 1] of a text with answers, over the pairs held out where there are any."""

    model_config = ConfigDict(frozen=True)

    behaviour: float
    interchange: float | None = None
    """Answers that are the source's after the last token's residual at the site was swapped."""


@torch.no_grad()
def certify_answers(halves: Halves, world: World, text: TextSpec, draws: int) -> AnswerCertificate:
    """Whether a text's answers are right, and follow from the site where they are to."""
    rng, held_out = Random(draws), bool(text.apart)
    rows = write_rows(world, [text.draw(rng, world.entities, held_out) for _ in range(draws)])
    hidden, each = halves.before(rows.ids), torch.arange(draws)
    top = halves.after(hidden, rows.last).argmax(-1)
    moved = None
    if text.at_site:
        of = each.roll(1)
        logits = interchanged(halves, hidden, rows.last, each, of)
        moved = float((logits.argmax(-1) == rows.answer[of]).float().mean())
    return AnswerCertificate(behaviour=float((top == rows.answer).float().mean()), interchange=moved)
