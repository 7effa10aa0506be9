"""The rest of a language model as a `Readout`: edits at given sites in, answers out."""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.cache.tensors import digest
from saebench.cross_section import K, Outcome, Readout, concatenate, log_probs, reduce_logits
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
        rows = self._all() if rows is None else rows.cpu()
        queue = ([] if reference is None else [reference]) + list(edits.values())
        device, n = self.model.device, len(rows)
        distinct = Distinct.of(queue, device)
        ld = torch.empty(len(queue), n, device=device)
        top = torch.empty(len(queue), n, dtype=torch.long, device=device)
        kl = torch.empty(len(queue), n, device=device)

        scratch = Scratch()
        for at in self._pass.parts(rows, len(queue)):
            # prompts with as many distinct edits as each other share a batch
            at = at[distinct.count[at].argsort(stable=True)]
            part = rows[at]

            def work(block: slice, limit: int, at: Tensor = at, part: Tensor = part) -> None:
                prompts, where = part[block], at[block].to(device)
                slots = int(distinct.count[at[block]].max())
                batch = torch.zeros(slots, len(where), self.d_in, dtype=queue[0].dtype, device=device)
                beside = torch.arange(len(where), device=device)
                for edit, slot in zip(queue, distinct.slot[:, where], strict=True):
                    batch[slot, beside] = edit[where.to(edit.device)].to(device)
                # edits that run next to each other, sharing the clean run of few prompts
                side = max(1, limit // len(prompts))
                wanted, found = None, []
                for edited in batch.split(side):
                    logits = self._pass.logits(edited.flatten(0, 1), prompts, scratch)
                    logits = logits.unflatten(0, (len(edited), len(prompts)))
                    if reference is not None and wanted is None:
                        wanted = log_probs(logits[0])
                    found += [
                        reduce_logits(some, self.answer[prompts], self.distractor[prompts], wanted)
                        for some in logits.split(max(1, REDUCED // logits[0].numel()))
                    ]
                done, slot = concatenate(found), distinct.slot[:, where]
                ld[:, where] = done.ld.gather(0, slot)
                top[:, where] = done.top.gather(0, slot)
                if done.kl is not None:
                    kl[:, where] = done.kl.gather(0, slot)

            each = int(distinct.count[at].max())
            self.budget.in_blocks(len(part), self._pass.cost(part), work, each)

        skip = 0 if reference is None else 1
        return {key: Outcome(ld[i], top[i], kl[i] if skip else None) for i, key in enumerate(edits, skip)}

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
