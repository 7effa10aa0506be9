"""IOI prompts: which names in which roles, order and phrasing, and their counterfactuals."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from saebench.kinds.names.words import Words, fill, token
from saebench.models.language_model import LanguageModel

ROLES = ("io", "s", "pos")


class Case(NamedTuple):
    """One prompt before it is written out. `pos`: 0 if the indirect object is named first, else 1."""

    io: int
    s: int
    pos: int
    template: int
    place: str
    object: str


class Prompt(NamedTuple):
    tokens: list[int]
    positions: dict[str, int]


def write_prompt(case: Case, words: Words, model: LanguageModel, giver: int | None = None) -> Prompt:
    """Tokens of a case, and where its semantic positions are.

    With a `giver` that third name stands where S would be named again, and `s2` is its place.
    """
    names = (words.names[case.io], words.names[case.s])
    again = words.names[case.s if giver is None else giver]
    text = fill(words.templates[case.template], *names, case.pos == 0, case.place, case.object, again)
    tokens = model.tokens(text)
    io, s = (token(model, name) for name in names)
    first = tokens.index(s)
    second = tokens.index(token(model, again), first + 1)
    found = {"io": tokens.index(io), "s1": first, "s1+1": first + 1, "s2": second}
    return Prompt(tokens, found | {"end": len(tokens) - 1})


def split_distances(n: int, rng: np.random.Generator) -> dict[str, list[int]]:
    """Distances on the circle of n names, dealt 40 : 30 : 30; d and n − d go together, side by side."""
    folded = rng.permutation(np.arange(1, n // 2 + 1))
    fit, select = round(0.4 * len(folded)), round(0.7 * len(folded))
    parts = {"fit": folded[:fit], "select": folded[fit:select], "test": folded[select:]}
    return {
        name: list(dict.fromkeys(int(x) for d in sorted(part) for x in (d, n - d)))
        for name, part in parts.items()
    }


def draw_cases(
    n: int,
    distances: Sequence[int],
    per_name: int,
    words: Words,
    templates: Sequence[int],
    rng: np.random.Generator,
) -> list[Case]:
    """`per_name` prompts for every name as IO, and as many as S.

    Orders alternate within every (IO, S) pair: a pair comes round once every `len(distances)` turns,
    and each time in the other order. Templates occur equally often.
    """
    dealt = rng.permutation(np.arange(per_name * n) % len(templates))
    cases = []
    for turn in range(per_name):
        round_, place = divmod(turn, len(distances))
        for io in range(n):
            cases.append(
                Case(
                    io,
                    (io + distances[place]) % n,
                    (round_ + place + io) % 2,
                    templates[int(dealt[turn * n + io])],
                    words.places[int(rng.integers(len(words.places)))],
                    words.objects[int(rng.integers(len(words.objects)))],
                )
            )
    return cases


def counterfactual(
    case: Case, attribute: str, n: int, distances: Sequence[int], rng: np.random.Generator
) -> Case:
    """The same sentence with one attribute changed, its pair in the same split.

    `pos`: the order is flipped. `s`: replaced in both places. `io`: replaced.
    """
    if attribute == "pos":
        return case._replace(pos=1 - case.pos)
    now = (case.s - case.io) % n
    others = [d for d in distances if d != now]
    distance = others[int(rng.integers(len(others)))]
    if attribute == "s":
        return case._replace(s=(case.io + distance) % n)
    return case._replace(io=(case.s - distance) % n)
