"""Synthetic tasks as cross-sections with a linear readout (docs/methods.md §9)."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.cross_section import Attribute, CrossSection, LinearReadout, Split
from saebench.dictionaries.supervised import independent
from saebench.dictionary import Known
from saebench.kinds.base import Built, Competence, Settings
from saebench.kinds.sizes import Sizes
from saebench.site import Site
from saebench.spec import SyntheticSpec, Task
from saebench.synthetic.generator import Generator, Group, Sample, seeded
from saebench.synthetic.oracle import Ledger, Oracle

_STREAMS = {"fit": 10, "select": 11, "test": 12, "parts": 13}


class Size(NamedTuple):
    fit: int
    select: int
    test: int


SIZES = Sizes(
    {
        "tiny": Size(600, 600, 300),
        "quick": Size(2000, 2000, 1000),
        "standard": Size(4000, 4000, 4000),
        "full": Size(10_000, 10_000, 10_000),
    },
    units=lambda size: size.test,
)


@dataclass(frozen=True)
class Heads:
    """The fixed linear head of every attribute, padded to the same number of answers."""

    weight: Float[Tensor, "h vocab d_in"]
    bias: Float[Tensor, "h vocab"]


def labels_of(codes: Float[Tensor, "n n_features"], groups: tuple[Group, ...]) -> Tensor:
    """Value of every attribute: on or off, or which feature of the group is on."""
    columns = []
    for group in groups:
        on = codes[:, list(group.features)]
        columns.append((on[:, 0] > 0).long() if group.on_off else on.argmax(1))
    return torch.stack(columns, 1)


def redraw(
    generator: Generator, codes: Float[Tensor, "n n_features"], group: Group
) -> Float[Tensor, "n n_features"]:
    """The same codes with one attribute given another value; its magnitude is drawn anew."""
    at = torch.tensor(group.features)
    out, here = codes.clone(), codes[:, at]
    if group.on_off:
        drawn = generator.magnitudes(at.expand(len(codes)))
        out[:, at[0]] = torch.where(here[:, 0] > 0, 0.0, drawn)
        return out
    step = torch.randint(1, len(at), (len(codes),))
    new = at[(here.argmax(1) + step) % len(at)]
    out[:, at] = 0.0
    return out.scatter(1, new[:, None], generator.magnitudes(new)[:, None])


def ask(
    generator: Generator, codes: Float[Tensor, "n n_features"], labels: Int[Tensor, "n a"]
) -> Int[Tensor, "n"]:
    """Which attribute each row asks for.

    Of the attributes that can be changed alone, one that is on with chance ½ (where any is), else
    one that is off: features are mostly off, and a row that asks for one of those tells little.
    """
    groups = generator.groups
    settled = torch.stack([generator.settled(codes, g) for g in groups], 1)
    on = (labels > 0) | torch.tensor([not g.on_off for g in groups])
    wanted = torch.where(torch.rand(len(codes), 1) < 0.5, settled & on, settled & ~on)
    wanted = torch.where(wanted.any(1, keepdim=True), wanted, settled)
    # a row in which nothing can be changed alone asks for any attribute
    wanted = torch.where(wanted.any(1, keepdim=True), wanted, True)
    return torch.multinomial(wanted.float(), 1)[:, 0]


def make_heads(generator: Generator, acts: Float[Tensor, "n d_in"], labels: Int[Tensor, "n a"]) -> Heads:
    """Group of values: logits `⟨d_v, x − b⟩`. On/off: `(0, ⟨d, x − b⟩ − θ)`.

    θ lies midway between the class means on `fit`. Missing answers have logit −∞.
    """
    vocab = max(len(g.values) for g in generator.groups)
    weight = torch.zeros(len(generator.groups), vocab, generator.d_model)
    bias = torch.full((len(generator.groups), vocab), -torch.inf)
    for h, group in enumerate(generator.groups):
        rows = generator.D[list(group.features)]
        if group.on_off:
            shown = (acts - generator.b) @ rows[0]
            on = labels[:, h] == 1
            means = [shown[on].mean() if on.any() else shown.max(), shown[~on].mean()]
            weight[h, 1] = rows[0]
            bias[h, :2] = torch.stack([torch.zeros(()), -rows[0] @ generator.b - sum(means) / 2])
        else:
            weight[h, : len(rows)] = rows
            bias[h, : len(rows)] = -rows @ generator.b
    return Heads(weight, bias)


class Noted(NamedTuple):
    """Activations that a generator handed out."""

    acts: Float[Tensor, "n d_in"]
    labels: Int[Tensor, "n n_attributes"]
    row: Int[Tensor, "n"]
    """Their numbers in the oracle's ledger."""


class Maker:
    """Draws the splits of a task; everything it hands out stands in the oracle's ledger."""

    def __init__(self, generator: Generator, seed: int) -> None:
        self.generator, self.seed = generator, seed
        self.ledger = Ledger(generator.n_features)

    def place(self, *tensors: Tensor) -> list[Tensor]:
        return [t.to(self.generator.device) for t in tensors]

    def note(self, sample: Sample) -> Noted:
        """Activations and labels of a sample, whose codes go into the ledger."""
        number = self.ledger.add(sample.codes, sample.noise)
        return Noted(self.generator.acts(sample), labels_of(sample.codes, self.generator.groups), number)

    def draw(self, name: str, size: int) -> tuple[Sample, Noted]:
        sample = self.generator.sample(size, _STREAMS[name], self.seed)
        return sample, self.note(sample)

    def split(self, name: str, drawn: tuple[Sample, Noted], heads: Heads) -> Split:
        """A split; `test` has the sources of every attribute."""
        generator, (sample, (acts, labels, row)) = self.generator, drawn
        n = len(acts)
        sources: dict[str, Noted] = {}
        with seeded(_STREAMS[name], self.seed, 1):
            query = ask(generator, sample.codes, labels)
            if name == "test":
                for group in generator.groups:
                    other = Sample(redraw(generator, sample.codes, group), sample.noise)
                    sources[group.name] = self.note(other)
        answer = labels[torch.arange(n), query]
        blank = LinearReadout(heads.weight, heads.bias, query, answer, answer)
        clean = blank.logits(acts, torch.arange(n))
        runner_up = clean.scatter(1, answer[:, None], -torch.inf).argmax(1)
        weight, bias, head, right, wrong = self.place(heads.weight, heads.bias, query, answer, runner_up)
        readout = LinearReadout(weight, bias, head, right, wrong)
        placed = {k: Noted(*self.place(*v)) for k, v in sources.items()}
        source_acts = {k: v.acts for k, v in placed.items()}
        # the answer that a perfect edit gives is read off the true edited activation
        expected = {k: run.top for k, run in readout.run(source_acts).items()}
        acts, labels, query, row = self.place(acts, labels, query, row)
        cluster = torch.arange(n, device=acts.device)
        return Split(
            acts,
            labels,
            cluster,
            readout,
            source_acts,
            {k: v.labels for k, v in placed.items()},
            expected,
            query,
            row=row,
            source_row={k: v.row for k, v in placed.items()},
        )

    def parts(self) -> tuple[Tensor, Known] | None:
        """Inputs with one part alone, for families that compose features."""
        at = torch.tensor(self.generator.parts, dtype=torch.long)
        if len(at) == 0:
            return None
        codes = torch.zeros(len(at), self.generator.n_features)
        codes[torch.arange(len(at)), at] = self.generator.activations.mean_firing_magnitudes[at]
        return self._placed(codes)

    def pairs(self) -> tuple[Tensor, Known] | None:
        """Every value of one group with every value of the other, once, whatever their frequency."""
        if not self.generator.parts:
            return None
        one, other = (torch.tensor(group.features) for group in self.generator.groups)
        at = torch.cartesian_prod(one, other)
        size = self.generator.activations.mean_firing_magnitudes[at]
        return self._placed(torch.zeros(len(at), self.generator.n_features).scatter(1, at, size))

    def _placed(self, codes: Tensor) -> tuple[Tensor, Known]:
        acts, labels, row = self.place(*self.note(Sample(codes, None)))
        return acts, Known(labels, row)


def build(task: Task[SyntheticSpec], model: Generator, site: Site, settings: Settings) -> Built:
    """A synthetic task as a cross-section; every split is its own draw."""
    size, maker = SIZES.of(settings.budget), Maker(model, settings.seed)
    drawn = {name: maker.draw(name, getattr(size, name)) for name in ("fit", "select", "test")}
    heads = make_heads(model, drawn["fit"][1].acts, drawn["fit"][1].labels)
    splits = {}
    for name in list(drawn):
        # dense codes of thousands of features are large: those of a split go once it is made
        splits[name] = maker.split(name, drawn.pop(name), heads)
        settings.tick(f"samples of {name}")
    parts, pairs = maker.parts(), maker.pairs()
    truth = Oracle(model, maker.ledger.close(model.device), parts, pairs)
    attributes = tuple(Attribute(g.name, g.values, on_off=g.on_off) for g in model.groups)
    section = CrossSection(attributes, truth=truth, **splits)
    notes = (f"true L0 {model.true_l0():.2f} of {model.n_features} features in {model.d_model}",)
    return Built(section, Competence.on(section.test), notes, {"independent": independent(attributes)})
