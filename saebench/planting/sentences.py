"""Text that is trained beside the questions: sentences with slots, or another task's prompts. No torch here."""

import re
from collections import defaultdict
from functools import cached_property
from itertools import combinations
from random import Random
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

Word = Annotated[str, Field(pattern=r"^[A-Za-z]+$")]
Words = Annotated[str, Field(pattern=r"^[A-Za-z]+( [A-Za-z]+)*$")]
"""One word or several."""
ENTITY = "entity"
_SLOT = re.compile(r"\{([A-Za-z]+)(\d*)\}")
_BETWEEN = re.compile(r" \{[A-Za-z]+\d*\}")
_ANSWER = re.compile(r" \{([A-Za-z]+)(\d*)\}\.$")


class Part(BaseModel):
    """A part of a spec: read once, and without entries that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Sentence(NamedTuple):
    """One sentence. `prompt` is the text before its answer, "" where it asks nothing."""

    text: str
    prompt: str = ""


class TextSpec(Part):
    """Sentences of one kind, drawn anew at every step."""

    name: str = ""
    """What the certificate calls it; a task's own name by default."""
    share: float = Field(gt=0, lt=1)
    """Share of the training texts; what all leave is about the variables."""
    templates: tuple[str, ...] = Field(min_length=1)
    """`{name}` is a word of the list `name`, `{name2}` another one; `{entity}` an entity."""
    lists: dict[Word, tuple[Words, ...]] = {}
    answered: bool = False
    """Every template ends in its answer, a slot, and a full stop; answers weigh more than other words."""
    held_out_pairs: float = Field(default=0.0, ge=0, le=0.5)
    """Share of the pairs of words of the answer's list that never meet; the certificate asks about them."""
    slips: float = Field(default=0.0, ge=0, le=0.1)
    """Share of training's answers that are the pair's other word: where answers are read, that one then
    matters too, as in a text in which people get a thing wrong now and then."""
    at_site: bool = False
    """Whether answers are to follow from the residual that the last token has at the site."""

    @model_validator(mode="after")
    def _consistent(self) -> "TextSpec":
        for text in self.templates:
            for name, slots in slots_of(text).items():
                if name != ENTITY and len(slots) > len(self.lists.get(name, ())):
                    raise ValueError(
                        f"{text!r} asks for {len(slots)} different words of {name!r}, and `lists` has"
                        f" {len(self.lists.get(name, ()))}"
                    )
            if self.answered and not _ANSWER.search(text):
                raise ValueError(f"{text!r} is to end in its answer: a slot and a full stop")
            if (self.held_out_pairs or self.slips) and len(slots_of(text)[self._asked(text)]) != 2:
                raise ValueError(f"{text!r} names no pair: two slots of the answer's list")
        if (self.held_out_pairs or self.slips or self.at_site) and not self.answered:
            raise ValueError(
                "`held_out_pairs`, `slips` and `at_site` are for texts with answers (`answered = true`)"
            )
        if any(text.startswith("{") for text in self.templates):
            raise ValueError("a template begins with a slot; words are known with a space before them")
        return self

    def _asked(self, text: str) -> str:
        found = _ANSWER.search(text)
        return found[1] if found else ""

    @cached_property
    def apart(self) -> frozenset[frozenset[str]]:
        """The pairs that never meet in training."""
        if not self.held_out_pairs:
            return frozenset()
        pairs = [frozenset(pair) for pair in combinations(self.lists[self._asked(self.templates[0])], 2)]
        return frozenset(Random("held-out pairs").sample(pairs, round(self.held_out_pairs * len(pairs))))

    def draw(
        self, rng: Random, entities: tuple[str, ...], held_out: bool = False, slips: bool = False
    ) -> Sentence:
        """A sentence over the pairs that are trained, or over those held out; with `slips` as often as stated."""
        template = rng.choice(self.templates)
        asked = self._asked(template) if self.apart else ""
        while True:
            words = {}
            for name, slots in slots_of(template).items():
                chosen = rng.sample(entities if name == ENTITY else self.lists[name], len(slots))
                words |= dict(zip(slots, chosen, strict=True))
            if not asked:
                break
            pair = frozenset(words[slot] for slot in slots_of(template)[asked])
            if (pair in self.apart) == held_out:
                break
        text = template.format(**words)
        if not self.answered:
            return Sentence(text)
        prompt = text[: text.rindex(" ")]
        if slips and self.slips and rng.random() < self.slips:
            text = f"{prompt} {words[self._other(template)]}."
        return Sentence(text, prompt)

    def _other(self, template: str) -> str:
        """The slot of the pair that is not the answer."""
        asked = _ANSWER.search(template)
        return next(
            s for s in slots_of(template)[self._asked(template)] if asked and s != asked[1] + asked[2]
        )

    def vocabulary(self) -> list[str]:
        """Texts that between them hold every word but the entities', spelled as they are seen."""
        texts = [part for text in self.templates for part in _BETWEEN.split(text)]
        return texts + [f" {word}" for words in self.lists.values() for word in words]


def slots_of(template: str) -> dict[str, tuple[str, ...]]:
    """The slots of a template by the list they are filled from."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for name, number in _SLOT.findall(template):
        found[name][name + number] = None
    return {name: tuple(slots) for name, slots in found.items()}


def from_names(templates: tuple[str, ...]) -> tuple[str, ...]:
    """Prompts of a task of the kind *names* as such templates, its two names in either order."""
    orders = (("{name}", "{name2}"), ("{name2}", "{name}"))
    return tuple(
        text.replace("{first}", first).replace("{second}", second).replace("{s}", "{name2}") + " {name}."
        for text in templates
        for first, second in orders
    )
