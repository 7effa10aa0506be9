"""All that an axis ever sees: activations at a site with labels, sources, and the rest of the model.

docs/methods.md §2. A task kind builds a `CrossSection` from a language model or from a generator; the axes
know nothing of prompts, hooks or models.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saebench.answers import Outcome, Reference, concatenate, reduce_logits
from saebench.cache.tensors import cached, digest
from saebench.dictionary import Known, LabelledDictionary
from saebench.errors import SiteError
from saebench.site import Span

K = TypeVar("K", bound=Hashable)


class Readout(ABC):
    """The rest of the model: from an activation at the site to logits at the answer position."""

    answer: Int[Tensor, "n"]
    distractor: Int[Tensor, "n"]

    @property
    def made_from(self) -> list[Any] | None:
        """What its outcomes follow from, beside the edits; None where nothing of it is worth keeping."""
        return None

    def remembered(
        self, edits: Mapping[K, Float[Tensor, "n d_in"]], reference: Float[Tensor, "n d_in"] | None = None
    ) -> dict[K, Outcome]:
        """`run`, kept in the cache: for references, which every process asks for again."""
        if self.made_from is None:
            return self.run(edits, reference)
        asked = [digest(acts) for acts in edits.values()]

        def make() -> dict[str, Tensor]:
            runs = enumerate(self.run(edits, reference).values())
            return {f"{i}.{name}": t for i, run in runs for name, t in run._asdict().items() if t is not None}

        parts = [self.made_from, asked, digest(reference)]
        found = cached("runs", parts, make, self.answer.device)
        return {
            key: Outcome(found[f"{i}.ld"], found[f"{i}.top"], found.get(f"{i}.kl"))
            for i, key in enumerate(edits)
        }

    @property
    def groups(self) -> list[Int[Tensor, "_"]]:
        """Base prompts that are cheaper to run together than with others; here all of them."""
        return [torch.arange(len(self.answer))]

    @abstractmethod
    def logits(self, edited: Float[Tensor, "b d_in"], rows: Int[Tensor, "b"]) -> Float[Tensor, "b vocab"]:
        """Logits of base prompts `rows` with `edited` in place at the site. Differentiable."""

    @abstractmethod
    def run(
        self,
        edits: Mapping[K, Float[Tensor, "n d_in"]],
        reference: Float[Tensor, "n d_in"] | None = None,
        rows: Int[Tensor, "n"] | None = None,
    ) -> dict[K, Outcome]:
        """Runs every edit of the same prompts over one clean run, in blocks of prompts.

        `reference` is the activation whose answer distribution `kl` is measured from. `rows`
        selects base prompts; without it the edits cover all of them in order. Logits over the
        vocabulary never exist for more than one block.
        """

    def differences(self, edits: Mapping[K, Float[Tensor, "n d_in"]]) -> dict[K, Float[Tensor, "n"]]:
        """LD of every edit of the same prompts, for edits of which nothing else is asked: `run` knows more."""
        return {key: run.ld for key, run in self.run(edits).items()}

    def only(self, number: int, span: Span, clean: Float[Tensor, "n d_in"]) -> "Readout":
        """The same with one of several sites replaced, and the rest as the model makes it.

        Here the other sites stay as they are in the clean run: they do not depend on each other.
        """
        return _OneOfSeveral(self, span, clean)


class _OneOfSeveral(Readout):
    """One site of a readout of several, the others clean."""

    def __init__(self, whole: Readout, span: Span, clean: Float[Tensor, "n d_in"]) -> None:
        self.whole, self.span, self.clean = whole, span, clean
        self.answer, self.distractor = whole.answer, whole.distractor

    def _beside(self, edited: Float[Tensor, "b d_one"], rows: Int[Tensor, "b"]) -> Float[Tensor, "b d_in"]:
        out = self.clean[rows].clone()
        out[:, self.span.columns] = edited
        return out

    def logits(self, edited: Float[Tensor, "b d_one"], rows: Int[Tensor, "b"]) -> Float[Tensor, "b vocab"]:
        return self.whole.logits(self._beside(edited, rows), rows)

    def run(
        self,
        edits: Mapping[K, Float[Tensor, "n d_one"]],
        reference: Float[Tensor, "n d_one"] | None = None,
        rows: Int[Tensor, "n"] | None = None,
    ) -> dict[K, Outcome]:
        at = torch.arange(len(self.answer), device=self.answer.device) if rows is None else rows
        whole = {key: self._beside(edited, at) for key, edited in edits.items()}
        return self.whole.run(whole, None if reference is None else self._beside(reference, at), rows)


class LinearReadout(Readout):
    """A fixed linear head, `logits = x Wᵀ + b`; the readout of synthetic tasks and of tests.

    `weight [n_heads, vocab, d_in]` and `bias [n_heads, vocab]`; row i of the base data reads head
    `head[i]`, so that every row can ask for another attribute.
    """

    def __init__(
        self,
        weight: Float[Tensor, "h vocab d_in"],
        bias: Float[Tensor, "h vocab"],
        head: Int[Tensor, "n"],
        answer: Int[Tensor, "n"],
        distractor: Int[Tensor, "n"],
        block: int = 4096,
    ) -> None:
        self.weight, self.bias, self.head = weight, bias, head
        self.answer, self.distractor, self.block = answer, distractor, block

    def logits(self, edited: Float[Tensor, "b d_in"], rows: Int[Tensor, "b"]) -> Float[Tensor, "b vocab"]:
        heads = self.head[rows]
        if self.weight.shape[0] == 1:
            return edited @ self.weight[0].T + self.bias[0]
        # one product per head: gathering the weights would take b × vocab × d_in
        out = edited.new_empty(len(rows), self.weight.shape[1])
        for h in heads.unique().tolist():
            at = heads == h
            out[at] = edited[at] @ self.weight[h].T + self.bias[h]
        return out

    @torch.no_grad()
    def run(
        self,
        edits: Mapping[K, Float[Tensor, "n d_in"]],
        reference: Float[Tensor, "n d_in"] | None = None,
        rows: Int[Tensor, "n"] | None = None,
    ) -> dict[K, Outcome]:
        rows = torch.arange(len(self.answer), device=self.answer.device) if rows is None else rows
        parts: dict[K, list[Outcome]] = {key: [] for key in edits}
        for chunk in torch.arange(len(rows), device=rows.device).split(self.block):
            at = rows[chunk]
            wanted = None if reference is None else Reference.of(self.logits(reference[chunk], at))
            for key, edited in edits.items():
                logits = self.logits(edited[chunk], at)
                parts[key].append(reduce_logits(logits, self.answer[at], self.distractor[at], wanted))
        return {key: concatenate(outcomes) for key, outcomes in parts.items()}


@dataclass(frozen=True)
class Attribute:
    """A variable of the prompt and the names of its values; `labels` hold indices into them."""

    name: str
    values: tuple[str, ...]
    parent: str | None = None
    """The attribute that follows from this one (a country's continent), if any."""
    on_off: bool = False
    """A feature that is on (value 1) or off (value 0): only "on" is looked for."""

    @property
    def detectable(self) -> tuple[int, ...]:
        """Indices of the values that a latent may stand for."""
        return (1,) if self.on_off else tuple(range(len(self.values)))


class Read(NamedTuple):
    """What a hook point holds at the tokens of a site, for base prompts and for the sources of each attribute."""

    acts: Float[Tensor, "n d_read"]
    source_acts: Mapping[str, Float[Tensor, "n d_read"]]


@dataclass(frozen=True)
class Split:
    """One of the three disjoint sets of base prompts (`fit`, `select`, `test`)."""

    acts: Float[Tensor, "n d_in"]
    labels: Int[Tensor, "n n_attributes"]
    cluster: Int[Tensor, "n"]
    """Prompts that are not independent draws (of a name pair, a city, a draw); see `units`."""
    readout: Readout
    source_acts: Mapping[str, Float[Tensor, "n d_in"]] = field(default_factory=dict)
    source_labels: Mapping[str, Int[Tensor, "n n_attributes"]] = field(default_factory=dict)
    expected: Mapping[str, Int[Tensor, "n"]] = field(default_factory=dict)
    """The token that a perfect edit of the attribute makes the model answer."""
    query: Int[Tensor, "n"] | None = None
    """Index of the attribute that the prompt asks for; None where every prompt asks the same."""
    units: Int[Tensor, "n n_ways"] | None = None
    """What recurs across clusters, one column a way (IOI: the IO name, the S name). Resampled
    independently and multiplied (docs/methods.md §2); None where clusters are independent."""
    source_units: Mapping[str, Int[Tensor, "n n_ways"]] = field(default_factory=dict)
    """The units of each attribute's sources, numbered like `units`, or like `cluster` without them."""
    template: Int[Tensor, "n"] | None = None
    """Number of the prompt's phrasing among `CrossSection.templates`."""
    text: Int[Tensor, "n"] | None = None
    """A number that follows from the prompt's text alone, for choices that its place must not move."""
    row: Int[Tensor, "n"] | None = None
    """Where activations are generated: the number under which the generator remembers each."""
    source_row: Mapping[str, Int[Tensor, "n"]] = field(default_factory=dict)
    read_acts: Float[Tensor, "n d_read"] | None = None
    """Activations of the same tokens at another hook point, where a transcoder reads."""
    source_read_acts: Mapping[str, Float[Tensor, "n d_read"]] = field(default_factory=dict)
    reader: Callable[[str], Read] | None = field(default=None, repr=False, compare=False)
    """Draws the activations of a hook point, where there is a language model."""

    @property
    def known(self) -> Known:
        """What is known of the prompts besides their activations."""
        return Known(self.labels, self.row, self.read_acts)

    @property
    def content(self) -> Int[Tensor, "n"]:
        """What tells prompts apart wherever they stand: text, or the generator's number; else their place."""
        known = self.text if self.text is not None else self.row
        return torch.arange(len(self), device=self.acts.device) if known is None else known

    def source_known(self, attribute: str) -> Known:
        """What is known of the attribute's sources."""
        read = self.source_read_acts.get(attribute)
        return Known(self.source_labels[attribute], self.source_row.get(attribute), read)

    def read_at(self, hook: str) -> "Split":
        """The same with the activations of a hook point beside those of the site.

        Raises:
            SiteError: if there is no language model, or it lacks the hook point.
        """
        if self.reader is None:
            raise SiteError(
                f"Nothing is read at {hook!r} here: these activations come from no language model."
            )
        found = self.reader(hook)
        return replace(self, read_acts=found.acts, source_read_acts=found.source_acts)

    @property
    def made_from(self) -> list[Any] | None:
        """What is learned here follows from; None where nothing of it is worth keeping."""
        if self.readout.made_from is None:
            return None
        tables = (self.source_acts, self.source_labels, self.expected)
        named = [{name: digest(t) for name, t in table.items()} for table in tables]
        return [self.readout.made_from, *map(digest, (self.acts, self.labels, self.query)), *named]

    def part(self, number: int, span: Span) -> "Split":
        """One of several sites by itself; `expected` stays that of the edit of all."""
        sources = {name: acts[:, span.columns] for name, acts in self.source_acts.items()}
        readout = self.readout.only(number, span, self.acts)
        return replace(
            self, acts=self.acts[:, span.columns], readout=readout, source_acts=sources, reader=None
        )

    def __len__(self) -> int:
        return len(self.acts)

    def asks(self, attribute: int) -> Bool[Tensor, "n"]:
        """Which prompts ask for the attribute; all of them where the task asks one thing only."""
        if self.query is None:
            return torch.ones(len(self), dtype=torch.bool, device=self.acts.device)
        return self.query == attribute


class Listed(NamedTuple):
    """Something that a latent may stand for beside attributes and conjunctions: a name wherever it stands."""

    name: str
    n_values: int
    of: Callable[[Int[Tensor, "n n_attributes"]], Int[Tensor, "n m"]]
    """From labels to the m different values that each prompt has."""


@dataclass(frozen=True)
class CrossSection:
    """Activations of one model at one site on one task, split three ways."""

    attributes: tuple[Attribute, ...]
    fit: Split
    select: Split
    test: Split
    conjunctions: tuple[tuple[str, str], ...] = ()
    """Pairs of attributes whose joint values latents are looked for too, e.g. IO∧Pos."""
    library: tuple[Listed, ...] = ()
    """What else explains a latent."""
    truth: LabelledDictionary | None = None
    """The true dictionary, where the activations were generated."""
    sets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Attributes that are edited at once, by the name under which `test` has sources that change them all."""
    planted: Mapping[str, Float[Tensor, "_ d_in"]] = field(default_factory=dict)
    """Orthonormal rows of the subspace that was made to carry each attribute, where that is known."""
    planted_atoms: Mapping[str, Float[Tensor, "_ d_in"]] = field(default_factory=dict)
    """Within them, the atom of each value; a value that is carried by nothing has a zero one."""
    templates: tuple[str, ...] = ()
    """Phrasings that `Split.template` counts."""
    spans: tuple[Span, ...] = ()
    """The columns of each of several sites that are edited together; empty for one site."""
    ordinary: Callable[[], Float[Tensor, "m d_in"]] | None = field(default=None, repr=False, compare=False)
    """Draws activations of ordinary text at the site's hook point, where there is a language model."""

    @cached_property
    def made_from(self) -> list[Any] | None:
        """What an edit that is trained here follows from; None where that is not worth keeping."""
        splits = [self.fit.made_from, self.select.made_from]
        names = [(a.name, a.values) for a in self.attributes]
        return None if None in splits else [names, *splits]

    @property
    def d_in(self) -> int:
        return self.fit.acts.shape[1]

    @property
    def mean(self) -> Float[Tensor, "d_in"]:
        """ā, the mean activation over `fit`: what mean ablation puts in place."""
        return self.fit.acts.mean(0)

    def read_at(self, hook: str) -> "CrossSection":
        """The same with the activations of a hook point beside those of the site, for transcoders.

        Raises:
            SiteError: if there is no language model, or it lacks the hook point.
        """
        splits = {name: getattr(self, name).read_at(hook) for name in ("fit", "select", "test")}
        return replace(self, **splits)

    def parts(self) -> "tuple[CrossSection, ...]":
        """The cross-section of each of its sites alone, on the same prompts; of one site itself."""
        return tuple(self._part(number, span) for number, span in enumerate(self.spans)) or (self,)

    def _part(self, number: int, span: Span) -> "CrossSection":
        splits = {name: getattr(self, name).part(number, span) for name in ("fit", "select", "test")}
        draw = self.ordinary
        ordinary = None if draw is None else lambda: draw()[:, span.columns]
        return replace(self, **splits, spans=(), ordinary=ordinary, truth=None, planted={}, planted_atoms={})

    def typical(self) -> Float[Tensor, "m d_in"]:
        """Activations like those that an SAE is trained on; without a language model, those of `fit`."""
        return self.fit.acts if self.ordinary is None else self.ordinary()

    def index(self, attribute: str) -> int:
        return [a.name for a in self.attributes].index(attribute)
