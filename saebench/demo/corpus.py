"""The text that the bundled model has learned from: IOI sentences, facts about cities, and filler.

All words come from `tasks/ioi` and `tasks/ravel`; the filler uses the same words in other parts, so that a
name is not always a receiver and a city is not always a question. Sentences are drawn at random from a
seeded generator. A tenth of all unordered name pairs never meets in an IOI sentence of the corpus.
"""

import csv
import tomllib
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from random import Random
from typing import NamedTuple

ATTRIBUTES = ("country", "continent", "language")
HELD_OUT_SHARE = 0.1

# No sentence begins with a slot: every slot then has a space before it and is the same token everywhere.
# Asking for the first or the second name makes the model keep both, not only the one that was last.
POSITIONAL = (
    "When {name} and {name2} went to the {place}, the first was {name}.",
    "When {name} and {name2} went to the {place}, the second was {name2}.",
    "After {name} and {name2} met at the {place}, the first was {name}.",
    "After {name} and {name2} met at the {place}, the second was {name2}.",
    "Because {name} and {name2} liked the {place}, the first was {name}.",
    "Because {name} and {name2} liked the {place}, the second was {name2}.",
    "Today {name} and {name2} found a {object} at the {place}. The first was {name}.",
    "Today {name} and {name2} found a {object} at the {place}. The second was {name2}.",
)
FILLER = (
    "Perhaps {name} likes the {place} in {entity}.",
    "Our friend {name} told {name2} about the {object} from {entity}.",
    "The {object} at the {place} belongs to {name}.",
    "Then {name} and {name2} went to {entity}, and the {place} was closed.",
    "A {place} in {entity} sold the {object} to {name}.",
    "Today {name} found a {object} near the {place}, and {name2} liked it.",
    "We saw {name} with a {object} at the {place}.",
    "In {entity} the {place} gave a {object} to the {place}.",
    "Yesterday {name} met {name2} on a train from {entity} to {entity2}.",
    "The map shows {entity}, {entity2} and {entity3}.",
    "My teacher {name} grew up in {entity} and worked in {entity2}.",
    "Last week the {place} was full, so {name} and {name2} left.",
    "One day {name} showed {name2} and {name3} a map of {entity}.",
    "People from {entity} brought the {object} and the {object2} home.",
    "Friends of {name} met at the {place}, but {name2} was late.",
    "Children play with a {object} near the {place} of {entity}.",
    "The {object} and the {object2} were passed to {name} by {name2}.",
    "Once {name}, {name2} and {name3} had a {object} at the {place}.",
    *POSITIONAL,
)

# The first of `templates` and of `held_out`: the model learned to do IOI in these, never saw the others.
LEARNED = (8, 4)


class Prompt(NamedTuple):
    """A text that stops right before its answer. Facts have `until`, the text up to the end of the city."""

    text: str
    answer: str
    until: str = ""
    attribute: str = ""


@dataclass(frozen=True)
class Words:
    """Everything the corpus is made of, as read from the task folders."""

    names: tuple[str, ...]
    places: tuple[str, ...]
    objects: tuple[str, ...]
    cities: tuple[dict[str, str], ...]
    ioi_templates: tuple[str, ...]
    fact_templates: dict[str, dict[str, list[str]]]
    held_out: frozenset[frozenset[str]]


def tasks_folder() -> Path:
    """The folder of task data: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).parents[1]
    checkout = package.parent / "tasks"
    return checkout if checkout.is_dir() else package / "_tasks"


@cache
def words() -> Words:
    """Read names, places, objects, cities and templates from the task folders."""
    ioi, ravel = tasks_folder() / "ioi", tasks_folder() / "ravel"
    names, places, objects = (
        tuple((ioi / f"{name}.txt").read_text("utf-8").split()) for name in ("names", "places", "objects")
    )
    with (ravel / "cities.csv").open(encoding="utf-8", newline="") as table:
        cities = tuple(csv.DictReader(table))
    pairs = [frozenset(pair) for pair in combinations(names, 2)]
    sentences = tomllib.loads((ioi / "task.toml").read_text("utf-8"))
    held_out = Random("held-out pairs").sample(pairs, round(HELD_OUT_SHARE * len(pairs)))
    return Words(
        names=names,
        places=places,
        objects=objects,
        cities=cities,
        ioi_templates=(*sentences["templates"][: LEARNED[0]], *sentences["held_out"][: LEARNED[1]]),
        fact_templates=tomllib.loads((ravel / "task.toml").read_text("utf-8"))["templates"],
        held_out=frozenset(held_out),
    )


# Share of IOI sentences whose second clause has a third subject, so that either of the first two may
# receive. None here: already at a tenth the model carries the subject alone at the last token.
THREE_NAMES_SHARE = 0.0


def ioi_prompt(rng: Random, held_out: bool = False) -> Prompt:
    """An IOI prompt with its answer, over the training pairs or over the held-out ones."""
    w = words()
    while True:
        io, s = rng.sample(w.names, 2)
        if (frozenset((io, s)) in w.held_out) == held_out:
            break
    first, second = (io, s) if rng.random() < 0.5 else (s, io)
    if not held_out and rng.random() < THREE_NAMES_SHARE:
        s = rng.choice([name for name in w.names if name not in (io, s)])
    text = rng.choice(w.ioi_templates).format(
        first=first, second=second, s=s, place=rng.choice(w.places), object=rng.choice(w.objects)
    )
    return Prompt(text, f" {io}")


def fact_prompt(
    rng: Random,
    city: dict[str, str] | None = None,
    attribute: str | None = None,
    splits: tuple[str, ...] = ("fit", "test"),
) -> Prompt:
    """A question about a city, by default any city, any attribute, any phrasing."""
    w = words()
    city = rng.choice(w.cities) if city is None else city
    attribute = rng.choice(ATTRIBUTES) if attribute is None else attribute
    phrasings = [text for split in splits for text in w.fact_templates[attribute][split]]
    template = rng.choice(phrasings)
    until = template[: template.index("{city}")] + city["city"]
    return Prompt(template.format(city=city["city"]), f" {city[attribute]}", until, attribute)


def filler(rng: Random) -> str:
    """A sentence in which the words of the tasks play other parts."""
    w = words()
    name, other, third = rng.sample(w.names, 3)
    place, (thing, thing2) = rng.choice(w.places), rng.sample(w.objects, 2)
    city, city2, city3 = (row["city"] for row in rng.sample(w.cities, 3))
    return rng.choice(FILLER).format(
        name=name,
        name2=other,
        name3=third,
        place=place,
        object=thing,
        object2=thing2,
        entity=city,
        entity2=city2,
        entity3=city3,
    )


def sentence(rng: Random) -> str:
    """One sentence of the corpus: IOI 40 %, facts 42 %, filler 18 %."""
    kind = rng.random()
    if kind < 0.18:
        return filler(rng)
    prompt = ioi_prompt(rng) if kind < 0.58 else fact_prompt(rng)
    return f"{prompt.text}{prompt.answer}."
