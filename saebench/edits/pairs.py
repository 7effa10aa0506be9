"""Learning an edit through the rest of the model: pairs, the loss, and what is chosen on `select`.

A base prompt, an edited attribute and the source that belongs to both; what is wanted is the
source's value where the base asks for that attribute (cause) and the base's own answer elsewhere
(isolate). Rotations (DAS) and masks (DBM) are trained on the same pairs by the same loss, the
cross-entropy of the wanted answer, through the differentiable readout [RAVEL §3; MIB].
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from saebench.cross_section import CrossSection, Split
from saebench.scoring.settings import PAIRS

Tick = Callable[[str], None]


class Batch(NamedTuple):
    """Pairs: base prompts `rows`, the attribute that is edited in each, and the answer wanted."""

    rows: Int[Tensor, "b"]
    attribute: Int[Tensor, "b"]
    wanted: Int[Tensor, "b"]


class Pairs:
    """Draws batches of pairs of a split: half cause, half isolate, or cause alone.

    The rows of a batch come from few groups of the readout, since every further group is a further
    pass; over a training run all groups occur as often as they are large.
    """

    def __init__(self, section: CrossSection, split: Split, seed: int, isolate: bool = True) -> None:
        assert split.query is not None, "only prompts that ask for different attributes make pairs"
        self.query = split.query.cpu()
        self.names = [a.name for a in section.attributes]
        self.expected = torch.stack([split.expected[name].cpu() for name in self.names], 1)
        self.groups = [group.cpu() for group in split.readout.groups]
        self.weights = torch.tensor([float(len(group)) for group in self.groups])
        self.isolate, self.generator = isolate, torch.Generator().manual_seed(seed)

    def draw(self, size: int = PAIRS.batch) -> Batch:
        """`size` pairs; the edited attribute is the one asked for in half of them."""
        g, parts = self.generator, min(PAIRS.groups, size)
        chosen = torch.multinomial(self.weights, parts, replacement=True, generator=g)
        rows = torch.cat(
            [
                group[torch.randint(len(group), (size // parts,), generator=g)]
                for group in (self.groups[i] for i in chosen.tolist())
            ]
        )
        asked = self.query[rows]
        other = torch.randint(max(1, len(self.names) - 1), asked.shape, generator=g)
        other = other + (other >= asked).long()
        isolated = torch.rand(asked.shape, generator=g) < 0.5
        if not self.isolate or len(self.names) == 1:
            isolated[:] = False
        attribute = torch.where(isolated, other, asked)
        return Batch(rows, attribute, self.expected[rows, attribute])


def stacked_sources(section: CrossSection, split: Split) -> Float[Tensor, "n n_attributes d_in"]:
    """The source activation of every base prompt and edited attribute."""
    return torch.stack([split.source_acts[a.name] for a in section.attributes], 1)


def train(
    parameters: list[Tensor],
    edit: Callable[[Batch, int], Float[Tensor, "b d_in"]],
    pairs: Pairs,
    split: Split,
    steps: int,
    rate: float,
    after: Callable[[int], None] = lambda step: None,
) -> None:
    """Adam on the cross-entropy of the wanted answers; `after(step)` follows every step.

    `edit(batch, step)` gives the edited activations of a batch as a function of `parameters`.
    """
    optimizer = torch.optim.Adam(parameters, lr=rate)
    for step in range(steps):
        batch = pairs.draw()
        edited = edit(batch, step)
        logits = split.readout.logits(edited, batch.rows)
        loss = cross_entropy(logits.float(), batch.wanted.to(logits.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        after(step + 1)


def balance(right: Bool[Tensor, "n"], asks: Bool[Tensor, "n"]) -> float:
    """½ (share right where the attribute is asked for + share right elsewhere), in [0, 1]."""
    parts = [float(right[at].float().mean()) for at in (asks, ~asks) if bool(at.any())]
    return sum(parts) / len(parts)


def balances(
    section: CrossSection, split: Split, edits: Mapping[int, Mapping[str, Float[Tensor, "n d_in"]]]
) -> dict[int, dict[str, float]]:
    """½ (cause + isolate) of edits, keyed by attribute and by name; what `select` chooses by."""
    found = {}
    for at, by_name in edits.items():
        runs = split.readout.run(by_name)
        expected = split.expected[section.attributes[at].name]
        asks = split.asks(at)
        found[at] = {name: balance(run.top == expected, asks) for name, run in runs.items()}
    return found
