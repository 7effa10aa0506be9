"""What the rest of a model answers, reduced over the vocabulary: logit difference, arg-max, divergence."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Outcome(NamedTuple):
    """What the rest of the model answers when an activation is replaced, reduced over the vocabulary."""

    ld: Float[Tensor, "*e n"]
    """LD = logit(answer) − logit(distractor) of the base prompt's two tokens, in logits."""
    top: Int[Tensor, "*e n"]
    """Arg-max token over the whole vocabulary."""
    kl: Float[Tensor, "*e n"] | None
    """KL(reference ‖ edited) over the whole vocabulary, in nats; None if no reference was given."""


def log_probs(logits: Float[Tensor, "*b vocab"]) -> Float[Tensor, "*b vocab"]:
    """Logarithms of the answers' probabilities, in float32 whatever the model computes in."""
    return logits.float().log_softmax(-1)


class Reference(NamedTuple):
    """The answers that KL is measured from, for many edits of the same prompts."""

    log_probs: Float[Tensor, "b vocab"]
    probs: Float[Tensor, "b vocab"]
    impossible: Bool[Tensor, "b vocab"] | None
    """Tokens of probability 0; None where there are none."""

    @classmethod
    def of(cls, logits: Float[Tensor, "b vocab"]) -> "Reference":
        logs = log_probs(logits)
        impossible = logs.isneginf()
        return cls(logs, logs.exp(), impossible if impossible.any() else None)


def reduce_logits(
    logits: Float[Tensor, "*e b vocab"],
    answer: Int[Tensor, "b"],
    distractor: Int[Tensor, "b"],
    reference: Reference | None = None,
) -> Outcome:
    """LD, arg-max and KL(reference ‖ logits) of a block of logits.

    In front of the block any number of edits may stand that share answers and reference.
    """
    rows = logits.shape[:-1]
    ld, other = (logits.gather(-1, token.expand(rows)[..., None])[..., 0] for token in (answer, distractor))
    kl = None
    if reference is not None:
        # in place: with a large vocabulary most of the time goes into passes over memory
        terms = log_probs(logits)
        torch.sub(reference.log_probs, terms, out=terms).mul_(reference.probs)
        if reference.impossible is not None:
            # a token of probability 0 adds 0, also where its log is −inf
            terms.masked_fill_(reference.impossible, 0.0)
        kl = terms.sum(-1).clamp(min=0)
    return Outcome((ld - other).float(), logits.argmax(-1), kl)


def concatenate(outcomes: list[Outcome]) -> Outcome:
    """Joins the outcomes of consecutive blocks."""
    kls = [o.kl for o in outcomes if o.kl is not None]
    return Outcome(
        torch.cat([o.ld for o in outcomes]),
        torch.cat([o.top for o in outcomes]),
        torch.cat(kls) if len(kls) == len(outcomes) else None,
    )
