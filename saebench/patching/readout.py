"""The rest of a language model as a `Readout`: edits at given sites in, answers out."""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from saebench.answers import Outcome, Reference, concatenate, reduce_logits
from saebench.cache.tensors import cached, digest
from saebench.cross_section import K, Readout
from saebench.models.language_model import LanguageModel
from saebench.models.memory import Cost, Scratch
from saebench.patching.agreement import disagreement
from saebench.patching.capture import capture
from saebench.patching.distinct import Distinct
from saebench.patching.placement import Placement, check
from saebench.patching.plain import PlainPass
from saebench.patching.suffix import SuffixPass
from saebench.patching.whole_runs import WholeRuns
from saebench.site import Span

# Logits that are reduced together: more than a CPU's caches hold are read from memory several times.
REDUCED = 2**20
Way = Literal["suffix", "plain"]


@runtime_checkable
class Pass(Protocol):
    """A patched pass: what the plain way and the suffix have in common."""

    def parts(self, rows: Tensor, edits: int = 1) -> Iterator[Tensor]: ...

    def logits(self, edited: Tensor, rows: Tensor, scratch: Scratch | None = None) -> Tensor: ...

    def token_logits(self, edited: Tensor, rows: Tensor, wanted: Tensor) -> Tensor: ...

    def cost(self, rows: Tensor) -> Cost: ...

    def forget(self) -> None: ...


class PatchedReadout(Readout):
    """Logits at the last token of every prompt, with the activations at `places` replaced.

    With several places an edit holds their values side by side, in the order of `places`, and all
    are patched in one pass. Edits and logits are float32 whatever the model computes in. `way` is that of a
    readout at the same kinds of hook points, which spares the check; `runs` are clean runs of the same prompts
    that several readouts start from.

    Raises:
        SiteError: if the model lacks a hook point, or a position lies outside its prompt.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokens: Sequence[Sequence[int]],
        places: Sequence[Placement],
        answer: Int[Tensor, "n"],
        distractor: Int[Tensor, "n"],
        *,
        way: Way | None = None,
        runs: WholeRuns | None = None,
        warn: Callable[[str], None] = warnings.warn,
    ) -> None:
        check(model, tokens, places)
        self.model, self.tokens, self.places = model, tokens, tuple(places)
        self.answer = answer.to(model.device)
        self.distractor = distractor.to(model.device)
        self._pair = torch.stack([self.answer, self.distractor], dim=1)
        self.budget = model.budget
        self._known_way, self._runs, self._warn = way, runs, warn

    @cached_property
    def made_from(self) -> list[Any] | None:
        """Model, prompts, places and the tokens that are compared."""
        where = [(place.hook, place.positions.tolist(), place.head) for place in self.places]
        texts = [list(text) for text in self.tokens]
        parts = json.dumps([self.model.made_from, texts, where, digest(self._pair)])
        return [hashlib.sha256(parts.encode()).hexdigest()]

    @property
    def way(self) -> Way:
        """`suffix`, or `plain` where the suffix did not reproduce the full pass."""
        return "plain" if isinstance(self._pass, PlainPass) else "suffix"

    @property
    def rows_at_once(self) -> int:
        """Rows (prompts × edits) of the first prompt's kind that run in one batch."""
        return self.budget.rows(self._pass.cost(torch.tensor([0])))

    def forget(self) -> None:
        """Drops the clean runs that are kept for later calls."""
        self._pass.forget()

    @cached_property
    def _pass(self) -> Pass:
        """The suffix, unless a few prompts run both ways show that it does not fit this model.

        Chosen when it is first needed: some readouts never are, and the choice takes a clean run.
        """
        plain = PlainPass(self.model, self.tokens, self.places)
        if self._known_way == "plain":
            return plain
        suffix = SuffixPass(self.model, self.tokens, self.places, self.budget, self._runs)
        trouble = None if self._known_way == "suffix" else disagreement(plain, suffix, self._pair)
        if trouble is None:
            return suffix
        self._warn(
            f"The fast patched pass does not reproduce the full one on {self.model.name} at"
            f" {', '.join(place.hook for place in self.places)} ({trouble}); every edit takes a"
            " full forward pass instead, which is slower and as exact."
        )
        return plain

    @property
    def d_in(self) -> int:
        return sum(self.model.d_in(place.hook, place.head) for place in self.places)

    @torch.no_grad()
    def clean(self) -> Float[Tensor, "n d_in"]:
        """The clean activations at the places, side by side; from the clean run that every edit starts from."""
        way, rows = self._pass, self._all()
        if not isinstance(way, SuffixPass):
            found = capture(self.model, self.tokens, dict(enumerate(self.places)), budget=self.budget)
            return torch.cat(list(found.values()), dim=1)
        out = torch.empty(len(rows), self.d_in, device=self.model.device)
        for at in way.parts(rows):

            def read(block: slice, _: int, at: Tensor = at) -> None:
                out[at[block].to(out.device)] = way.read(at[block])

            self.budget.in_blocks(len(at), way.cost(at), read)
        return out

    def unedited(self) -> Outcome:
        """What the model answers to the prompts as they are; kept in the cache."""

        def make() -> dict[str, Tensor]:
            clean = self.run({None: self.clean()})[None]
            return {"ld": clean.ld, "top": clean.top}

        found = cached("runs", [self.made_from, "unedited"], make, self.model.device)
        return Outcome(found["ld"], found["top"], None)

    def only(self, number: int, span: Span, clean: Float[Tensor, "n d_in"]) -> "PatchedReadout":
        """The same prompts with one of the places replaced; what lies behind it follows."""
        place = [self.places[number]]
        return PatchedReadout(self.model, self.tokens, place, self.answer, self.distractor, way=self.way)

    def logits(self, edited: Float[Tensor, "b d_in"], rows: Int[Tensor, "b"]) -> Float[Tensor, "b vocab"]:
        return self._gather(rows, lambda at, part: self._pass.logits(edited[at], part)).float()

    def difference(self, edited: Float[Tensor, "b d_in"], rows: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
        """LD alone, differentiable: unembeds two tokens instead of the vocabulary."""

        def of(at: Tensor, part: Tensor) -> Tensor:
            wanted = self._pair[part.to(self._pair.device)]
            return self._pass.token_logits(edited[at], part, wanted.repeat(len(at) // len(part), 1))

        both = self._gather(rows, of).float()
        return both[:, 0] - both[:, 1]

    @torch.no_grad()
    def run(
        self,
        edits: Mapping[K, Float[Tensor, "n d_in"]],
        reference: Float[Tensor, "n d_in"] | None = None,
        rows: Int[Tensor, "n"] | None = None,
    ) -> dict[K, Outcome]:
        if not edits:
            return {}
        scratch = Scratch()

        def answers(edited: Tensor, prompts: Tensor, side: int) -> list[Tensor]:
            wanted, found = None, []
            for some in edited.split(side):
                logits = self._pass.logits(some.flatten(0, 1), prompts, scratch)
                logits = logits.unflatten(0, (len(some), len(prompts)))
                if reference is not None and wanted is None:
                    wanted = Reference.of(logits[0])
                found += [
                    reduce_logits(few, self.answer[prompts], self.distractor[prompts], wanted)
                    for few in logits.split(max(1, REDUCED // logits[0].numel()))
                ]
            return [values for values in concatenate(found) if values is not None]

        first = [] if reference is None else [reference]
        every = self._all() if rows is None else rows.cpu()
        ld, top, *kl = self._each_distinct([*first, *edits.values()], every, answers)
        return {
            key: Outcome(ld[i], top[i], kl[0][i] if kl else None) for i, key in enumerate(edits, len(first))
        }

    @torch.no_grad()
    def differences(self, edits: Mapping[K, Float[Tensor, "n d_in"]]) -> dict[K, Float[Tensor, "n"]]:
        """Two tokens of the vocabulary are unembedded, so what rounding moves is not what it moves in `run`."""
        if not edits:
            return {}

        def answers(edited: Tensor, prompts: Tensor, side: int) -> list[Tensor]:
            pair = self._pair[prompts.to(self._pair.device)]
            found = [
                self._pass.token_logits(some.flatten(0, 1), prompts, pair.repeat(len(some), 1)).float()
                for some in edited.split(side)
            ]
            both = torch.cat(found).unflatten(0, edited.shape[:2])
            return [both[..., 0] - both[..., 1]]

        [ld] = self._each_distinct(list(edits.values()), self._all(), answers)
        return dict(zip(edits, ld, strict=True))

    def _each_distinct(
        self,
        edits: Sequence[Float[Tensor, "n d_in"]],
        rows: Int[Tensor, "n"],
        answers: Callable[[Tensor, Tensor, int], list[Tensor]],
    ) -> list[Shaped[Tensor, "e n"]]:
        """What `answers` makes of edits `[e m d_in]` of some prompts, so many at once, for every edit and row.

        The first edit stands first in every call; of the others those that are equal run once.
        """
        device = self.model.device
        distinct = Distinct.of(edits, device)
        out: list[Tensor] = []
        for at in self._pass.parts(rows, len(edits)):
            # prompts with as many distinct edits as each other share a batch
            at = at[distinct.count[at].argsort(stable=True)]
            part = rows[at]

            def work(block: slice, limit: int, at: Tensor = at, part: Tensor = part) -> None:
                prompts, where = part[block], at[block].to(device)
                slots = int(distinct.count[at[block]].max())
                batch = torch.zeros(slots, len(where), self.d_in, dtype=edits[0].dtype, device=device)
                beside = torch.arange(len(where), device=device)
                for edit, slot in zip(edits, distinct.slot[:, where], strict=True):
                    batch[slot, beside] = edit[where.to(edit.device)].to(device)
                # edits that run next to each other, sharing the clean run of few prompts
                found = answers(batch, prompts, max(1, limit // len(prompts)))
                if not out:
                    out.extend(values.new_empty(len(edits), len(rows)) for values in found)
                for into, values in zip(out, found, strict=True):
                    into[:, where] = values.gather(0, distinct.slot[:, where])

            each = int(distinct.count[at].max())
            self.budget.in_blocks(len(part), self._pass.cost(part), work, each)
        return out

    def _all(self) -> Int[Tensor, "n"]:
        return torch.arange(len(self.tokens))

    def _gather(self, rows: Int[Tensor, "b"], of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """`of(indices, prompts)` for every part of `rows`, put back in order."""
        rows = rows.cpu()
        order, found = [], []
        for at in self._pass.parts(rows):
            part = rows[at]
            fits, period = self.budget.rows(self._pass.cost(part)), _period(part)
            # several edits of the same prompts together, or some of the rows as they come
            size, prompts = (fits // period * period, period) if period <= fits else (fits, fits)
            for block in torch.arange(len(at)).split(size):
                order.append(at[block])
                found.append(of(at[block].to(self.model.device), part[block][:prompts]))
        if len(found) == 1:
            return found[0]
        return torch.cat(found)[torch.cat(order).argsort().to(self.model.device)]


def _period(rows: Int[Tensor, "b"]) -> int:
    """After how many rows they repeat, as several edits of the same prompts do."""
    again = (rows == rows[0]).nonzero()[:, 0].tolist()
    period = again[1] if len(again) > 1 else len(rows)
    whole = len(rows) % period == 0 and bool((rows.view(-1, period) == rows[:period]).all())
    return period if whole else len(rows)
